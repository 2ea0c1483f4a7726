"""Prepares OTTO (github.com/otto-de/recsys-dataset) for tron_jax.

python -m data_prep.otto --raw=DIR_WITH_THE_TWO_JSONL --out=DIR [--skip_bad_rows]

The folder holds otto-recsys-train.jsonl and otto-recsys-test.jsonl, each compressed by
gzip (.gz) or not. Only clicks are kept, and sessions of at least two; there is no
filter of rare items, and the split is OTTO's own. Test items that train lacks are
dropped. DIR gets the format of data_prep/FORMAT.md.
"""

import functools
import sys

from absl import flags

from data_prep.pipeline.preparation import print_summary
from data_prep.programs import public_sets
from data_prep.programs.log_program import LOG_SIZES, LogSizes
from data_prep.reading.otto_jsonl import OttoLog
from tron_jax.console.messages import say, warn
from tron_jax.console.program import run

_EVENT_TYPES = ("clicks", "carts", "orders")

define_flags = functools.partial(public_sets.define_flags, "otto")


def main(values: flags.FlagValues, sizes: LogSizes = LOG_SIZES) -> None:
    """Reads, filters, numbers and writes the log."""
    finished, logs = public_sets.prepare("otto", values, sizes)
    for log in logs.values():
        assert isinstance(log, OttoLog)
        _print_left_out(log)
    read, long = finished.counts[:2]
    say(f"sessions of one click left out: {read.sessions - long.sessions:,}")
    print_summary(finished, "otto")


def _print_left_out(log: OttoLog) -> None:
    others = ", ".join(f"{count:,} {kind}" for kind, count in log.other_events.items())
    say(
        f"{log.path.name}: {log.sessions:,} sessions, {log.empty:,} without events, "
        f"{log.unclicked:,} more without clicks; left out: {others or 'no event'}"
    )
    unknown = {t: n for t, n in log.other_events.items() if t not in _EVENT_TYPES}
    if unknown:
        kinds = ", ".join(f"{count:,} {kind!r}" for kind, count in unknown.items())
        warn(f"{log.path}: events of unknown type left out: {kinds}")


if __name__ == "__main__":
    sys.exit(run(main, define_flags()))
