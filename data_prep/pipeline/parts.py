"""A log cut into parts by session, in memory or as temporary Arrow files.

All events of a session are in one part, in raw order, so that every step of the paper's
preparation works on one part at a time and memory is bounded by the largest part. A log
that is small is one part and never touches the disk; the steps are the same.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_prep.clicks.batches import TIME, ClickBatch, lengths_and_bytes
from data_prep.pipeline.days import DayCounts
from data_prep.pipeline.gaps import cut_at_gaps

PART_ROWS = 4_000_000  # events worked on together: some 100 bytes of memory each
MEMORY_ROWS = 12_000_000  # events of a log whose parts stay in memory: 50 bytes each
MAX_PARTS = 255  # part numbers are uint8
ORDER_COLUMNS = ("order", "order_rest")  # the second where one float does not do

_MIX = np.uint64(0x9E3779B97F4A7C15)  # spreads ids that are multiples of something
_WEIGHTS = np.random.default_rng(0).integers(2**63, size=256, dtype=np.uint64)


class Part(NamedTuple):
    """Events of some sessions in raw order.

    events: ``session`` (int32 code from 0, by first appearance in this part), ``item``
    (int32 code of the whole log), ``time`` and ``ORDER_COLUMNS`` where known;
    session_ids: [codes] raw ids; first_rows: [codes] int64 row of the log where each
    appears first; is_test: whether these are of a test part that was split off before.
    """

    events: pa.Table
    session_ids: pa.Array
    first_rows: np.ndarray
    is_test: bool = False


class ItemCodes:
    """Numbers the items of a log and its test part from 0 as they are met."""

    def __init__(self) -> None:
        """Knows no item yet."""
        self.ids: pa.Array | None = None

    def encode(self, items: pa.Array) -> np.ndarray:
        """Returns [rows] int32 codes, the same for the same id at any time."""
        coded = _coded(items)
        if self.ids is None:
            self.ids = coded.dictionary
        options = pc.SetLookupOptions(value_set=self.ids)
        known = pc.call_function("index_in", [coded.dictionary], options)
        new = known.is_null().to_numpy(zero_copy_only=False)
        codes = pc.fill_null(known, 0).to_numpy().copy()
        codes[new] = len(self.ids) + np.arange(np.count_nonzero(new))
        if new.any():
            fresh = coded.dictionary.filter(pa.array(new))
            self.ids = pa.concat_arrays([self.ids, fresh])
        return codes[coded.indices.to_numpy()].astype(np.int32)

    def __len__(self) -> int:
        """How many items were met."""
        return 0 if self.ids is None else len(self.ids)


class PartPlan(NamedTuple):
    """Into how many parts a log is cut, and whether they lie on disk."""

    count: int
    on_disk: bool


def plan_parts(rows: int) -> PartPlan:
    """Decides by how many rows a log has, about."""
    count = max(1, min(MAX_PARTS, -(-rows // PART_ROWS)))
    return PartPlan(count, rows > MEMORY_ROWS)


class Parts:
    """The parts of a log: first appended to, batch by batch, then read one by one.

    rows, days: of what was appended, how many and when.
    """

    def __init__(
        self,
        items: ItemCodes,
        folder: Path,
        name: str,
        plan: PartPlan,
        gap: int | None = None,
    ) -> None:
        """Prepares the parts; in memory, nothing is written to ``folder``.

        Where there is a ``gap``, in microseconds, longer ones between events of a
        session cut it in two.
        """
        self.rows, self.days, self._gap = 0, DayCounts(), gap
        self.on_disk = plan.on_disk
        self._items = items
        self._paths = [folder / f"{name}.{n}.arrow" for n in range(plan.count)]
        self._tables: list[list[pa.Table]] = [[] for _ in self._paths]
        self._writers: list[pa.ipc.RecordBatchStreamWriter] = []

    def __len__(self) -> int:
        """How many parts there are, some possibly without rows."""
        return len(self._paths)

    def append(self, batch: ClickBatch) -> None:
        """Adds the next rows of the log."""
        size = len(batch.session)
        columns = {
            "session": _decoded(batch.session),
            "item": pa.array(self._items.encode(batch.item)),
            "row": pa.array(np.arange(self.rows, self.rows + size)),
        }
        if batch.time is not None:
            columns["time"] = pa.array(batch.time).view(TIME)
            self.days.add(batch.time)
        if batch.order is not None:
            orders = np.atleast_2d(batch.order.T)
            for name, order in zip(ORDER_COLUMNS, orders, strict=False):
                columns[name] = pa.array(order)
        self.rows += size
        table = pa.table(columns)
        if len(self) == 1 and not self.on_disk:
            self._tables[0].append(table)
            return
        numbers = part_numbers(batch.session, len(self))
        order = pa.array(np.argsort(numbers, kind="stable"))
        table = table.take(order).combine_chunks()
        counts = np.bincount(numbers, minlength=len(self))
        ends = np.cumsum(counts)
        if self.on_disk:
            self._open(table.schema)
        for number in np.flatnonzero(counts):
            rows = table.slice(ends[number] - counts[number], counts[number])
            if self.on_disk:
                self._writers[number].write_table(rows)
            else:
                self._tables[number].append(rows)

    def _open(self, schema: pa.Schema) -> None:
        """Opens the files before the first rows are written."""
        while len(self._writers) < len(self):
            path = self._paths[len(self._writers)]
            self._writers.append(open_stream(path, schema))

    def close(self) -> None:
        """Ends the writing; the files are left."""
        for writer in self._writers:
            writer.close()

    def read(self) -> Iterator[Part]:
        """Yields each part and lets go of it: a part can be read once."""
        self.close()
        while self._tables:
            tables = self._tables.pop(0)
            if tables:
                yield self._cut(pa.concat_tables(tables))
        for path in self._paths:
            if path.exists():
                yield self._cut(read_stream(path))

    def _cut(self, table: pa.Table) -> Part:
        return _encode(table if self._gap is None else cut_at_gaps(table, self._gap))


class Log(NamedTuple):
    """A raw log in parts, its items, and where temporary files may lie.

    test: a test part that was split off before; None where there is none.
    """

    train: Parts
    test: Parts | None
    items: ItemCodes
    folder: Path

    @property
    def num_parts(self) -> int:
        """How many parts there are of both, some possibly without rows."""
        return len(self.train) + (0 if self.test is None else len(self.test))

    def read(self) -> Iterator[Part]:
        """Yields all parts, those of train first; once, as ``Parts.read`` does."""
        yield from self.train.read()
        if self.test is not None:
            for part in self.test.read():
                yield part._replace(is_test=True)


def open_stream(path: Path, schema: pa.Schema) -> pa.ipc.RecordBatchStreamWriter:
    """Opens a temporary file, in the one of Arrow's formats that ends with no index."""
    return pa.ipc.new_stream(str(path), schema)


