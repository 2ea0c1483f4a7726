"""Arranged parts merged into the one order of a prepared set, all of it as a stream.

Each arranged part is a sorted run of sessions. Runs lie on disk in blocks; of each run
one or two blocks are in memory at a time, so that memory does not grow with the log.
"""

import contextlib
import itertools
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from data_prep.clicks.batches import TIME, plain_ids
from data_prep.pipeline.steps import Arranged
from data_prep.prepared.chunks import SessionChunk
from data_prep.prepared.sessions_writer import SessionsWriter
from tron_jax.console.stages import Stages

BUFFER = 1 << 25  # bytes of sessions in memory: a block of every run, together

_KEYS = 40  # bytes of a session besides its items and a text id


class Merger:
    """Collects the arranged parts of train or test in a file."""

    def __init__(self, folder: Path, name: str, num_parts: int) -> None:
        """Will write to ``folder``; parts are at most so many."""
        self.events = self.sessions = 0
        self._path = folder / f"{name}.runs.arrow"
        self._block = max(1, BUFFER // num_parts)
        self._writer: pa.ipc.RecordBatchFileWriter | None = None
        self._runs: list[range] = []  # block numbers
        self._whole_ids = self._timed = True

    def append(
        self, part: Arranged, session_ids: pa.Array, first_rows: np.ndarray
    ) -> None:
        """Adds a part; ids and first rows are those of its session codes."""
        ids = session_ids.take(pa.array(part.sessions))
        starts = part.start_time.cast(pa.int64()).fill_null(0)
        rows = pa.array(first_rows[part.sessions])
        ends = np.cumsum(part.lengths, dtype=np.int64)
        offsets = pa.array(np.concatenate([[0], ends]), pa.int32())
        items = pa.ListArray.from_arrays(offsets, pa.array(part.items))
        columns = {"start": starts, "row": rows, "id": ids, "items": items}
        table = pa.record_batch(columns)
        if self._writer is None:
            self._writer = pa.ipc.new_file(str(self._path), table.schema)
        first = self._runs[-1].stop if self._runs else 0
        sizes = 4 * ends + (_KEYS + ids.nbytes // len(ids)) * np.arange(1, len(ids) + 1)
        blocks = np.flatnonzero(np.diff(sizes // self._block, prepend=-1))
        for begin, end in itertools.pairwise([*blocks, len(ids)]):
            self._writer.write_batch(table.slice(begin, end - begin))
        self._runs.append(range(first, first + len(blocks)))
        self._whole_ids &= pa.types.is_integer(plain_ids(ids).type)
        self._timed &= not part.start_time.null_count
        self.events += len(part.items)
        self.sessions += len(ids)

    def merge(
        self, writer: SessionsWriter, number: "ItemNumbers", stages: Stages
    ) -> None:
        """Writes the sessions in order of start, then of first appearance.

        Items are numbered in the order in which they are met there.
        """
        if self._writer is None:
            return
        self._writer.close()
        done = 0
        with pa.OSFile(str(self._path)) as file:
            reader = pa.ipc.open_file(file)
            for chunk in _merged([_Run(reader, blocks) for blocks in self._runs]):
                ids, times = chunk.ids, chunk.start_time
                if self._whole_ids:
                    ids = ids.cast(pa.int64())
                if not self._timed:
                    times = pa.nulls(len(ids), TIME)
                items = number(chunk.items)
                writer.append(SessionChunk(items, chunk.lengths, ids, times))
                done += len(ids)
                stages.count("sessions", done, self.sessions)

    def close(self) -> None:
        """Removes the file."""
        if self._writer is not None:
            with contextlib.suppress(OSError):  # a full disk fails here once more
                self._writer.close()
        self._path.unlink(missing_ok=True)


class _Run:
    """Sorted sessions on disk, the first of those that are left in memory."""

    def __init__(self, reader: pa.ipc.RecordBatchFileReader, blocks: range) -> None:
        self._reader = reader
        self._unread = deque(blocks)
        self._in_memory: deque[pa.RecordBatch] = deque()

    def fill(self) -> None:
        """Reads on to two blocks in memory: then every run gives about a block."""
        while self._unread and len(self._in_memory) < 2:
            self._in_memory.append(self._reader.get_batch(self._unread.popleft()))

    def bound(self) -> tuple[int, int] | None:
        """The key of the last session in memory; None where that is the run's last."""
        if not self._unread:
            return None
        last = self._in_memory[-1]
        return last["start"][-1].as_py(), last["row"][-1].as_py()

    def pop_up_to(self, bound: tuple[int, int] | None) -> Iterator[pa.RecordBatch]:
        """Gives away what is in memory up to a key, or all of it."""
        while self._in_memory:
            block = self._in_memory[0]
            count = len(block) if bound is None else _count_up_to(block, bound)
            if count:
                yield block.slice(0, count)
            if count < len(block):
                self._in_memory[0] = block.slice(count)
                return
            self._in_memory.popleft()


def _count_up_to(block: pa.RecordBatch, bound: tuple[int, int]) -> int:
    """Counts the sessions of a sorted block whose key is at most ``bound``."""
    starts = block["start"].to_numpy()
    low = np.searchsorted(starts, bound[0], "left")
    high = np.searchsorted(starts, bound[0], "right")
    rows = block["row"].to_numpy()[low:high]
    return int(low + np.searchsorted(rows, bound[1], "right"))


def _merged(runs: list[_Run]) -> Iterator[SessionChunk]:
    """Yields the sessions of sorted runs as one, items still as codes.

    What is in memory of a run is all of it up to the run's bound. So everything up to
    the lowest bound is in memory, and nothing that is read later comes before it.
    """
    while True:
        for run in runs:
            run.fill()
        bounds = [bound for run in runs if (bound := run.bound()) is not None]
        bound = min(bounds, default=None)
        blocks = [block for run in runs for block in run.pop_up_to(bound)]
        if blocks:
            yield _sorted(pa.Table.from_batches(blocks).combine_chunks())
        if bound is None:
            return


def _sorted(table: pa.Table) -> SessionChunk:
    start, row = (table[name].to_numpy() for name in ("start", "row"))
    table = table.take(pa.array(np.lexsort((row, start))))
    columns = (table[name].combine_chunks() for name in ("items", "id", "start"))
    lists, ids, starts = columns
    lengths = np.diff(lists.offsets.to_numpy())
    return SessionChunk(lists.flatten().to_numpy(), lengths, ids, starts.cast(TIME))


class ItemNumbers:
    """Numbers items from 1 in the order in which they are first asked for."""

    def __init__(self, num_codes: int) -> None:
        """Knows no code yet."""
        self._number = np.zeros(num_codes, np.int32)
        self._codes: list[np.ndarray] = []
        self.count = 0

    def __call__(self, codes: np.ndarray) -> np.ndarray:
        """Returns the numbers of [events] codes."""
        numbers = self._number[codes]
        new = codes[numbers == 0]
        if not len(new):
            return numbers
        new = pa.array(new).unique().to_numpy()
        self._number[new] = np.arange(self.count + 1, self.count + len(new) + 1)
        self.count += len(new)
        self._codes.append(new)
        return self._number[codes]

    def codes(self) -> np.ndarray:
        """The code of item 1, 2, … ."""
        return np.concatenate([np.zeros(0, np.int32), *self._codes])
