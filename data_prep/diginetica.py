"""Prepares Diginetica (CIKM Cup 2016, track 2) for tron_jax.

python -m data_prep.diginetica --raw=train-item-views.csv --out=DIR [--skip_bad_rows]

The file may be compressed by gzip. An event's time is its eventdate plus timeframe
milliseconds. Test is the last week: sessions whose first event is at or after the
midnight of the latest session's first day minus 7 days (UTC). The steps are those of
the paper; DIR gets the format of data_prep/FORMAT.md.
"""

import functools
import sys

from absl import flags

from data_prep.pipeline.preparation import print_summary
from data_prep.programs import public_sets
from data_prep.programs.log_program import LOG_SIZES, LogSizes
from tron_jax.console.program import run

define_flags = functools.partial(public_sets.define_flags, "diginetica")


def main(values: flags.FlagValues, sizes: LogSizes = LOG_SIZES) -> None:
    """Reads, filters, splits, numbers and writes the log."""
    finished, _ = public_sets.prepare("diginetica", values, sizes)
    print_summary(finished, "diginetica")


if __name__ == "__main__":
    sys.exit(run(main, define_flags()))