def read_stream(path: Path) -> pa.Table:
    """Reads a temporary file, which is removed."""
    with pa.OSFile(str(path)) as file:
        table = pa.ipc.open_stream(file).read_all()
    path.unlink()
    return table


def part_numbers(sessions: pa.Array, count: int) -> np.ndarray:
    """Hashes raw session ids, [rows], to part numbers [rows] uint8."""
    if pa.types.is_integer(sessions.type):
        return _spread(sessions.to_numpy().astype(np.uint64), count)
    coded = _coded(sessions)
    numbers = _spread(_hash_texts(coded.dictionary), count)
    return numbers[coded.indices.to_numpy()]


def _spread(hashes: np.ndarray, count: int) -> np.ndarray:
    return ((hashes * _MIX >> np.uint64(32)) % np.uint64(count)).astype(np.uint8)


def _hash_texts(texts: pa.Array) -> np.ndarray:
    """Hashes strings, [ids] uint64: the sum of bytes, weighted by position."""
    lengths, data = lengths_and_bytes(texts)
    values = np.frombuffer(data, np.uint8).astype(np.uint64)
    ends = np.cumsum(lengths, dtype=np.int64)
    positions = np.arange(len(values)) - np.repeat(ends - lengths, lengths)
    weighted = values * _WEIGHTS[positions % len(_WEIGHTS)]
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(weighted)])
    return sums[ends] - sums[ends - lengths]


def _coded(ids: pa.Array) -> pa.DictionaryArray:
    return ids if pa.types.is_dictionary(ids.type) else ids.dictionary_encode()


def _decoded(ids: pa.Array) -> pa.Array:
    return ids.dictionary_decode() if pa.types.is_dictionary(ids.type) else ids


def _encode(table: pa.Table) -> Part:
    """Replaces a part's session ids by codes in the order of first appearance."""
    coded = table["session"].combine_chunks().dictionary_encode()
    codes = coded.indices.to_numpy()
    first = np.full(len(coded.dictionary), np.iinfo(np.int64).max)
    np.minimum.at(first, codes, table["row"].to_numpy())
    position = table.schema.get_field_index("session")
    events = table.set_column(position, "session", coded.indices)
    return Part(events.drop_columns("row"), coded.dictionary, first)
