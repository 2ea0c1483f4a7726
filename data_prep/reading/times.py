"""The times of events, as microseconds since 1970 in UTC."""

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_prep.reading.checked import (
    EMPTY,
    Checked,
    ColumnSource,
    Marked,
    always,
    nulls,
    shown,
)
from data_prep.reading.texts import is_text, parse, plain_texts

TIME_UNITS = {"s": 1_000_000, "ms": 1_000}  # microseconds in one

_YEAR_9999 = 253_402_300_800  # seconds since 1970
_EXPECTED = "expected a number since 1970 or a time such as 2014-04-07T10:51:09Z"
_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


def read_times(
    column: pa.ChunkedArray, source: ColumnSource, unit: str, like: pa.DataType
) -> Checked[np.ndarray]:
    """Reads times as microseconds since 1970, UTC.

    Args:
      column: [rows] numbers since 1970, timestamps, dates, or text of either.
      source: where the column comes from.
      unit: of numbers: "s" or "ms".
      like: one of ``TIME_TYPES``, which text is of.

    Returns:
      [rows] int64; times without a zone are UTC, finer ones are cut.

    Raises:
      UserError: where the type of the column can be no time.
    """
    kind = column.type
    if pa.types.is_null(kind):
        missing = np.ones(len(column), bool)
        return Checked(np.zeros(len(column), np.int64), [(missing, always(EMPTY))])
    if is_text(kind):
        texts = plain_texts(column)
        times = parse(texts, like)
        unread = nulls(times) & ~nulls(texts)

        def problem(row: int) -> str:
            return f"{shown(texts[row].as_py())} is no time; {_EXPECTED}"

        values, faults = _read(times, unit)
        return Checked(values, [(unread, problem), *faults])
    if pa.types.is_decimal(kind):
        return _read(column.cast(pa.float64()).combine_chunks(), unit)
    if pa.types.is_float16(kind) or pa.types.is_float32(kind):
        raise source.error(f"{kind} is too coarse for times; write float64")
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or is_moment(kind):
        return _read(column.combine_chunks(), unit)
    raise source.error(f"{kind} is no time; {_EXPECTED}")


def is_moment(kind: pa.DataType) -> bool:
    """Whether a column of this type holds timestamps or dates."""
    return pa.types.is_timestamp(kind) or pa.types.is_date(kind)


def ticks(times: pa.Array) -> tuple[pa.Array, float]:
    """Returns [rows] int64 of timestamps or dates, and how many make a second."""
    if pa.types.is_timestamp(times.type):
        return times.cast(pa.int64()), _PER_SECOND[times.type.unit]
    if pa.types.is_date64(times.type):
        return times.cast(pa.int64()), 1000
    return times.cast(pa.int32()).cast(pa.int64()), 1 / 86_400


def _read(times: pa.Array, unit: str) -> Checked[np.ndarray]:
    """Brings numbers, timestamps or dates to microseconds, and marks what is none."""
    missing = nulls(times)
    moments = is_moment(times.type)
    numbers, per_second = (
        ticks(times) if moments else (times, 10**6 // TIME_UNITS[unit])
    )
    raw = pc.fill_null(numbers, 0).to_numpy()
    with np.errstate(invalid="ignore"):
        early = raw < 0
        late = raw >= _YEAR_9999 * per_second
    infinite = ~np.isfinite(raw) & ~missing
    kept = np.where(early | late | ~np.isfinite(raw), 0, raw)
    if moments:
        whole = times.cast(pa.timestamp("us"), safe=False).cast(pa.int64())
        values = pc.fill_null(whole, 0).to_numpy()
    else:
        scaled = kept.astype(np.int64) if kept.dtype.kind in "iu" else kept
        values = np.rint(scaled * TIME_UNITS[unit]).astype(np.int64)
    hint = "" if moments or unit != "s" else " (milliseconds? --time_unit=ms)"

    def of(problem: str) -> Callable[[int], str]:
        return lambda row: f"{_written(times, row)} is {problem}"

    faults: list[Marked] = [
        (missing, always(EMPTY)),
        (infinite, of("not finite")),
        (early & ~missing, of("before 1970")),
        (late & ~missing, of(f"after the year 9999{hint}")),
    ]
    return Checked(values, faults)


def _written(times: pa.Array, row: int) -> str:
    """Writes a time, of which Python may have no datetime."""
    if is_moment(times.type):
        return times.slice(row, 1).cast(pa.string())[0].as_py()
    return str(times[row].as_py())
