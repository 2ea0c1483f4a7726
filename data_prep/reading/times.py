"""The times of events, as microseconds since 1970 in UTC."""

import datetime
from collections.abc import Callable
from typing import NamedTuple

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
from data_prep.reading.texts import MOMENT_TYPES, is_text, parse, plain_texts
from data_prep.reading.time_formats import TimeFormat

UNITS = {  # of numbers: how many make a second, and what they are called
    "s": (1, "seconds"),
    "ms": (10**3, "milliseconds"),
    "us": (10**6, "microseconds"),
    "ns": (10**9, "nanoseconds"),
}

_YEAR_9999 = 253_402_300_800  # seconds since 1970
_SECONDS = (10**11, 10**14)  # microseconds, of which such numbers are milliseconds
_EXPECTED = "expected a number since 1970 or a time such as 2014-04-07T10:51:09Z"
_LIKELY = (31_536_000, 4_102_444_800)  # seconds since 1970: the years 1971 to 2099
_EXCEL = (25_934, 73_051)  # days since 1900: the same years
_CALENDAR = ("%Y%m%d", "%Y%m%d%H%M", "%Y%m%d%H%M%S")  # that numbers may spell


class TimeForm(NamedTuple):
    """How a log writes its times.

    unit: of numbers, one of ``UNITS``; format: of text, and of numbers that spell a
    calendar's time; None where these are as ISO 8601 has them.
    """

    unit: str = "s"
    format: TimeFormat | None = None

    @property
    def types(self) -> tuple[pa.DataType, ...]:
        """What text in the column of times may be."""
        if self.format is not None:
            return (pa.string(),)
        # A float64 does not hold today's nanoseconds.
        number = pa.int64() if self.unit == "ns" else pa.float64()
        return (number, *MOMENT_TYPES)


def read_times(
    column: pa.ChunkedArray, source: ColumnSource, form: TimeForm, like: pa.DataType
) -> Checked[np.ndarray]:
    """Reads times as microseconds since 1970, UTC.

    Args:
      column: [rows] numbers since 1970, timestamps, dates, or text of either.
      source: where the column comes from.
      form: how they are written.
      like: one of the form's types, which text is of.

    Returns:
      [rows] int64; times without a zone are UTC, finer ones are cut.

    Raises:
      UserError: where the type of the column can be no time.
    """
    kind = column.type
    if pa.types.is_null(kind):
        missing = np.ones(len(column), bool)
        return Checked(np.zeros(len(column), np.int64), [(missing, always(EMPTY))])
    if form.format is not None and pa.types.is_integer(kind):
        column, kind = column.cast(pa.string()), pa.string()
    if is_text(kind):
        return _of_texts(plain_texts(column), form, like)
    if form.format is not None and not is_moment(kind):
        raise source.error(f"{kind} has no form such as {form.format.written}")
    if pa.types.is_decimal(kind):
        return _read(column.cast(pa.float64()).combine_chunks(), form.unit)
    if pa.types.is_float16(kind) or pa.types.is_float32(kind):
        raise source.error(f"{kind} is too coarse for times; write float64")
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or is_moment(kind):
        return _read(column.combine_chunks(), form.unit)
    raise source.error(f"{kind} is no time; {_EXPECTED}")


def _of_texts(
    texts: pa.Array, form: TimeForm, like: pa.DataType
) -> Checked[np.ndarray]:
    expected = _EXPECTED
    if form.format is None:
        times = parse(texts, like)
    else:
        times = form.format.parse(texts)
        expected = f"expected one of the form {form.format.written}"
    unread = nulls(times) & ~nulls(texts)

    def problem(row: int) -> str:
        return f"{shown(texts[row].as_py())} is no time; {expected}"

    values, faults = _read(times, form.unit)
    return Checked(values, [(unread, problem), *faults])


def looks_like_seconds(
    kind: pa.DataType, times: np.ndarray, form: TimeForm, like: pa.DataType
) -> str | None:
    """Says which number of milliseconds is rather one of seconds, if any is.

    As milliseconds it is between the second day of 1970 and 1973, when nobody clicked.
    ``times`` are what ``read_times`` made of such a column.
    """
    if form.unit != "ms" or form.format is not None:
        return None
    if is_moment(kind) or (is_text(kind) and is_moment(like)):
        return None
    odd = times[(times >= _SECONDS[0]) & (times < _SECONDS[1])]
    if not len(odd):
        return None
    number = int(odd[0]) // 1000
    here, there = (np.datetime64(number, u).astype("M8[D]") for u in ("ms", "s"))
    return f"{number} is {here} in milliseconds; in seconds, it were {there}"


def likely_form(number: float) -> str | None:
    """Returns in words and flags what times a number is rather of, None if of none."""
    if _EXCEL[0] <= number < _EXCEL[1]:
        return "days as Excel counts them? write times as text"
    if not float(number).is_integer():
        return None
    for written in _CALENDAR:
        try:
            moment = datetime.datetime.strptime(str(int(number)), written)
        except ValueError:
            continue
        if 1971 <= moment.year < 2100:
            return f"a calendar's? --time_format={written}"
    for unit, (per_second, name) in UNITS.items():
        if _LIKELY[0] <= number / per_second < _LIKELY[1]:
            return f"{name}? --time_unit={unit}"
    return None


def is_moment(kind: pa.DataType) -> bool:
    """Whether a column of this type holds timestamps or dates."""
    return pa.types.is_timestamp(kind) or pa.types.is_date(kind)


def ticks(times: pa.Array) -> tuple[pa.Array, float]:
    """Returns [rows] int64 of timestamps or dates, and how many make a second."""
    if pa.types.is_timestamp(times.type):
        return times.cast(pa.int64()), UNITS[times.type.unit][0]
    if pa.types.is_date64(times.type):
        return times.cast(pa.int64()), 1000
    return times.cast(pa.int32()).cast(pa.int64()), 1 / 86_400


def _read(times: pa.Array, unit: str) -> Checked[np.ndarray]:
    """Brings numbers, timestamps or dates to microseconds, and marks what is none."""
    missing = nulls(times)
    moments = is_moment(times.type)
    numbers, per_second = ticks(times) if moments else (times, UNITS[unit][0])
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
        values = _microseconds(scaled, int(per_second))

    def too_late(row: int) -> str:
        hint = None if moments else likely_form(raw[row])
        more = f" ({hint})" if hint else ""
        return f"{_written(times, row)} is after the year 9999{more}"

    def of(problem: str) -> Callable[[int], str]:
        return lambda row: f"{_written(times, row)} is {problem}"

    faults: list[Marked] = [
        (missing, always(EMPTY)),
        (infinite, of("not finite")),
        (early & ~missing, of("before 1970")),
        (late & ~missing, too_late),
    ]
    return Checked(values, faults)


def _written(times: pa.Array, row: int) -> str:
    """Writes a time, of which Python may have no datetime."""
    if is_moment(times.type):
        return times.slice(row, 1).cast(pa.string())[0].as_py()
    return str(times[row].as_py())


def _microseconds(numbers: np.ndarray, per_second: int) -> np.ndarray:
    """Brings [rows] numbers, so many a second, to int64; finer ones are cut."""
    if per_second > 10**6:
        return (numbers // (per_second // 10**6)).astype(np.int64)
    return np.rint(numbers * (10**6 // per_second)).astype(np.int64)
