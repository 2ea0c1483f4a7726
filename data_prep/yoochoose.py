"""Prepares Yoochoose (RecSys Challenge 2015) for tron_jax.

python -m data_prep.yoochoose --raw=yoochoose-clicks.dat --out=DIR [--skip_bad_rows]

The file may be compressed by gzip. Test is the last day: sessions whose last event is
at or after the latest start of a session minus 86,400 s. The steps are those of the
paper; DIR gets the format of data_prep/FORMAT.md.
"""

import sys
from pathlib import Path

from absl import flags

from data_prep import log_program
from data_prep.pipeline.filtering import Filters
from data_prep.pipeline.preparation import Recipe, print_summary
from data_prep.pipeline.split import SplitRule
from data_prep.reading.public_csv import Yoochoose
from tron_jax.console.program import run

RECIPE = Recipe(
    "yoochoose",
    Filters(),
    SplitRule("last", "start", 1),
    {"kind": "last_days", "days": 1, "judged": "last", "latest": "start"},
)


def define_flags() -> flags.FlagValues:
    """Builds the program's flags, apart from those of other programs."""
    return log_program.define_flags("yoochoose-clicks.dat, gzip or not")


def main(values: flags.FlagValues) -> None:
    """Reads, filters, splits, numbers and writes the log."""
    source = log_program.Source([Path(values.raw)], Yoochoose, 36, RECIPE)
    done = log_program.prepare_files(source, values)
    print_summary(done.finished, "yoochoose")


if __name__ == "__main__":
    sys.exit(run(main, define_flags()))
