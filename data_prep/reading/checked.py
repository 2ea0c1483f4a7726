"""A column of a raw log, checked: its values, and which rows are at fault."""

from collections.abc import Callable
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tron_jax.errors import UserError

EMPTY = "empty; expected a value"
NULLS = ("", "NULL", "null", "\\N", "NaN", "nan")  # as text, in every format

_T = TypeVar("_T")

# Marks rows, [rows] bool, and says of the row of an index what is wrong with it.
Marked = tuple[np.ndarray, Callable[[int], str]]


class Checked(NamedTuple, Generic[_T]):
    """A column brought to its type.

    values: [rows], anything where a row is at fault; faults: marked rows by what is
    wrong; a row that is marked twice has the first fault.
    """

    values: _T
    faults: list[Marked]


class ColumnSource(NamedTuple):
    """Where a column comes from, for messages."""

    path: Path
    column: str

    def error(self, problem: str) -> UserError:
        """The error to raise about the column, where no row of it is at fault."""
        return UserError(f"{self.path}: column {self.column!r}: {problem}")


def nulls(column: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """Marks nulls and what is no number, [rows] bool."""
    return np.asarray(column.is_null(nan_is_null=True))


def empty_texts(texts: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """Marks the text that stands for nothing, blanks and nulls, [rows] bool."""
    known = pc.call_function("is_in", [texts], pc.SetLookupOptions(pa.array(NULLS)))
    bare = pc.call_function("utf8_trim_whitespace", [texts])
    blank = pc.call_function("equal", [bare, pa.scalar("")])
    marked = pc.call_function("or_kleene", [known, blank])
    return np.asarray(pc.fill_null(marked, True))


def always(problem: str) -> Callable[[int], str]:
    """Says the same of every row."""
    return lambda row: problem


def shown(value: object) -> str:
    """Writes a value into a message, cut where it is long."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}…"
