"""Which columns of a log hold its clicks, and the clicks that they make."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from data_prep.clicks.batches import ClickBatch
from data_prep.reading.bad_rows import BadRows, Fault
from data_prep.reading.checked import Checked, ColumnSource
from data_prep.reading.click_log import Kinds, WiderKindsError
from data_prep.reading.ids import looks_like_float, read_ids
from data_prep.reading.orders import ORDER_TYPES, OrderValues, read_order
from data_prep.reading.times import TimeForm, looks_like_seconds, read_times
from tron_jax.errors import UserError


class LogColumns(NamedTuple):
    """Names of a log's columns, None where it has no such column.

    time_form: how times are written.
    """

    session: str
    item: str
    time: str | None = None
    order: str | None = None
    time_form: TimeForm = TimeForm()

    def text_types(self) -> dict[str, Sequence[pa.DataType]]:
        """Returns what text in the columns of times and of the order may be."""
        types = {self.order: ORDER_TYPES, self.time: self.time_form.types}
        return {name: types[name] for name in types if name is not None}

    def needed(self) -> dict[str, str]:
        """Returns the columns that there must be, by the flag that names each."""
        flags = zip(self._fields[:4], self[:4], strict=True)
        return {flag: name for flag, name in flags if name is not None}

    def are_in(self, present: Sequence[str]) -> bool:
        """Whether each needed column is there, once."""
        return all(present.count(name) == 1 for name in self.needed().values())

    def find(self, path: Path, present: Sequence[str]) -> list[str]:
        """Returns the needed columns; UserError if one is missing or there twice."""
        needed = self.needed()
        for flag, name in needed.items():
            if present.count(name) != 1:
                what = "more than one" if name in present else "no"
                names = ", ".join(present)
                raise UserError(
                    f"{path}: {what} column {name!r} (--{flag}); it has {names}"
                )
        return list(dict.fromkeys(needed.values()))


class ReadRows(NamedTuple):
    """Rows of a file as they were read.

    table: the needed columns, [rows]; numbers: [rows] int64, of each row in the file,
    rising; faults: of rows of the file that are not in the table.
    """

    path: Path
    table: pa.Table
    numbers: np.ndarray
    faults: Sequence[Fault] = ()


def to_clicks(
    rows: ReadRows,
    columns: LogColumns,
    text_types: Mapping[str, pa.DataType],
    kinds: Kinds,
    bad: BadRows,
) -> ClickBatch | None:
    """Checks rows as they were read and brings each column to its type.

    Args:
      rows: with the columns that are named.
      columns: their names.
      text_types: what text in the columns of times and of the order stands for.
      kinds: how to keep the values.
      bad: is given the rows that are malformed.

    Returns:
      The clicks of the others; None where there are none.

    Raises:
      UserError: where a value is missing or is not what it should be.
      WiderKindsError: where the values cannot be kept so.
    """

    def of(name: str) -> tuple[pa.ChunkedArray, ColumnSource]:
        return rows.table[name], ColumnSource(rows.path, name)

    session = read_ids(*of(columns.session), kinds.text_sessions)
    item = read_ids(*of(columns.item), kinds.text_items)
    time = order = None
    number = pa.float64()
    if columns.time is not None:
        like = text_types.get(columns.time, number)
        time = read_times(*of(columns.time), columns.time_form, like)
        kind = rows.table[columns.time].type
        odd = looks_like_seconds(kind, time.values, columns.time_form, like)
        if odd is not None:
            bad.remark(f"{rows.path}: column {columns.time!r}", odd)
    if columns.order is not None:
        like = text_types.get(columns.order, number)
        order = read_order(*of(columns.order), like)
    good = _leave_out(
        rows, zip(columns[:4], (session, item, time, order), strict=True), bad
    )
    if good is not None and not good.any():
        return None
    _require(kinds, session.values, item.values)
    for name, ids in ((columns.session, session), (columns.item, item)):
        if (example := looks_like_float(ids.values)) is not None:
            bad.remark(*_remark_about(name, example))
    batch = ClickBatch(
        session.values,
        item.values,
        None if time is None else time.values,
        None if order is None else _kept_order(order.values, kinds),
    )
    return batch if good is None else _only(batch, good)


def with_partition(
    table: pa.Table, columns: LogColumns, folders: Mapping[str, str | None]
) -> pa.Table:
    """Adds the needed columns that a file lacks and its folders say of all rows."""
    for name in dict.fromkeys(columns.needed().values()):
        if name not in table.column_names:
            value = pa.scalar(folders[name], pa.string())
            table = table.append_column(name, pa.repeat(value, len(table)))
    return table


def require_one_order(
    parts: Iterable[tuple[Path, bool | None]], columns: LogColumns
) -> bool | None:
    """Refuses parts of which some are ordered by times and others by numbers.

    Args:
      parts: of a log, and whether each is ordered by times, None where nothing shows.
      columns: of the log.

    Returns:
      Whether the log is.
    """
    known = [part for part in parts if part[1] is not None]
    for path, by_time in known:
        first, first_by_time = known[0]
        if by_time != first_by_time:
            kinds = ("times", "numbers")
            here, there = kinds if by_time else kinds[::-1]
            what = f"{here}, where {first} has {there}; expected one of them"
            raise ColumnSource(path, str(columns.order)).error(what)
    return known[0][1] if known else None


def _remark_about(name: str, example: str) -> tuple[str, str]:
    """What may surprise: a float that once stood beside missing ids, as text."""
    means = f"{example!r} is text, and another id than {example.partition('.')[0]}"
    return f"column {name!r}", f"{means}; write whole numbers without a fraction"


def _leave_out(
    rows: ReadRows,
    columns: Iterable[tuple[str | None, Checked[Any] | None]],
    bad: BadRows,
) -> np.ndarray | None:
    """Marks the rows without a fault, [rows] bool; None where that is all of them."""
    faults = list(rows.faults)
    marks: list[np.ndarray] = []
    for name, column in columns:
        for marked, problem in () if column is None else column.faults:
            if marked.any():
                faults.append(_fault(rows, name, marked, problem))
                marks.append(marked)
    bad.add(rows.path, faults)
    return ~np.logical_or.reduce(marks) if marks else None


def _fault(
    rows: ReadRows, name: str | None, marked: np.ndarray, problem: Callable[[int], str]
) -> Fault:
    indices = np.flatnonzero(marked)
    return Fault(
        rows.numbers[indices],
        lambda n: f", column {name!r}: {problem(int(indices[n]))}",
    )


def _require(kinds: Kinds, session: pa.Array, item: pa.Array) -> None:
    """Raises where ids are text that should be numbers."""
    texts = [not pa.types.is_integer(ids.type) for ids in (session, item)]
    found = Kinds(text_sessions=texts[0], text_items=texts[1])
    if kinds | found != kinds:
        raise WiderKindsError(found)


def _kept_order(order: OrderValues, kinds: Kinds) -> np.ndarray:
    """Returns the order as a log keeps it, or raises where that loses something."""
    if not kinds.wide_order:
        if order.whole is not None:
            return order.whole
        lost = bool(order.pairs[:, 1].any())
        raise WiderKindsError(Kinds(wide_order=True, exact_order=lost))
    if kinds.exact_order:
        return order.pairs
    if order.pairs[:, 1].any():
        raise WiderKindsError(Kinds(wide_order=True, exact_order=True))
    return np.ascontiguousarray(order.pairs[:, 0])


def _only(batch: ClickBatch, good: np.ndarray) -> ClickBatch:
    """Keeps the good rows, and of a dictionary only what is in them."""
    kept = pa.array(good)

    def of(ids: pa.Array) -> pa.Array:
        if not pa.types.is_dictionary(ids.type):
            return ids.filter(kept)
        return ids.filter(kept).dictionary_decode().dictionary_encode()

    return ClickBatch(
        of(batch.session),
        of(batch.item),
        None if batch.time is None else batch.time[good],
        None if batch.order is None else batch.order[good],
    )
