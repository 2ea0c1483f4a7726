"""Several logs as one: the files of a folder, or whatever else is read in turn."""

from collections.abc import Generator, Sequence
from pathlib import Path

from data_prep.clicks.batches import ClickBatch
from data_prep.reading.bad_rows import BadRows
from data_prep.reading.click_log import ClickLog, Kinds
from data_prep.reading.columns import LogColumns, require_one_order


class ManyLogs:
    """A ``ClickLog`` of others, in their order."""

    def __init__(
        self, path: Path, logs: Sequence[ClickLog], columns: LogColumns
    ) -> None:
        """Takes one log or more; ``path`` is where they are, for messages.

        Raises:
          UserError: where some are ordered by times and others by numbers.
        """
        self.path, self._logs, self.types = path, logs, logs[0].types
        self.rows = sum(log.rows for log in logs)
        self.id_bytes = max(log.id_bytes for log in logs)
        self.kinds = Kinds()
        for log in logs:
            self.kinds |= log.kinds
        orders = [(log.path, log.ordered_by_time) for log in logs]
        self.ordered_by_time = require_one_order(orders, columns)

    def batches(self, kinds: Kinds, bad: BadRows) -> Generator[ClickBatch]:
        """Yields the clicks of one log after the other."""
        self._current, self._rows_before = self._logs[0], 0
        for log in self._logs:
            self._current = log
            yield from log.batches(kinds, bad)
            self._rows_before += log.rows

    def progress(self) -> tuple[str, int, int]:
        """Returns about how many rows were read, and of how many."""
        _, done, total = self._current.progress()
        read = self._current.rows * done // max(1, total)
        return "rows", self._rows_before + read, self.rows

    def describe(self) -> list[dict[str, object]]:
        """Returns name, size and hash of each file."""
        return [file for log in self._logs for file in log.describe()]
