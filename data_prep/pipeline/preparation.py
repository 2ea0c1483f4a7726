"""From a log in parts to a written set, and what is printed of it in the end."""

import shutil
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from data_prep.clicks.batches import plain_ids
from data_prep.pipeline.filtering import Filters, StepCount, filter_and_split
from data_prep.pipeline.merging import ItemNumbers, Merger
from data_prep.pipeline.parts import Log
from data_prep.pipeline.spans import Spans
from data_prep.pipeline.split import SplitRule
from data_prep.prepared.report import print_counts
from data_prep.prepared.sessions_writer import SessionsWriter
from data_prep.prepared.writer import write_prepared
from tron_jax.console.messages import say, warn
from tron_jax.console.stages import Stages


class Recipe(NamedTuple):
    """How a set is made, as stats.json describes it.

    rule: which sessions become test where the log has no test part; split: the same in
    words, or where else the test part is from.
    """

    name: str
    filters: Filters
    rule: SplitRule | None
    split: dict[str, object]


class PreparedSet(NamedTuple):
    """A set that is written: its stats.json, and what each step left.

    spans: of the sessions as they were read.
    """

    stats: dict[str, Any]
    counts: list[StepCount]
    spans: Spans


def prepare_set(
    folder: Path,
    log: Log,
    recipe: Recipe,
    sources: list[dict[str, object]],
    stages: Stages,
) -> PreparedSet:
    """Prepares a log that was read and writes the set.

    Args:
      folder: where the set goes; ``log.folder`` is in it and is removed.
      log: the raw log, which is used up.
      recipe: what to do with it.
      sources: the raw files, as stats.json describes them.
      stages: shows what is being done.

    Raises:
      UserError: if too little is left of the log, or too much for the format.
    """
    num_parts = len(log.train)
    with (
        closing(Merger(log.folder, "train", num_parts)) as train,
        closing(Merger(log.folder, "test", num_parts)) as test,
        closing(SessionsWriter(folder, "train")) as train_writer,
        closing(SessionsWriter(folder, "test")) as test_writer,
    ):
        stages.stage("filtering and sorting")
        counts, spans = filter_and_split(
            log, recipe.filters, recipe.rule, train, test, stages
        )
        number = ItemNumbers(len(log.items))
        for merger, writer in ((train, train_writer), (test, test_writer)):
            stages.stage("putting sessions in order")
            merger.merge(writer, number, stages)
            merger.close()
        shutil.rmtree(log.folder)
        pa.default_memory_pool().release_unused()
        stages.stage("writing the set")
        assert log.items.ids is not None
        raw_ids = plain_ids(log.items.ids).take(pa.array(number.codes()))
        steps = [count._asdict() for count in counts]
        about: dict[str, object] = {
            "name": recipe.name,
            "filters": {**recipe.filters._asdict(), "steps": steps},
            "split": recipe.split,
            "sources": sources,
        }
        stats = write_prepared(folder, train_writer, test_writer, raw_ids, about)
    return PreparedSet(stats, counts, spans)


def print_summary(prepared: PreparedSet, paper: str | None = None) -> None:
    """Prints what each step left and the set's counts, as ``print_counts`` does."""
    print_steps(prepared.counts)
    print_counts(prepared.stats, paper)
    if not prepared.stats["test"]["sessions"]:
        warn("the test part is empty: training will run without evaluation")


def print_steps(counts: Sequence[StepCount]) -> None:
    """Prints what each step left."""
    for count in counts:
        say(
            f"{count.step}: {count.sessions:,} sessions, {count.events:,} events, "
            f"{count.items:,} items"
        )
