"""Columns of a raw log, checked and brought to one type each.

Every function names the file, the row and the column of what it refuses.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from tron_jax.errors import UserError

TIME_UNITS = {"s": 1_000_000, "ms": 1_000}  # microseconds in one
NULLS = ("", "NULL", "null", "\\N", "NaN", "nan")  # as text
# What text that is a time may be: numbers, or times with or without a zone.
TIME_TYPES = (pa.float64(), pa.timestamp("ns", tz="UTC"), pa.timestamp("ns"))

_YEAR_9999 = 253_402_300_800  # seconds since 1970
_EXPECTED_TIME = "expected a number since 1970 or a time such as 2014-04-07T10:51:09Z"


class ColumnSource(NamedTuple):
    """Where a column comes from, for messages."""

    path: Path
    column: str
    first_row: int  # number of the first data row: 2 below a header, else 1

    def error(self, problem: str, row: int | None = None) -> UserError:
        """The error to raise about this column, or about its row of index ``row``."""
        at = "" if row is None else f"row {row + self.first_row}, "
        return UserError(f"{self.path}: {at}column {self.column!r}: {problem}")


def read_ids(
    column: pa.ChunkedArray, source: ColumnSource, as_text: bool = False
) -> pa.Array:
    """Brings a column of ids to one type.

    Args:
      column: [rows] integers, floats that are whole, or strings, each as it is or by a
        dictionary.
      source: where the column comes from.
      as_text: whether numbers become text too.

    Returns:
      [rows] numbers as int64, or as string if asked; what is no number as string, by a
      dictionary without repeats.
    """
    _refuse_missing(column, source)
    if pa.types.is_floating(
        column.type
    ):  # integers that once stood beside missing ones
        try:
            column = column.cast(pa.int64())
        except pa.ArrowInvalid as error:
            raise source.error("ids must be whole numbers or strings") from error
    if pa.types.is_integer(column.type):
        numbers = _cast_ids(column.combine_chunks(), pa.int64(), source)
        return numbers.cast(pa.string()) if as_text else numbers
    if not pa.types.is_dictionary(column.type):
        try:
            column = column.dictionary_encode()
        except (pa.ArrowNotImplementedError, pa.ArrowInvalid) as error:
            raise source.error(f"{column.type} cannot be an id") from error
    ids = column.unify_dictionaries().combine_chunks()
    if not _valid(ids.dictionary):  # JSON's reader lets any bytes pass
        size = len(ids.dictionary)
        bad = next(i for i in range(size) if not _valid(ids.dictionary[i : i + 1]))
        row = int((ids.indices.to_numpy() == bad).argmax())
        raise source.error("invalid UTF-8", row)
    texts = _cast_ids(ids.dictionary, pa.string(), source)
    return pa.DictionaryArray.from_arrays(ids.indices, texts)


def _valid(ids: pa.Array) -> bool:
    try:
        ids.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def _cast_ids(ids: pa.Array, to: pa.DataType, source: ColumnSource) -> pa.Array:
    if pa.types.is_boolean(ids.type) or pa.types.is_temporal(ids.type):
        raise source.error(f"{ids.type} cannot be an id; cast it to a string")
    try:
        return ids.cast(to)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise source.error(f"{ids.type} cannot be an id: {error}") from error


def read_times(column: pa.ChunkedArray, source: ColumnSource, unit: str) -> np.ndarray:
    """Reads times as microseconds since 1970, UTC.

    Args:
      column: [rows] numbers since 1970, timestamps, dates, or strings of either.
      source: where the column comes from.
      unit: of numbers: "s" or "ms".

    Returns:
      [rows] int64; times without a zone are UTC, finer ones are rounded.
    """
    _refuse_missing(column, source)
    if pa.types.is_decimal(column.type):
        column = column.cast(pa.float64())
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        column = _parse_times(column, source)
    if pa.types.is_float16(column.type) or pa.types.is_float32(column.type):
        raise source.error(f"{column.type} is too coarse for times; write float64")
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        return _scale(column.to_numpy(), source, unit)
    if pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
        times = column.cast(pa.timestamp("us"), safe=False).cast(pa.int64()).to_numpy()
        _refuse(times < 0, column, source, "before 1970")
        return times
    raise source.error(f"{column.type} is no time; {_EXPECTED_TIME}")


def _scale(values: np.ndarray, source: ColumnSource, unit: str) -> np.ndarray:
    """Multiplies numbers since 1970 up to microseconds, refusing what is no time."""
    scale = TIME_UNITS[unit]
    if values.dtype.kind in "iu":  # 32 bits would overflow below
        values = values.astype(np.int64)
    column = pa.chunked_array([values])
    _refuse(~np.isfinite(values), column, source, "not finite")
    _refuse(values < 0, column, source, "before 1970")
    hint = " (milliseconds? --time_unit=ms)" if unit == "s" else ""
    too_late = values >= _YEAR_9999 * (1_000_000 // scale)
    _refuse(too_late, column, source, f"after the year 9999{hint}")
    return np.rint(values * scale).astype(np.int64)


def _parse_times(column: pa.ChunkedArray, source: ColumnSource) -> pa.ChunkedArray:
    """Parses strings: all numbers, or all times with a zone, or all without one."""
    for time_type in TIME_TYPES:
        try:
            return column.cast(time_type)
        except pa.ArrowInvalid:
            continue
    # One of the rows is at fault: the one that is unlike the first that parses.
    like = next((t for t in TIME_TYPES if _parses(column[0], t)), TIME_TYPES[0])
    values = enumerate(value for chunk in column.chunks for value in chunk)
    row, value = next((i, v) for i, v in values if not _parses(v, like))
    raise source.error(f"{value.as_py()!r} is no time; {_EXPECTED_TIME}", row)


def likeliest_type(texts: Sequence[str], types: Sequence[pa.DataType]) -> pa.DataType:
    """Returns the type that most texts can be read as, the first of equals.

    Those of ``NULLS`` do not count; string where no text can be read as any type.
    """
    values = [pa.scalar(text) for text in texts if text not in NULLS]
    counts = [sum(_parses(value, one) for value in values) for one in types]
    return types[counts.index(max(counts))] if max(counts) else pa.string()


def _parses(value: pa.Scalar, to: pa.DataType) -> bool:
    try:
        value.cast(to)
    except pa.ArrowInvalid:
        return False
    return True


def read_order(column: pa.ChunkedArray, source: ColumnSource) -> np.ndarray:
    """Reads the column that orders a session's events, [rows] numbers or times."""
    _refuse_missing(column, source)
    if pa.types.is_temporal(column.type) and not pa.types.is_duration(column.type):
        return read_times(column, source, "s")
    if pa.types.is_integer(column.type):
        return column.to_numpy()
    if pa.types.is_floating(column.type):
        _refuse(~np.isfinite(column.to_numpy()), column, source, "not finite")
        return column.to_numpy()
    raise source.error(f"{column.type} gives no order; expected numbers or times")


def _refuse_missing(column: pa.ChunkedArray, source: ColumnSource) -> None:
    """Raises at the first null or not-a-number of a column."""
    missing = column.is_null(nan_is_null=True).to_numpy()
    if missing.any():
        raise source.error("empty; expected a value", int(missing.argmax()))


def _refuse(
    bad: np.ndarray, column: pa.ChunkedArray, source: ColumnSource, problem: str
) -> None:
    """Raises at the first row that is marked bad."""
    if bad.any():
        row = int(bad.argmax())
        raise source.error(f"{column[row].as_py()} is {problem}", row)
