"""What orders the events of a session: numbers of any size and kind, or times.

A whole number stays one; only a fraction is a float. Where int64 does not hold a log's
numbers, each is a float64; where that does not either, it is the nearest float64 and
what is left of it, which compare one after the other as the number itself does.
"""

import decimal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_prep.reading.checked import (
    EMPTY,
    Checked,
    ColumnSource,
    Marked,
    always,
    coarse_floats,
    compute,
    matches,
    nulls,
    shown,
)
from data_prep.reading.texts import MOMENT_TYPES, is_text, parse, plain_texts
from data_prep.reading.times import is_moment, ticks

# What text that orders may be.
ORDER_TYPES = (pa.int64(), pa.float64(), *MOMENT_TYPES)

EXACT = 2**53  # up to here a float64 holds every whole number
_INTEGER = r"^[+-]?[0-9]+$"
_LONG = r"^[+-]?([0-9]\.?){16}"
_TOO_LONG = "has too many digits to order by; two float64 hold about 31"


class OrderValues:
    """Numbers, [rows], as int64 or as pairs.

    whole: int64, or None where some are no int64; pairs: [rows, 2] float64.
    """

    def __init__(self, whole: np.ndarray | None, pairs: np.ndarray | None = None):
        """Takes one of the two."""
        self.whole = whole
        self._pairs = pairs

    @property
    def pairs(self) -> np.ndarray:
        """The nearest float64 of each, and what is left of it."""
        if self._pairs is not None:
            return self._pairs
        assert self.whole is not None
        # Halves of 32 bits are floats, and so is what their sum loses (Dekker, 1971).
        high = (self.whole >> 32).astype(np.float64) * 2.0**32
        low = (self.whole & 0xFFFFFFFF).astype(np.float64)
        nearest = high + low
        return np.stack([nearest, low - (nearest - high)], axis=1)


def read_order(
    column: pa.ChunkedArray, source: ColumnSource, like: pa.DataType
) -> Checked[OrderValues]:
    """Reads the column that orders a session's events.

    Args:
      column: [rows] numbers, timestamps, dates, or text of them.
      source: where the column comes from.
      like: one of ``ORDER_TYPES``, which text is of.

    Raises:
      UserError: where the type of the column gives no order.
    """
    kind = column.type
    if pa.types.is_null(kind):
        missing = np.ones(len(column), bool)
        nothing = OrderValues(np.zeros(len(column), np.int64))
        return Checked(nothing, [(missing, always(EMPTY))])
    if is_text(kind):
        return _of_texts(plain_texts(column), like)
    values = column.combine_chunks()
    faults: list[Marked] = [(nulls(values), always(EMPTY))]
    if is_moment(kind):
        return Checked(_of_moments(values), faults)
    if pa.types.is_integer(kind) or pa.types.is_decimal(kind):
        return _of_numbers(values, faults)
    if pa.types.is_floating(kind):
        floats = values.to_numpy(zero_copy_only=False).astype(np.float64)
        infinite = np.isinf(floats)
        faults += [
            (infinite, lambda row: f"{floats[row]} is not finite"),
            coarse_floats(floats, kind, "write integers or text"),
        ]
        return Checked(_of_floats(np.nan_to_num(floats, posinf=0, neginf=0)), faults)
    raise source.error(f"{kind} gives no order; expected numbers or times")


def _of_texts(texts: pa.Array, like: pa.DataType) -> Checked[OrderValues]:
    """Reads texts as numbers, or as times."""
    times = pa.types.is_timestamp(like)
    read = parse(texts, like if times else pa.float64())
    missing = nulls(texts)
    unread = np.asarray(read.is_null()) & ~missing
    what = "time" if times else "number"
    faults: list[Marked] = [
        (missing, always(EMPTY)),
        (unread, lambda row: f"{shown(texts[row].as_py())} is no {what}"),
    ]
    if times:
        return Checked(_of_moments(read), faults)
    floats = pc.fill_null(read, 0).to_numpy()
    odd = ~np.isfinite(floats)
    faults.append((odd, lambda row: f"{texts[row].as_py()} is not finite"))
    bad = missing | unread | odd
    return _of_number_texts(texts, np.where(bad, 0, floats), bad, faults)


