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

from absl import flags

from data_prep.pipeline.filtering import Filters
from data_prep.pipeline.preparation import Recipe, print_summary
from data_prep.pipeline.split import SplitRule
from data_prep.programs.log_program import (
    LOG_SIZES,
    LogSizes,
    add_column_flags,
    add_flags,
    columns_of,
    prepare_logs,
)
from data_prep.reading.formats import open_log
from tron_jax.console.program import run
from tron_jax.errors import UserError
from tron_jax.files import local_path

_MOST_DAYS = 10_000 * 366  # from 1970 to the year 9999 and more


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
    add_column_flags(values)
    flags.DEFINE_integer(
        "min_item_support", 5, "events an item needs", 1, flag_values=values
    )
    flags.DEFINE_integer(
        "min_session_length", 2, "events a session needs", 2, flag_values=values
    )
    add_flags(values)
    return values


def main(values: flags.FlagValues, sizes: LogSizes = LOG_SIZES) -> None:
    """Reads, filters, splits, numbers and writes a log."""
    _check(values)
    columns = columns_of(values)
    paths = {"train": values.train, "test": values.test}
    logs = {
        role: open_log(local_path(path, any_name=True), columns, sizes.read)
        for role, path in paths.items()
        if path is not None
    }
    print_summary(prepare_logs(logs, _recipe(values), values, sizes))


def _check(values: flags.FlagValues) -> None:
    """Refuses flags that do not go together, before anything is read."""
    days = values.test_days
    if values.test is not None and days is not None:
        raise UserError("--test and --test_days: expected one of them, not both")
    if days is not None and not 0 < days < _MOST_DAYS:
        raise UserError(f"--test_days={days}: expected a number of days above 0")
    if days is not None and values.time is None:
        raise UserError("--test_days needs --time, the column of the events' times")


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
