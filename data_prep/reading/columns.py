"""Columns of a raw log, checked and brought to one type each.

Every function names the file, the row and the column of what it refuses.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from data_prep.clicks.batches import TIME, plain_ids
from tron_jax.errors import UserError

TIME_UNITS = {"s": 1_000_000, "ms": 1_000}  # microseconds in one

_YEAR_9999 = 253_402_300_800  # seconds since 1970
_ISO = "expected a number since 1970 or a time such as 2014-04-07T10:51:09Z"


class Place(NamedTuple):
    """A column of a file, for messages."""

    path: Path
    column: str
    first_row: int  # number of the first data row: 2 below a header, else 1

    def error(self, what: str, row: int | None = None) -> UserError:
        """The error to raise about this column, or about its row of index ``row``."""
        at = "" if row is None else f"row {row + self.first_row}, "
        return UserError(f"{self.path}: {at}column {self.column!r}: {what}")


def raw_ids(column: pa.ChunkedArray, place: Place) -> pa.Array:
    """Brings a column of ids to one type.

    Args:
      column: [rows] integers, strings, or strings by dictionaries without repeats.
      place: where the column stands.

    Returns:
      [rows] int64, or int64 or string by a dictionary: numbers where every id is a
      whole number as it would be printed ("7", but not "007").
    """
    refuse_nulls(column, place)
    if pa.types.is_floating(column.type):
        column = _whole_numbers(column, place)
    if pa.types.is_integer(column.type):
        return _plain_ids(column.combine_chunks(), place)
    if not pa.types.is_dictionary(column.type):
        try:
            column = column.dictionary_encode()
        except (pa.ArrowNotImplementedError, pa.ArrowInvalid) as error:
            raise place.error(f"{column.type} cannot be an id") from error
    ids = column.unify_dictionaries().combine_chunks()
    if not _valid(ids.dictionary):  # JSON's reader lets any bytes pass
        size = len(ids.dictionary)
        bad = next(i for i in range(size) if not _valid(ids.dictionary[i : i + 1]))
        raise place.error(
            "invalid UTF-8", int((ids.indices.to_numpy() == bad).argmax())
        )
    return pa.DictionaryArray.from_arrays(
        ids.indices, _plain_ids(ids.dictionary, place)
    )


def _valid(ids: pa.Array) -> bool:
    try:
        ids.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def _whole_numbers(column: pa.ChunkedArray, place: Place) -> pa.ChunkedArray:
    """Turns ids that missing values once made floating point back into integers."""
    try:
        return column.cast(pa.int64())
    except pa.ArrowInvalid as error:
        raise place.error("ids must be whole numbers or strings") from error


def _plain_ids(ids: pa.Array, place: Place) -> pa.Array:
    """Brings ids to int64 where they are whole numbers, else to string."""
    try:
        if pa.types.is_integer(ids.type):
            return ids.cast(pa.int64())
        if pa.types.is_boolean(ids.type) or pa.types.is_temporal(ids.type):
            raise place.error(f"{ids.type} cannot be an id; cast it to a string")
        ids = ids.cast(pa.string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise place.error(f"{ids.type} cannot be an id: {error}") from error
    return plain_ids(ids)


def microseconds(column: pa.ChunkedArray, place: Place, unit: str) -> pa.Array:
    """Reads times as microseconds since 1970, UTC.

    Args:
      column: [rows] numbers since 1970, timestamps, dates, or strings of either.
      place: where the column stands.
      unit: of numbers: "s" or "ms".

    Returns:
      [rows] ``TIME``; times without a zone are UTC, finer ones are rounded.
    """
    refuse_nulls(column, place)
    if pa.types.is_decimal(column.type):
        column = column.cast(pa.float64())
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        column = _parse_times(column, place)
    if pa.types.is_float16(column.type) or pa.types.is_float32(column.type):
        raise place.error(f"{column.type} is too coarse for times; write float64")
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        return _scale(column.to_numpy(), place, unit)
    if pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
        times = column.cast(pa.timestamp("us"), safe=False).combine_chunks()
        _refuse(times.cast(pa.int64()).to_numpy() < 0, column, place, "before 1970")
        return times.cast(TIME)
    raise place.error(f"{column.type} is no time; {_ISO}")


def _scale(values: np.ndarray, place: Place, unit: str) -> pa.Array:
    """Multiplies numbers since 1970 up to microseconds, refusing what is no time."""
    scale = TIME_UNITS[unit]
    if values.dtype.kind in "iu":  # 32 bits would overflow below
        values = values.astype(np.int64)
    column = pa.chunked_array([values])
    _refuse(~np.isfinite(values), column, place, "not finite")
    _refuse(values < 0, column, place, "before 1970")
    hint = " (milliseconds? --time_unit=ms)" if unit == "s" else ""
    too_late = values >= _YEAR_9999 * (1_000_000 // scale)
    _refuse(too_late, column, place, f"after the year 9999{hint}")
    return pa.array(np.rint(values * scale).astype(np.int64)).cast(TIME)


def _parse_times(column: pa.ChunkedArray, place: Place) -> pa.ChunkedArray:
    """Parses strings: all numbers, or all times with a zone, or all without one."""
    kinds = (pa.float64(), pa.timestamp("ns", tz="UTC"), pa.timestamp("ns"))
    for kind in kinds:
        try:
            return column.cast(kind)
        except pa.ArrowInvalid:
            continue
    # One of the rows is at fault: the one that is unlike the first that parses.
    kind = next((kind for kind in kinds if parses(column[0], kind)), kinds[0])
    rows = enumerate(value for chunk in column.chunks for value in chunk)
    row, value = next((i, v) for i, v in rows if not parses(v, kind))
    raise place.error(f"{value.as_py()!r} is no time; {_ISO}", row)


def parses(value: pa.Scalar, kind: pa.DataType) -> bool:
    """Whether a text can be read as such a type."""
    try:
        value.cast(kind)
    except pa.ArrowInvalid:
        return False
    return True


def order_numbers(column: pa.ChunkedArray, place: Place) -> pa.Array:
    """Reads the column that orders a session's events: numbers or timestamps."""
    refuse_nulls(column, place)
    if pa.types.is_temporal(column.type) and not pa.types.is_duration(column.type):
        return microseconds(column, place, "s").cast(pa.int64())
    if pa.types.is_integer(column.type):
        return column.combine_chunks()
    if pa.types.is_floating(column.type):
        _refuse(~np.isfinite(column.to_numpy()), column, place, "not finite")
        return column.combine_chunks()
    raise place.error(f"{column.type} gives no order; expected numbers or times")


def refuse_nulls(column: pa.ChunkedArray, place: Place) -> None:
    """Raises at the first null or not-a-number of a column."""
    missing = column.is_null(nan_is_null=True).to_numpy()
    if missing.any():
        raise place.error("empty; expected a value", int(missing.argmax()))


def _refuse(bad: np.ndarray, column: pa.ChunkedArray, place: Place, what: str) -> None:
    """Raises at the first row that is marked bad."""
    if bad.any():
        row = int(bad.argmax())
        raise place.error(f"{column[row].as_py()} is {what}", row)