def _of_number_texts(
    texts: pa.Array, floats: np.ndarray, bad: np.ndarray, faults: list[Marked]
) -> Checked[OrderValues]:
    """Keeps the digits that floats would lose."""
    # More digits than a float64 is sure to hold.
    long = np.asarray(pc.fill_null(matches(texts, _LONG), False))
    large = np.abs(floats) >= EXACT
    if not (large | long).any():
        return Checked(_of_floats(floats), faults)
    matched = matches(texts, _INTEGER)
    spelled = np.asarray(pc.fill_null(matched, False)) | bad
    if spelled.all():
        digits = compute("if_else", pa.array(bad), pa.scalar("0", texts.type), texts)
        plain = compute("utf8_ltrim", digits, options=pc.TrimOptions("+"))
        try:
            return Checked(OrderValues(plain.cast(pa.int64()).to_numpy()), faults)
        except pa.ArrowInvalid:
            pass
    pairs, lost = _of_floats(floats).pairs.copy(), np.zeros(len(texts), bool)
    exact = np.flatnonzero((large & spelled | long) & ~bad)
    numbers = [decimal.Decimal(texts[int(i)].as_py()) for i in exact]
    pairs[exact], lost[exact] = _pairs_of(numbers)
    faults.append((lost, lambda row: f"{texts[row].as_py()} {_TOO_LONG}"))
    return Checked(OrderValues(None, pairs), faults)


def _of_moments(times: pa.Array) -> OrderValues:
    """Counts microseconds, and what finer times have besides."""
    numbers, per_second = ticks(times)
    raw = pc.fill_null(numbers, 0).to_numpy()
    if per_second <= 10**6:
        scale = round(10**6 / per_second)
        limit = (2**63 - 1) // scale
        if raw.min(initial=0) >= -limit and raw.max(initial=0) <= limit:
            return OrderValues(raw * scale)
        exact = [decimal.Decimal(int(number)) * scale for number in raw]
        return OrderValues(None, _pairs_of(exact)[0])
    micro, nano = np.divmod(raw, 1000)
    if not nano.any():
        return OrderValues(micro)
    pairs = OrderValues(micro).pairs
    pairs[:, 1] += nano / 1000
    return OrderValues(None, pairs)


def _of_numbers(numbers: pa.Array, faults: list[Marked]) -> Checked[OrderValues]:
    """Takes integers and decimals."""
    plain = pc.fill_null(numbers, pa.scalar(0, numbers.type))
    try:
        return Checked(OrderValues(plain.cast(pa.int64()).to_numpy()), faults)
    except pa.ArrowInvalid:
        exact = [decimal.Decimal(number) for number in plain.to_pylist()]
    pairs, lost = _pairs_of(exact)
    faults.append((lost, lambda row: f"{exact[row]} {_TOO_LONG}"))
    return Checked(OrderValues(None, pairs), faults)


def _of_floats(floats: np.ndarray) -> OrderValues:
    """Takes floats, as whole numbers where they all are that."""
    if (np.trunc(floats) == floats).all() and (np.abs(floats) < 2.0**63).all():
        return OrderValues(floats.astype(np.int64))
    return OrderValues(None, np.stack([floats, np.zeros_like(floats)], axis=1))


def _pairs_of(numbers: list[decimal.Decimal]) -> tuple[np.ndarray, np.ndarray]:
    """Splits exact numbers, [rows, 2]; marks the whole ones that do not fit, [rows]."""
    pairs = np.zeros((len(numbers), 2))
    lost = np.zeros(len(numbers), bool)
    with decimal.localcontext() as context:
        context.prec = 1100  # of any float64, exactly
        for row, number in enumerate(numbers):
            nearest = float(number)
            rest = number - decimal.Decimal(nearest)
            pairs[row] = nearest, float(rest)
            whole = number == number.to_integral_value()
            lost[row] = whole and decimal.Decimal(float(rest)) != rest
    return pairs, lost


def are_exact(column: pa.ChunkedArray) -> bool:
    """Whether numbers that a text spells are those that were read, even as floats."""
    if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        column = compute("list_flatten", column)
    if not pa.types.is_floating(column.type):
        return True
    floats = column.to_numpy()
    with np.errstate(invalid="ignore"):
        return not (np.abs(floats) >= EXACT).any()
