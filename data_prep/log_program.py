"""What the programs for the paper's three logs have in common."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from absl import flags

from data_prep.pipeline.disk import require_space, rows_need
from data_prep.pipeline.parts import ItemCodes, Log, PartPlan, Parts, plan_parts
from data_prep.pipeline.preparation import (
    PreparedSet,
    Recipe,
    prepare_set,
    work_folder,
)
from data_prep.reading.public_logs import (
    BadRows,
    Format,
    TextIdsError,
    check_head,
    read_clicks,
)
from data_prep.reading.text_files import RawFile
from tron_jax.console.stages import Stages
from tron_jax.files import new_folder, refuse_taken


class Source(NamedTuple):
    """Raw files of one format and how they are prepared.

    files: train, and test where it is apart; form: makes a reader of one file;
    row_bytes: the least that a row of the file takes, about.
    """

    files: Sequence[Path]
    form: Callable[[], Format]
    row_bytes: int
    recipe: Recipe


class Prepared(NamedTuple):
    """What was done: the written set, the reader of each file, and bad rows."""

    finished: PreparedSet
    forms: list[Format]
    bad: BadRows


def define_flags(raw: str) -> flags.FlagValues:
    """Builds the flags of a program for one raw format."""
    values = flags.FlagValues()
    flags.DEFINE_string("raw", None, raw, values, required=True)
    flags.DEFINE_string(
        "out", None, "folder to write; must be new or empty", values, required=True
    )
    add_flags(values)
    return values


def add_flags(values: flags.FlagValues) -> None:
    """Adds the flags of every program that reads a log."""
    flags.DEFINE_bool(
        "skip_bad_rows",
        False,
        "leave malformed rows out and count them, instead of stopping at the first",
        flag_values=values,
    )
    flags.DEFINE_string(
        "timings", None, "JSON file to write each stage's time and memory to", values
    )


def prepare_files(source: Source, values: flags.FlagValues) -> Prepared:
    """Reads raw files, prepares them and writes the set.

    Args:
      source: the files and their format.
      values: the program's flags.

    Returns:
      What was done.
    """
    out = Path(values.out)
    skip_bad_rows = values.skip_bad_rows
    refuse_taken(out)
    raws = [RawFile(path) for path in source.files]
    for raw in raws:
        check_head(raw, source.form())
    rows = sum(raw.plain_size for raw in raws) // source.row_bytes
    plan = plan_parts(rows)
    require_space(out, rows_need(rows))
    progress = Stages(timed=values.timings is not None)
    try:
        with new_folder(out) as folder:
            work = work_folder(folder)
            try:
                log, forms, bad = _read(source, work, plan, skip_bad_rows, progress)
            except TextIdsError:  # rare: read everything once more, ids as text
                shutil.rmtree(work)
                work = work_folder(folder)
                log, forms, bad = _read(
                    source, work, plan, skip_bad_rows, progress, text=True
                )
            described = [
                raw.describe(role)
                for raw, role in zip(log.raws, ("train", "test"), strict=False)
            ]
            finished = prepare_set(folder, log.log, source.recipe, described, progress)
        if values.timings is not None:
            progress.write_timings(Path(values.timings), finished.counts[0].events)
    finally:
        progress.close()
    bad.tell()
    return Prepared(finished, forms, bad)


class _Read(NamedTuple):
    log: Log
    raws: list[RawFile]


def _read(
    source: Source,
    work: Path,
    plan: PartPlan,
    skip_bad_rows: bool,
    progress: Stages,
    text: bool = False,
) -> tuple[_Read, list[Format], BadRows]:
    """Reads all files into parts."""
    items = ItemCodes()
    bad = BadRows(skip_bad_rows)
    raws = [RawFile(path) for path in source.files]
    forms, parts = [], []
    for name, raw in zip(("train", "test"), raws, strict=False):
        progress.stage(f"reading {raw.path}")
        form = source.form()
        several = Parts(items, work, name, plan)
        try:
            for batch in read_clicks(raw, form, bad, text, progress):
                if len(batch.session):
                    several.append(batch)
        finally:
            several.close()
        forms.append(form)
        parts.append(several)
    log = Log(parts[0], parts[1] if len(parts) > 1 else None, items, work)
    return _Read(log, raws), forms, bad
