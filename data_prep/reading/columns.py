"""Which columns of a log hold its clicks, and the clicks that they make."""

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from data_prep.clicks.batches import ClickBatch
from data_prep.reading.bad_rows import BadRows, Fault
from data_prep.reading.checked import Checked, ColumnSource
from data_prep.reading.click_log import Kinds, WiderKindsError
from data_prep.reading.ids import looks_like_float, read_ids
from data_prep.reading.joined_ids import join_ids
from data_prep.reading.orders import ORDER_TYPES, OrderValues, read_order
from data_prep.reading.times import TimeForm, looks_like_seconds, read_times
from tron_jax.errors import UserError


class LogColumns(NamedTuple):
    """Names of a log's columns, None where it has no such column.

    session: several with commas between make the id together, see ``join_ids``.
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

    def keys(self, present: Container[str]) -> list[str]:
        """Returns the columns that make a session's id, of those of a file."""
        if self.session in present:
            return [self.session]
        return [name.strip() for name in self.session.split(",")]

    def ids(self, present: Container[str]) -> list[str]:
        """Returns the columns that hold ids, of those of a file."""
        return list(dict.fromkeys([*self.keys(present), self.item]))

    def _needed(self, present: Container[str]) -> list[tuple[str, str]]:
        """Returns the columns that there must be, each with the flag that names it."""
        needed = [("session", name) for name in self.keys(present)]
        others = zip(self._fields[1:4], self[1:4], strict=True)
        return needed + [(flag, name) for flag, name in others if name is not None]

    def wanted(self, present: Container[str]) -> list[str]:
        """Returns the columns that there must be."""
        return [name for _, name in self._needed(present)]

    def are_in(self, present: Sequence[str]) -> bool:
        """Whether each needed column is there, once."""
        return all(present.count(name) == 1 for _, name in self._needed(present))

    def find(self, path: Path, present: Sequence[str]) -> list[str]:
        """Returns the needed columns; UserError if one is missing or there twice."""
        needed = self._needed(present)
        for flag, name in needed:
            if present.count(name) != 1:
                what = "more than one" if name in present else "no"
                names = ", ".join(n if n.isprintable() else repr(n) for n in present)
                raise UserError(
                    f"{path}: {what} column {name!r} (--{flag}); it has {names}"
                )
        return list(dict.fromkeys(name for _, name in needed))


class ReadRows(NamedTuple):
    """Rows of a file as they were read.

    table: the needed columns, [rows]; numbers: [rows] int64, of each row in the file,
    rising, and the same for events of one row; faults: of rows of the file that are not
    in the table.
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

    keys = columns.keys(rows.table.column_names)
    session = [read_ids(*of(name), kinds.text_sessions) for name in keys]
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
        rows,
        zip((*keys, *columns[1:4]), (*session, item, time, order), strict=True),
        bad,
    )
    if good is not None and not good.any():
        return None
    ids = session[0].values if len(session) == 1 else join_ids(session)
    _require(kinds, ids, item.values)
    for name, checked in zip((*keys, columns.item), (*session, item), strict=True):
        if (example := looks_like_float(checked.values)) is not None:
            bad.remark(*_remark_about(name, example))
    batch = ClickBatch(
        ids,
        item.values,
        None if time is None else time.values,
        None if order is None else _kept_order(order.values, kinds),
    )
    return batch if good is None else _only(batch, good)


def with_partition(
    table: pa.Table, needed: Iterable[str], folders: Mapping[str, str | None]
) -> pa.Table:
    """Adds the needed columns that a file lacks and its folders say of all rows."""
    for name in needed:
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
    if not marks:
        return None
    marked = np.logical_or.reduce(marks)
    # A row of several events is left out as a whole.
    return ~np.isin(rows.numbers, rows.numbers[marked])


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
