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

from data_prep import steps
from data_prep.columns import TIME_UNITS
from data_prep.console import Progress, warn
from data_prep.entry import run
from data_prep.errors import UserError
from data_prep.paper import Counted, Filters, prepare
from data_prep.readers import Columns, Log, describe_source, read_log
from data_prep.report import print_counts
from data_prep.writer import Split, new_folder, refuse_taken, write_prepared


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
        train, test, sources = _read(values, progress)
        filters = Filters(values.min_session_length, values.min_item_support)
        progress.stage("filtering and sorting")
        kept, held, counts = prepare(
            train.events,
            None if test is None else test.events,
            filters,
            values.test_days,
        )
        parts = (steps.arrange(kept), steps.arrange(held))
        train_part, test_part, codes = steps.number_items(*parts)
        test_ids = train.session_ids if test is None else test.session_ids
        progress.stage(f"writing {out}")
        with new_folder(out) as folder:
            stats = write_prepared(
                folder,
                _split(train_part, train.session_ids),
                _split(test_part, test_ids),
                train.item_ids.take(codes),
                _about(values, filters, counts, sources),
            )
    finally:
        progress.close()
    for count in counts:
        print(
            f"{count.step}: {count.sessions:,} sessions, {count.events:,} events, "
            f"{count.items:,} items"
        )
    print_counts(stats)
    if not len(test_part.sessions):
        warn("the test part is empty: training will run without evaluation")


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
) -> tuple[Log, Log | None, list[dict[str, object]]]:
    """Reads the log or its two parts, and describes the files they came from."""
    columns = Columns(values.session, values.item, values.time, values.order)
    logs = {}
    sources = []
    for role in ("train", "test"):
        name = getattr(values, role)
        if name is None:
            continue
        path = Path(name)
        progress.stage(f"reading {path}")
        logs[role] = read_log(path, columns, values.time_unit)
        if role == "train" and not logs[role].events.num_rows:
            raise UserError(f"{path}: no rows; expected one row an event")
        progress.stage(f"hashing {path}")
        sources += describe_source(path, role)
    train, test = logs["train"], logs.get("test")
    if test is not None:
        train, test = steps.share_items(train, test)
    return train, test, sources


def _split(part: steps.Arranged, session_ids: pa.Array) -> Split:
    ids = session_ids.take(part.sessions)
    return Split(part.items, part.offsets, ids, part.start_time)


def _about(
    values: flags.FlagValues,
    filters: Filters,
    counts: list[Counted],
    sources: list[dict[str, object]],
) -> dict[str, object]:
    """Says in stats.json how the set was made."""
    split: dict[str, object] = {"kind": "none"}
    if values.test is not None:
        split = {"kind": "given"}
    elif values.test_days is not None:
        split = {"kind": "last_days", "days": values.test_days}
    return {
        "name": "events",
        "filters": {**filters._asdict(), "steps": [c._asdict() for c in counts]},
        "split": split,
        "sources": sources,
    }


if __name__ == "__main__":
    sys.exit(run(main, define_flags()))
