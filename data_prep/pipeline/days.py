"""On which days the events of a log were, counted while it is cut into parts."""

import numpy as np

from data_prep.clicks.batches import DAY


class DayCounts:
    """Events by day since 1970 (UTC).

    first: the first event's time in microseconds since 1970; None where the log has no
    times.
    """

    def __init__(self) -> None:
        """Knows of no event."""
        self.first: int | None = None
        self._counts = np.zeros(0, np.int64)

    def add(self, times: np.ndarray) -> None:
        """Counts events, [rows > 0] int64 microseconds since 1970."""
        if self.first is None:
            self.first = int(times[0])
        days = times // DAY
        low = int(days.min())
        counts = np.bincount(days - low)
        missing = low + len(counts) - len(self._counts)
        if missing > 0:
            self._counts = np.pad(self._counts, (0, missing))
        self._counts[low : low + len(counts)] += counts

    def occupied(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns the days with events, rising, and how many each has."""
        days = np.flatnonzero(self._counts)
        return days, self._counts[days]
