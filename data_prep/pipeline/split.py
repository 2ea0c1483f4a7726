"""How test is split off by date: which sessions are late, and from when on.

Source: TRON (arXiv 2307.14906) §3, and what its authors published.
"""

from typing import NamedTuple

import numpy as np
import pyarrow as pa

from data_prep.clicks.batches import DAY

_NEVER = np.iinfo(np.int64).max


class LatestTimes(NamedTuple):
    """Latest start of a session and latest event of a log, microseconds since 1970."""

    start: int = -1
    event: int = -1


class SplitRule(NamedTuple):
    """Which sessions are test: those whose first or last event is late enough.

    Late is at or after ``latest`` minus ``days`` · 86,400 s. ``judged``: "first" or
    "last", the event that has to be late; ``latest``: "event", the log's latest event,
    "start", its latest first event, or "day", the midnight before that (UTC). ``flag``:
    what gave the days, if anything did, for messages.
    """

    judged: str
    latest: str
    days: float
    flag: str | None = None

    def cutoff(self, latest: LatestTimes) -> int:
        """Returns the time from which an event is late, in microseconds."""
        midnight = latest.start - latest.start % DAY
        times = {"event": latest.event, "start": latest.start, "day": midnight}
        return times[self.latest] - round(self.days * DAY)


def first_and_last(events: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """Finds when each session of a table, as in ``pipeline.steps``, begins and ends.

    Returns:
      [codes] int64 microseconds of its earliest and of its latest event; the first
      beyond any time and the last -1 for codes without events.
    """
    sessions = events["session"].to_numpy()
    times = events["time"].cast(pa.int64()).to_numpy()
    first = np.full(sessions.max(initial=-1) + 1, _NEVER)
    last = np.full(len(first), -1)
    np.minimum.at(first, sessions, times)
    np.maximum.at(last, sessions, times)
    return first, last


def latest_times(events: pa.Table, before: LatestTimes) -> LatestTimes:
    """Finds the latest times in a table and in those that came before it."""
    if not events.num_rows:
        return before
    first, last = first_and_last(events)
    start, event = int(first[last >= 0].max()), int(last.max())
    return LatestTimes(max(start, before.start), max(event, before.event))


def split_late(
    events: pa.Table, rule: SplitRule, latest: LatestTimes
) -> tuple[pa.Table, pa.Table]:
    """Splits some sessions of a log, whose latest times are ``latest``.

    Returns:
      The events of the other sessions (train) and of the late ones (test).
    """
    first, last = first_and_last(events)
    late = (first if rule.judged == "first" else last) >= rule.cutoff(latest)
    late = late[events["session"].to_numpy()]
    return events.filter(pa.array(~late)), events.filter(pa.array(late))
