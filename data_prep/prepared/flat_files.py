"""Sessions collected chunk by chunk in flat files, so that memory is bounded."""

import contextlib
import mmap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import pyarrow as pa

from data_prep.clicks.batches import TIME, lengths_and_bytes
from tron_jax.data.sessions import Sessions
from tron_jax.errors import UserError

INT32_MAX = 2**31 - 1

_COLUMNS = ("items", "offsets", "start_time", "ids", "text")
_ROWS = 1 << 20  # read from a map between two releases of its pages


class SessionChunk(NamedTuple):
    """Some sessions in the order of a prepared set.

    items: [events] int32, the sessions laid end to end; lengths: [sessions] their
    events; ids: [sessions] int64 or string, the same type in every chunk; start_time:
    [sessions] ``TIME``, all null in every chunk or none in any.
    """

    items: np.ndarray
    lengths: np.ndarray
    ids: pa.Array
    start_time: pa.Array


class FlatFiles:
    """The sessions of train or test, a flat file for each column.

    ``maps`` are the mapped files, once they are finished.
    """

    def __init__(self, folder: Path, name: str, limit: int = INT32_MAX) -> None:
        """Opens the files, which ``close`` removes.

        Args:
          folder: where they lie.
          name: of this part of the set, "train" or "test".
          limit: events, or bytes of text ids, that int32 offsets can count.
        """
        self._paths = {column: folder / f"{name}.{column}.flat" for column in _COLUMNS}
        self._files: dict[str, BinaryIO] = {}
        for column, path in self._paths.items():
            self._files[column] = path.open("wb")
        self._limit = limit
        self.num_sessions = self._events = self._text = 0
        self._id_type: pa.DataType = pa.int64()
        self._timed = True
        self.maps: list[mmap.mmap] = []
        self._write("offsets", np.zeros(1, np.int32))

    def append(self, chunk: SessionChunk) -> None:
        """Adds sessions.

        Raises:
          UserError: if there are more than offsets can count.
        """
        self._write("items", chunk.items.astype(np.int32, copy=False))
        self._write("offsets", self._ends(chunk.lengths, self._events, "events"))
        self._append_ids(chunk.ids)
        self._timed = self._timed and not chunk.start_time.null_count
        times = chunk.start_time.cast(pa.int64()).fill_null(0).to_numpy()
        self._write("start_time", times)
        self.num_sessions += len(chunk.lengths)
        self._events += len(chunk.items)

    def _append_ids(self, ids: pa.Array) -> None:
        if pa.types.is_integer(ids.type):
            self._write("ids", ids.to_numpy())
            return
        if not self.num_sessions:
            self._id_type = pa.string()
            self._write("ids", np.zeros(1, np.int32))
        lengths, text = lengths_and_bytes(ids)
        self._write("ids", self._ends(lengths, self._text, "bytes of session ids"))
        self._files["text"].write(text)
        self._text += len(text)

    def _ends(self, lengths: np.ndarray, start: int, what: str) -> np.ndarray:
        """Turns lengths into int32 offsets of the ends."""
        ends = start + np.cumsum(lengths, dtype=np.int64)
        if len(ends) and ends[-1] > self._limit:
            raise UserError(f"a split can hold {self._limit:,} {what}; there are more")
        return ends.astype(np.int32)

    def _write(self, column: str, values: np.ndarray) -> None:
        self._files[column].write(np.ascontiguousarray(values).data)

    def finish(self) -> Sessions:
        """Closes the files and maps them."""
        for file in self._files.values():
            file.close()
        ids = [None, self._map("ids"), self._map("text")]
        if pa.types.is_integer(self._id_type):
            ids.pop()
        times = self._map("start_time")
        # Unknown times are zeros, and so can be their own validity bits.
        known = None if self._timed else times
        return Sessions(
            np.frombuffer(self._map("items"), np.int32),
            np.frombuffer(self._map("offsets"), np.int32),
            pa.Array.from_buffers(self._id_type, self.num_sessions, ids),
            pa.Array.from_buffers(TIME, self.num_sessions, [known, times]),
        )

    def _map(self, column: str) -> pa.Buffer:
        """Maps a flat file; an empty one cannot be mapped."""
        with self._paths[column].open("rb") as file:
            if not self._paths[column].stat().st_size:
                return pa.py_buffer(b"")
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self.maps.append(mapped)
        return pa.py_buffer(mapped)

    def close(self) -> None:
        """Closes and removes the files; finished sessions stay readable."""
        for column, file in self._files.items():
            with contextlib.suppress(OSError):  # a full disk fails here once more
                file.close()
            self._paths[column].unlink(missing_ok=True)


def chunks(size: int, maps: Sequence[mmap.mmap] = ()) -> Iterator[slice]:
    """Yields slices that cover ``size`` rows; pages of maps are released in between."""
    for start in range(0, size, _ROWS):
        yield slice(start, start + _ROWS)
        release_pages(maps)


def release_pages(maps: Sequence[mmap.mmap]) -> None:
    """Lets go of the memory of mapped files' pages, which stay in the files."""
    if hasattr(mmap, "MADV_DONTNEED"):
        for mapped in maps:
            mapped.madvise(mmap.MADV_DONTNEED)
