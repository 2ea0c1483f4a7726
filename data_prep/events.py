"""Prepares anybody's click log for tron_jax.

python -m data_prep.events --train=FILE [--test=FILE | --test_days=N] --out=DIR
    --session=COL --item=COL [--time=COL] [--order=COL]
    --min_item_support=5 --min_session_length=2 [--time_unit=s|ms] [--skip_bad_rows]

FILE is CSV (.csv, .tsv), JSON lines (.jsonl, .ndjson, .json), Parquet (.parquet), or a
folder of Parquet files. The steps are those of the paper; DIR gets the format of
data_prep/FORMAT.md. A row of text is a line; rows are counted from 1, the header of a
CSV file and blank lines among them.
"""

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from absl import flags

from data_prep.clicks.batches import ClickBatch
from data_prep.log_program import add_flags
from data_prep.pipeline.disk import require_space, rows_need
from data_prep.pipeline.filtering import Filters
from data_prep.pipeline.parts import ItemCodes, Log, PartPlan, Parts, plan_parts
from data_prep.pipeline.preparation import (
    PreparedSet,
    Recipe,
    prepare_set,
    print_summary,
    work_folder,
)
from data_prep.pipeline.split import SplitRule
from data_prep.reading.columns import TIME_UNITS
from data_prep.reading.formats import open_log
from data_prep.reading.public_logs import BadRows
from data_prep.reading.tables import Columns
from tron_jax.console.program import run
from tron_jax.console.stages import Stages
from tron_jax.errors import UserError
from tron_jax.files import new_folder, refuse_taken


def define_flags() -> flags.FlagValues:
    """Builds the program's flags, apart from those of other programs."""
    values = flags.FlagValues()

    def text(name: str, meaning: str, required: bool = False) -> None:
        flags.DEFINE_string(name, None, meaning, values, required=required)

    text("train", "the click log, or its train part if there is --test", True)
    text("test", "the test part, split off before")
    flags.DEFINE_float(
        "test_days",
        None,
        "days; test = sessions whose last event is at or after the latest event minus "
        "these",
        flag_values=values,
    )
    text("out", "folder to write; must be new or empty", True)
    text("session", "column of the session's id", True)
    text("item", "column of the item's id", True)
    text("time", "column of the event's time: numbers since 1970, or timestamps")
    text("order", "column that orders the events of a session; the time if not given")
    flags.DEFINE_enum(
        "time_unit", "s", list(TIME_UNITS), "unit of numeric times", values
    )
    flags.DEFINE_integer(
        "min_item_support", 5, "events an item needs", 1, flag_values=values
    )
    flags.DEFINE_integer(
        "min_session_length", 2, "events a session needs", 2, flag_values=values
    )
    add_flags(values)
    return values


def main(values: flags.FlagValues) -> None:
    """Reads, filters, splits, numbers and writes a log."""
    _check(values)
    out = Path(values.out)
    refuse_taken(out)
    paths = _paths(values)
    progress = Stages(timed=values.timings is not None)
    bad = BadRows(values.skip_bad_rows)
    try:
        finished = _prepare(values, paths, out, bad, progress)
        if values.timings is not None:
            progress.write_timings(Path(values.timings), finished.counts[0].events)
    finally:
        progress.close()
        bad.tell()
    print_summary(finished)


def _prepare(
    values: flags.FlagValues,
    paths: dict[str, Path],
    out: Path,
    bad: BadRows,
    progress: Stages,
) -> PreparedSet:
    """Prepares a log in parts, reading it in batches."""
    opened = {
        role: open_log(path, _columns(values), values.time_unit)
        for role, path in paths.items()
    }
    rows = sum(log.rows for log in opened.values())
    plan = plan_parts(rows)
    require_space(out, rows_need(rows, max(log.id_bytes for log in opened.values())))
    text = any(log.text_ids[1] for log in opened.values())
    logs = {
        role: log.batches((log.text_ids[0], text), bad, progress)
        for role, log in opened.items()
    }
    with new_folder(out) as folder:
        log = _in_parts(logs, paths, work_folder(folder), plan, progress)
        progress.stage("hashing what was read")
        sources = [
            source for role, one in opened.items() for source in one.describe(role)
        ]
        return prepare_set(folder, log, _recipe(values), sources, progress)


def _paths(values: flags.FlagValues) -> dict[str, Path]:
    names = {"train": values.train, "test": values.test}
    return {role: Path(name) for role, name in names.items() if name is not None}


def _columns(values: flags.FlagValues) -> Columns:
    return Columns(values.session, values.item, values.time, values.order)


def _check(values: flags.FlagValues) -> None:
    """Refuses flags that do not go together, before anything is read."""
    days = values.test_days
    if values.test is not None and days is not None:
        raise UserError("--test and --test_days: expected one of them, not both")
    if days is not None and not (np.isfinite(days) and days > 0):
        raise UserError(f"--test_days={days}: expected a number of days above 0")
    if days is not None and values.time is None:
        raise UserError("--test_days needs --time, the column of the events' times")


def _in_parts(
    logs: Mapping[str, Iterable[ClickBatch]],
    paths: dict[str, Path],
    folder: Path,
    plan: PartPlan,
    progress: Stages,
) -> Log:
    """Gives the log and its test part the same item codes."""
    items = ItemCodes()
    parts = {}
    for role, batches in logs.items():
        parts[role] = Parts(items, folder, role, plan)
        progress.stage(f"reading {paths[role]}")
        try:
            for batch in batches:
                if len(batch.session):
                    parts[role].append(batch)
        finally:
            parts[role].close()
        if role == "train" and not parts[role].rows:
            raise UserError(f"{paths[role]}: no rows; expected one row an event")
    return Log(parts["train"], parts.get("test"), items, folder)


def _recipe(values: flags.FlagValues) -> Recipe:
    """Says what is to be done."""
    filters = Filters(values.min_session_length, values.min_item_support)
    rule = None
    split: dict[str, object] = {"kind": "none"}
    if values.test is not None:
        split = {"kind": "given"}
    elif values.test_days is not None:
        split = {"kind": "last_days", "days": values.test_days}
        rule = SplitRule("last", "event", values.test_days)
    return Recipe("events", filters, rule, split)


if __name__ == "__main__":
    sys.exit(run(main, define_flags()))
