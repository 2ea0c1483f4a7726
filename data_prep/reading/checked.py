"""A column of a raw log, checked: its values, and which rows are at fault."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tron_jax.errors import UserError

EMPTY = "empty; expected a value"
# Bits of a whole number that a float holds.
_FLOAT_BITS = {pa.float16(): 11, pa.float32(): 24, pa.float64(): 53}
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


def compute(
    function: str, *values: object, options: pc.FunctionOptions | None = None
) -> Any:
    """Calls a function of pyarrow's by its name, which no type checker can know."""
    return pc.call_function(function, list(values), options)


def matches(texts: pa.Array, pattern: str) -> pa.Array:
    """Marks the texts in which an RE2 pattern is found, [rows] bool; null for nulls."""
    options = pc.MatchSubstringOptions(pattern)
    return compute("match_substring_regex", texts, options=options)


def nulls(column: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """Marks nulls and what is no number, [rows] bool."""
    return np.asarray(column.is_null(nan_is_null=True))


def empty_texts(texts: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """Marks the text that stands for nothing, blanks and nulls, [rows] bool."""
    known = compute("is_in", texts, options=pc.SetLookupOptions(pa.array(NULLS)))
    bare = compute("utf8_trim_whitespace", texts)
    blank = compute("equal", bare, pa.scalar(""))
    marked = compute("or_kleene", known, blank)
    return np.asarray(pc.fill_null(marked, True))


def coarse_floats(values: np.ndarray, kind: pa.DataType, advice: str) -> Marked:
    """Marks what a float may have rounded, as it counts no further by ones.

    Args:
      values: [rows] float64, of any that are finite or not.
      kind: of the floats as they were read.
      advice: what to write instead.
    """
    bits = _FLOAT_BITS[kind]
    why = f"from 2^{bits} on, a {kind} does not hold whole numbers exactly"
    with np.errstate(invalid="ignore"):
        coarse = np.isfinite(values) & (np.abs(values) >= 2.0**bits)
    return coarse, lambda row: f"{values[row]:.17g}: {why}; {advice}"


def always(problem: str) -> Callable[[int], str]:
    """Says the same of every row."""
    return lambda row: problem


def shown(value: object) -> str:
    """Writes a value into a message, cut where it is long."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}…"
