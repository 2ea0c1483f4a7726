"""Prepares anybody's click log for tron_jax.

python -m data_prep.events --train=FILE [--test=FILE | --test_days=N] --out=DIR
    --session=COL --item=COL [--time=COL] [--order=COL]
    --min_item_support=5 --min_session_length=2 [--time_unit=s|ms]

FILE is CSV (.csv, .tsv), JSON lines (.jsonl, .ndjson, .json), Parquet (.parquet), or a
folder of Parquet files. The steps are those of the paper; DIR gets the format of
data_prep/FORMAT.md. Rows are counted with the header of a CSV file as row 1 and without
blank lines.
"""

import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
from absl import flags

from data_prep.columns import TIME_UNITS
from data_prep.console import Progress
from data_prep.entry import run
from data_prep.errors import UserError
from data_prep.finishing import Recipe, finish, tell, work_folder
from data_prep.parts import Batch, ItemCodes, Parts
from data_prep.preparation import Filters, Log
from data_prep.readers import Columns, describe_source, read_log
from data_prep.steps import SplitRule
from data_prep.writer import new_folder, refuse_taken


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
    return values


def main(values: flags.FlagValues) -> None:
    """Reads, filters, splits, numbers and writes a log."""
    _check(values)
    out = Path(values.out)
    refuse_taken(out)
    progress = Progress()
    try:
        logs, sources = _read(values, progress)
        with new_folder(out) as folder:
            log = _in_parts(logs, work_folder(folder))
            logs.clear()
            finished = finish(folder, log, _recipe(values), sources, progress)
    finally:
        progress.close()
    tell(finished)


def _check(values: flags.FlagValues) -> None:
    """Refuses flags that do not go together, before anything is read."""
    days = values.test_days
    if values.test is not None and days is not None:
        raise UserError("--test and --test_days: expected one of them, not both")
    if days is not None and not (np.isfinite(days) and days > 0):
        raise UserError(f"--test_days={days}: expected a number of days above 0")
    if days is not None and values.time is None:
        raise UserError("--test_days needs --time, the column of the events' times")


def _read(
    values: flags.FlagValues, progress: Progress
) -> tuple[list[Batch], list[dict[str, object]]]:
    """Reads the log or its two parts, and describes the files they came from."""
    columns = Columns(values.session, values.item, values.time, values.order)
    logs = []
    sources = []
    for role in ("train", "test"):
        name = getattr(values, role)
        if name is None:
            continue
        path = Path(name)
        progress.stage(f"reading {path}")
        logs.append(read_log(path, columns, values.time_unit))
        if role == "train" and not len(logs[0].session):
            raise UserError(f"{path}: no rows; expected one row an event")
        progress.stage(f"hashing {path}")
        sources += describe_source(path, role)
    return logs, sources


def _in_parts(logs: list[Batch], folder: Path) -> Log:
    """Gives the log and its test part the same item codes."""
    items = ItemCodes()
    text = any(pa.types.is_string(log.item.type) for log in logs)
    parts = []
    for name, log in zip(("train", "test"), logs, strict=False):
        several = Parts(items, folder, name, 1)
        if len(log.session):
            item = log.item.cast(pa.string()) if text else log.item
            several.append(log._replace(item=item))
        parts.append(several)
    return Log(parts[0], parts[1] if len(parts) > 1 else None, items, folder)


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
