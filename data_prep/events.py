"""Prepares anybody's click log for tron_jax.

python -m data_prep.events --train=LOG [--test=LOG | --test_days=N] --out=DIR
    --session=COL[,COL] --item=COL [--time=COL] [--order=COL] [--session_gap=SECONDS]
    --min_item_support=5 --min_session_length=2 [--skip_bad_rows] [--dry_run]
    [--time_unit=s|ms|us|ns] [--time_format=%d.%m.%Y %H:%M:%S] [--allow_odd_times]
    [--delimiter=;] [--quoted_newlines]

LOG is CSV (.csv, .tsv, .txt), JSON lines (.jsonl, .ndjson, .json) or Parquet
(.parquet): a file, a folder or a pattern such as 'd/*.csv.gz'; the flag may be given
several times. A column such as item.id lies in another. The steps are those of the
paper; DIR gets the format of data_prep/FORMAT.md, and data_prep/LOGS.md has examples. A
row of text is a line; rows are counted from 1, the header of a CSV file and blank lines
among them.
"""

import functools
import sys

from absl import flags

from data_prep.pipeline.filtering import Filters
from data_prep.pipeline.parts import Log
from data_prep.pipeline.preparation import Recipe, print_summary
from data_prep.pipeline.split import SplitRule
from data_prep.programs.log_program import (
    LOG_SIZES,
    LogSizes,
    add_column_flags,
    add_flags,
    form_of,
    gap_of,
    open_places,
    prepare_logs,
)
from data_prep.programs.odd_sessions import doubts_about
from data_prep.programs.odd_times import find_odd_times
from data_prep.programs.rehearsal import rehearse
from data_prep.reading.bad_rows import BadRows
from data_prep.reading.places import list_files
from data_prep.reading.times import TimeForm
from tron_jax.console.messages import warn
from tron_jax.console.program import run
from tron_jax.errors import UserError
from tron_jax.files import local_path

_MOST_DAYS = 10_000 * 366  # from 1970 to the year 9999 and more


def define_flags() -> flags.FlagValues:
    """Builds the program's flags, apart from those of other programs."""
    values = flags.FlagValues()

    def text(name: str, meaning: str, required: bool = False) -> None:
        flags.DEFINE_string(name, None, meaning, values, required=required)

    flags.DEFINE_multi_string(
        "train",
        None,
        "the click log, or its train part if there is --test; several are one log",
        values,
        required=True,
    )
    flags.DEFINE_multi_string("test", None, "the test part, split off before", values)
    flags.DEFINE_float(
        "test_days",
        None,
        "days; test = sessions whose last event is at or after the latest event minus "
        "these",
        flag_values=values,
    )
    flags.DEFINE_bool(
        "allow_odd_times",
        False,
        "split by --test_days even where the latest times are in 1970, or far off",
        flag_values=values,
    )
    text("out", "folder to write; must be new or empty")
    flags.DEFINE_bool(
        "dry_run",
        False,
        "write nothing; say how the first million rows are understood, what is left of "
        "them, and what the whole takes",
        flag_values=values,
    )
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
    form = form_of(values)
    _refuse_in_both(values)
    logs = {
        role: open_places(places, form, sizes)
        for role, places in (("train", values.train), ("test", values.test))
        if places is not None
    }
    check = functools.partial(_check_times, values, form.columns.time_form)
    recipe = _recipe(values)
    if values.dry_run:
        prepared = rehearse(logs, recipe, values, check)
    else:
        prepared = prepare_logs(logs, recipe, values, sizes, check)
        print_summary(prepared)
    for doubt in doubts_about(prepared.spans):
        warn(doubt)


def _check(values: flags.FlagValues) -> None:
    """Refuses flags that do not go together, before anything is read."""
    days = values.test_days
    if values.out is None and not values.dry_run:
        raise UserError("--out: expected a folder to write, new or empty")
    if values.test is not None and days is not None:
        raise UserError("--test and --test_days: expected one of them, not both")
    if days is not None and not 0 < days < _MOST_DAYS:
        raise UserError(f"--test_days={days}: expected a number of days above 0")
    gap_of(values)
    if days is not None and values.time is None:
        raise UserError("--test_days needs --time, the column of the events' times")


def _refuse_in_both(values: flags.FlagValues) -> None:
    """Refuses a file of train that is one of test."""
    train, test = (
        {
            file.path.resolve(): file.path
            for place in places or ()
            for file in list_files(local_path(place, any_name=True))
        }
        for places in (values.train, values.test)
    )
    for path in train.keys() & test.keys():
        raise UserError(f"--test: {test[path]} is in --train; expected other clicks")


def _check_times(
    values: flags.FlagValues, form: TimeForm, log: Log, bad: BadRows
) -> None:
    """Refuses to split by times that can hardly be meant, and remarks others."""
    for parts in filter(None, (log.train, log.test)):
        odd = find_odd_times(parts.days, form)
        if odd is None:
            continue
        if (values.test_days or 0) > odd.most_days and not values.allow_odd_times:
            what = "--test_days would split by them (--allow_odd_times lets it)"
            raise UserError(f"column {values.time!r}: {odd.problem}; {what}")
        bad.remark(f"column {values.time!r}", odd.problem)


def _recipe(values: flags.FlagValues) -> Recipe:
    """Says what is to be done."""
    filters = Filters(values.min_session_length, values.min_item_support)
    rule = None
    split: dict[str, object] = {"kind": "none"}
    if values.test is not None:
        split = {"kind": "given"}
    elif values.test_days is not None:
        split = {"kind": "last_days", "days": values.test_days}
        rule = SplitRule("last", "event", values.test_days, "--test_days")
    return Recipe("events", filters, rule, split)


if __name__ == "__main__":
    sys.exit(run(main, define_flags()))
