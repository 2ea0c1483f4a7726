"""Which columns of a log hold its clicks, and the clicks that they make."""

from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from data_prep.clicks.batches import ClickBatch
from data_prep.reading import column_values
from data_prep.reading.column_values import ColumnSource
from tron_jax.errors import UserError


class LogColumns(NamedTuple):
    """Names of a log's columns, None where it has no such column.

    time_unit: of times that are numbers: "s" or "ms" since 1970.
    """

    session: str
    item: str
    time: str | None = None
    order: str | None = None
    time_unit: str = "s"

    def find(self, path: Path, present: list[str]) -> list[str]:
        """Returns the needed columns; UserError if one is missing or there twice."""
        flags = zip(self._fields[:4], self[:4], strict=True)
        needed = {flag: name for flag, name in flags if name is not None}
        for flag, name in needed.items():
            if present.count(name) != 1:
                what = "more than one" if name in present else "no"
                names = ", ".join(present)
                raise UserError(
                    f"{path}: {what} column {name!r} (--{flag}); it has {names}"
                )
        return list(dict.fromkeys(needed.values()))


def to_clicks(
    table: pa.Table, path: Path, columns: LogColumns, first_row: int, text_items: bool
) -> ClickBatch:
    """Checks rows as they were read and brings each column to its type.

    Messages count rows from ``first_row``; with ``text_items``, ids of items become
    text where they are numbers.

    Raises:
      UserError: where a value is missing or is not what it should be.
    """

    def of(name: str) -> tuple[pa.ChunkedArray, ColumnSource]:
        return table[name], ColumnSource(path, name, first_row)

    times = order = None
    session = column_values.read_ids(*of(columns.session))
    item = column_values.read_ids(*of(columns.item), text_items)
    if columns.time is not None:
        times = column_values.read_times(*of(columns.time), columns.time_unit)
    if columns.order is not None:
        order = column_values.read_order(*of(columns.order))
    return ClickBatch(session, item, times, order)
