"""From a log in parts to a finished prepared set: what all log programs end with."""

import shutil
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from data_prep.clicks.batches import plain_ids
from data_prep.console import Progress
from data_prep.pipeline.merging import ItemNumbers, Merger
from data_prep.pipeline.preparation import Counted, Filters, Log, prepare
from data_prep.pipeline.steps import SplitRule
from data_prep.prepared.report import print_counts
from data_prep.prepared.split_stream import SplitStream
from data_prep.prepared.writer import write_prepared
from tron_jax.console.messages import warn


class Recipe(NamedTuple):
    """How a set is made, as stats.json tells it.

    rule: which sessions become test where the log has no test part; split: the same in
    words, or where else the test part is from.
    """

    name: str
    filters: Filters
    rule: SplitRule | None
    split: dict[str, object]


class Finished(NamedTuple):
    """A set that is written: stats.json, and what each step left."""

    stats: dict[str, object]
    counts: list[Counted]
    test_sessions: int


def work_folder(folder: Path) -> Path:
    """Makes the folder of temporary files in the one being written."""
    work = folder / "parts"
    work.mkdir()
    return work


def finish(
    folder: Path,
    log: Log,
    recipe: Recipe,
    sources: list[dict[str, object]],
    progress: Progress,
) -> Finished:
    """Prepares a log that was read and writes the set.

    Args:
      folder: where the set goes; ``log.folder`` is in it and is removed.
      log: the raw log, which is used up.
      recipe: what to do with it.
      sources: the raw files.
      progress: told of each stage.

    Returns:
      What was written.
    """
    parts = len(log.train)
    train, test = (Merger(log.folder, name, parts) for name in ("train", "test"))
    streams = [SplitStream(folder, name) for name in ("train", "test")]
    try:
        progress.stage("filtering and sorting")
        counts = prepare(log, recipe.filters, recipe.rule, train, test, progress)
        number = ItemNumbers(len(log.items))
        splits = []
        for merger, stream in zip((train, test), streams, strict=True):
            progress.stage("putting sessions in order")
            merger.merge(stream, number, progress)
            merger.close()
            splits.append(stream.finish())
        shutil.rmtree(log.folder)
        pa.default_memory_pool().release_unused()
        progress.stage("writing and hashing the set")
        assert log.items.ids is not None
        raw_ids = plain_ids(log.items.ids).take(pa.array(number.codes()))
        about: dict[str, object] = {
            "name": recipe.name,
            "filters": {
                **recipe.filters._asdict(),
                "steps": [c._asdict() for c in counts],
            },
            "split": recipe.split,
            "sources": sources,
        }
        stats = write_prepared(folder, splits[0], splits[1], raw_ids, about)
    finally:
        for open_one in (train, test, *streams):
            open_one.close()
    return Finished(stats, counts, len(splits[1].ids))


def tell(finished: Finished, paper: str | None = None) -> None:
    """Prints what each step left and the set's counts, Table 1's row beside them."""
    for count in finished.counts:
        print(
            f"{count.step}: {count.sessions:,} sessions, {count.events:,} events, "
            f"{count.items:,} items"
        )
    print_counts(finished.stats, paper)
    if not finished.test_sessions:
        warn("the test part is empty: training will run without evaluation")
