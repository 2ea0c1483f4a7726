"""Malformed rows: refused, or left out and counted; and what else is odd in rows."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tron_jax.console.messages import warn
from tron_jax.errors import UserError

_SHOWN = 3  # bad rows that are named


class Fault(NamedTuple):
    """What is wrong with some rows of a file.

    rows: [bad rows] their numbers, rising; problem: says of the n-th of them what it
    is, after its number, as in ", column 'item': empty".
    """

    rows: np.ndarray
    problem: Callable[[int], str]


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
        self._remarks: dict[str, str] = {}

    def add(self, path: Path, faults: Sequence[Fault]) -> None:
        """Counts the rows of a file with faults, or raises, if none is to be left out.

        A row that has several is counted once and named with the first of them.
        """
        rows = np.unique(
            np.concatenate([np.zeros(0, np.int64), *(f.rows for f in faults)])
        )
        if not len(rows):
            return
        if not self._skip:
            problem = _name(path, int(rows[0]), faults)
            raise UserError(f"{problem} (--skip_bad_rows leaves such rows out)")
        shown = rows[: _SHOWN - len(self._first)]
        self._first += [_name(path, int(row), faults) for row in shown]
        self._count += len(rows)

    def remark(self, about: str, remark: str) -> None:
        """Keeps the first remark about something, such as a column."""
        self._remarks.setdefault(about, remark)

    def warn(self) -> None:
        """Warns of the rows that were left out, if there are any, and of the rest."""
        for about, remark in self._remarks.items():
            warn(f"{about}: {remark}")
        if self._count:
            rows = "row" if self._count == 1 else "rows"
            more = "; …" if self._count > len(self._first) else ""
            named = "; ".join(self._first)
            warn(f"{self._count:,} malformed {rows} left out: {named}{more}")


def _name(path: Path, row: int, faults: Sequence[Fault]) -> str:
    for rows, problem in faults:
        index = int(np.searchsorted(rows, row))
        if index < len(rows) and rows[index] == row:
            return f"{path}: row {row}{problem(index)}"
    raise AssertionError("a row without a fault")
