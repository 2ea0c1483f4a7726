"""Prepares Diginetica (CIKM Cup 2016, track 2) for tron_jax.

python -m data_prep.diginetica --raw=train-item-views.csv --out=DIR [--skip_bad_rows]

The file may be compressed by gzip. An event's time is its eventdate plus timeframe
milliseconds. Test is the last week: sessions whose first event is at or after the
midnight of the latest session's first day minus 7 days (UTC). The steps are those of
the paper; DIR gets the format of data_prep/FORMAT.md.
"""

import sys
from pathlib import Path

from absl import flags

from data_prep import log_program
from data_prep.pipeline.filtering import Filters
from data_prep.pipeline.preparation import Recipe, print_summary
from data_prep.pipeline.split import SplitRule
from data_prep.reading.public_csv import Diginetica
from tron_jax.console.program import run

RECIPE = Recipe(
    "diginetica",
    Filters(),
    SplitRule("first", "day", 7),
    {"kind": "last_days", "days": 7, "judged": "first", "latest": "day"},
)


def define_flags() -> flags.FlagValues:
    """Builds the program's flags, apart from those of other programs."""
    return log_program.define_flags("train-item-views.csv, gzip or not")


def main(values: flags.FlagValues) -> None:
    """Reads, filters, splits, numbers and writes the log."""
    source = log_program.Source([Path(values.raw)], Diginetica, 28, RECIPE)
    done = log_program.prepare_files(source, values)
    print_summary(done.finished, "diginetica")


if __name__ == "__main__":
    sys.exit(run(main, define_flags()))
