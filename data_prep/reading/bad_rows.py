"""Malformed rows: found among good ones, and refused or left out and counted."""

from collections.abc import Callable, Iterator

import pyarrow as pa

from data_prep.clicks.batches import ClickBatch
from tron_jax.console.messages import warn
from tron_jax.errors import UserError

Rows = list[bytes] | pa.Table  # lines, or rows of a table
# Of rows and the number of the first; None where they hold no click.
Parse = Callable[[Rows, int], ClickBatch | None]

_SHOWN = 3  # bad rows that are named


class BadRows:
    """Malformed rows: the first is an error, or all are left out and counted."""

    def __init__(self, skip: bool) -> None:
        """Has met none yet; ``skip`` leaves them out."""
        self._skip = skip
        self.clear()

    def clear(self) -> None:
        """Forgets what was counted, as where a log is read again."""
        self._count = 0
        self._first: list[str] = []

    def add(self, problem: str) -> None:
        """Counts a row, or raises, if none is to be left out."""
        if not self._skip:
            raise UserError(f"{problem} (--skip_bad_rows leaves such rows out)")
        self._count += 1
        if len(self._first) < _SHOWN:
            self._first.append(problem)

    def warn(self) -> None:
        """Warns of the rows that were left out, if there are any."""
        if self._count:
            rows = "row" if self._count == 1 else "rows"
            more = "; …" if self._count > len(self._first) else ""
            named = "; ".join(self._first)
            warn(f"{self._count:,} malformed {rows} left out: {named}{more}")


def parse_good_rows(
    parse: Parse, rows: Rows, first: int, bad: BadRows
) -> ClickBatch | None:
    """Parses rows, from number ``first`` on, without those that ``parse`` refuses.

    ``bad`` is given each row that cannot be parsed even by itself. The rest is parsed
    together, as its types can depend on each other; None where nothing is left.
    """
    good = list(_halve(parse, rows, first, bad))
    if not good:
        return None
    if isinstance(rows, pa.Table):
        return parse(pa.concat_tables(good), first)
    return parse([line for lines in good for line in lines], first)


def _halve(parse: Parse, rows: Rows, first: int, bad: BadRows) -> Iterator[Rows]:
    """Halves rows until what is malformed is alone; yields the rest in order."""
    try:
        parse(rows, first)
    except UserError as error:
        if len(rows) == 1:
            bad.add(str(error))
            return
        middle = len(rows) // 2
        yield from _halve(parse, rows[:middle], first, bad)
        yield from _halve(parse, rows[middle:], first + middle, bad)
    else:
        yield rows
