"""Prepares Yoochoose (RecSys Challenge 2015) for tron_jax.

python -m data_prep.yoochoose --raw=yoochoose-clicks.dat --out=DIR [--skip_bad_rows]

The file may be compressed by gzip. Test is the last day: sessions whose last event is
at or after the latest start of a session minus 86,400 s. The steps are those of the
paper; DIR gets the format of data_prep/FORMAT.md.
"""

import functools
import sys

from absl import flags

from data_prep.pipeline.preparation import print_summary
from data_prep.programs import public_sets
from data_prep.programs.log_program import LOG_SIZES, LogSizes
from tron_jax.console.program import run

define_flags = functools.partial(public_sets.define_flags, "yoochoose")


def main(values: flags.FlagValues, sizes: LogSizes = LOG_SIZES) -> None:
    """Reads, filters, splits, numbers and writes the log."""
    finished, _ = public_sets.prepare("yoochoose", values, sizes)
    print_summary(finished, "yoochoose")


if __name__ == "__main__":
    sys.exit(run(main, define_flags()))
