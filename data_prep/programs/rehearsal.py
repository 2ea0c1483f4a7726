"""What would become of a log, by its first rows: nothing of it is kept."""

import tempfile
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from pathlib import Path

import numpy as np
from absl import flags

from data_prep.clicks.batches import ClickBatch
from data_prep.pipeline.days import DayCounts
from data_prep.pipeline.disk import disk_bytes
from data_prep.pipeline.parts import Log, PartPlan
from data_prep.pipeline.preparation import (
    PreparedSet,
    Recipe,
    prepare_set,
    print_steps,
)
from data_prep.prepared.first_sessions import print_first
from data_prep.prepared.report import print_table
from data_prep.programs.log_program import gap_of, read_logs
from data_prep.reading.bad_rows import BadRows
from data_prep.reading.click_log import ClickLog, Kinds
from tron_jax.console.messages import readable, say
from tron_jax.console.stages import Stages
from tron_jax.data.sessions import catalogue_of, open_prepared

ROWS = 1_000_000  # of each log that are read

_SESSIONS = 3  # that are shown


class FirstRows:
    """The beginning of a ``ClickLog``, as one of its own.

    whole: whether it was read to its end.
    """

    def __init__(self, log: ClickLog, count: int) -> None:
        """Takes so many events of a log, or all."""
        self.path, self.rows = log.path, log.rows
        self.id_bytes, self.kinds = log.id_bytes, log.kinds
        self.ordered_by_time, self.types = log.ordered_by_time, log.types
        self.whole = False
        self._log, self._count = log, count

    def batches(self, kinds: Kinds, bad: BadRows) -> Generator[ClickBatch]:
        """Yields the first clicks of the log."""
        left = self._count
        with closing(self._log.batches(kinds, bad)) as batches:
            for batch in batches:
                yield _first(batch, left)
                left -= len(batch.session)
                if left <= 0:
                    return
        self.whole = True

    def progress(self) -> tuple[str, int, int]:
        """Returns how far the log itself was read."""
        return self._log.progress()

    def describe(self) -> list[dict[str, object]]:
        """Returns nothing: the files were not read to their ends."""
        return []


def _first(batch: ClickBatch, count: int) -> ClickBatch:
    if len(batch.session) <= count:
        return batch
    return ClickBatch(*(None if column is None else column[:count] for column in batch))


def rehearse(
    logs: Mapping[str, ClickLog],
    recipe: Recipe,
    values: flags.FlagValues,
    check: Callable[[Log, BadRows], None],
    count: int = ROWS,
) -> PreparedSet:
    """Prepares the first rows of logs aside, and says how they were understood.

    Args:
      logs: "train" and, where it is apart, "test".
      recipe: what to do with them.
      values: the program's flags.
      check: refuses a log once it was read, or remarks what is odd.
      count: events of each log to read.

    Raises:
      UserError: where the logs are not as they should be, or too little is left.
    """
    bad, stages = BadRows(values.skip_bad_rows), Stages()
    first = {role: FirstRows(log, count) for role, log in logs.items()}
    begun = time.monotonic()
    try:
        with tempfile.TemporaryDirectory(prefix="dry-run-") as name:
            folder = Path(name)
            plan = PartPlan(1, on_disk=False)
            gap = gap_of(values)
            log = read_logs(first, folder / "parts", plan, bad, stages, gap)
            read = log.train.rows + (0 if log.test is None else log.test.rows)
            stages.close()
            _say_how(values, first["train"].types, log.train.days)
            check(log, bad)
            if not _reach_beyond_test(first, recipe, log.train.days):
                say(f"too few days to split off --test_days={values.test_days:g}")
                recipe = recipe._replace(rule=None)
            prepared = prepare_set(folder, log, recipe, [], stages)
            stages.close()
            data = open_prepared(folder)
            for part, sessions in (("train", data.train), ("test", data.test)):
                print_first(part, sessions, catalogue_of(data), _SESSIONS)
            say("")
            print_steps(prepared.counts)
            print_table(prepared.stats)
    finally:
        stages.close()
        bad.warn()
    _say_cost(first, read, time.monotonic() - begun)
    return prepared


def _reach_beyond_test(
    logs: Mapping[str, FirstRows], recipe: Recipe, days: DayCounts
) -> bool:
    """Whether the rows that were read can be split, which is sure of whole logs."""
    if recipe.rule is None or all(log.whole for log in logs.values()):
        return True
    found, _ = days.occupied()
    return bool(found[-1] - found[0] > recipe.rule.days)


def _say_how(
    values: flags.FlagValues, types: Mapping[str, str], days: DayCounts
) -> None:
    for name, kind in types.items():
        say(f"column {name!r}: {kind}")
    if days.first is not None:
        found = days.occupied()[0]
        first, last = (np.datetime64(int(found[at]), "D") for at in (0, -1))
        say(f"times: {first} to {last}")
    if values.session_gap is not None:
        say(f"sessions cut at pauses of more than {values.session_gap:g} s")


def _say_cost(logs: Mapping[str, FirstRows], read: int, seconds: float) -> None:
    """Says what the whole takes; less than a second is one."""
    if all(log.whole for log in logs.values()):
        say(f"dry run of the whole log, {read:,} events; nothing was written")
        return
    rows = max(read, sum(log.rows for log in logs.values()))
    needed = disk_bytes(rows, max(log.id_bytes for log in logs.values()))
    minutes = seconds * rows / read / 60
    say(
        f"dry run of the first {read:,} of about {rows:,} events; nothing was written; "
        f"the whole takes about {minutes:,.1f} minutes and {readable(needed)} of disk"
    )
