"""The sessions of train or test, written chunk by chunk so that memory is bounded."""

import contextlib
import io
import mmap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from data_prep.clicks.batches import TIME, lengths_and_bytes
from data_prep.prepared.chunks import SessionChunk
from data_prep.prepared.hashes import SessionHashes
from tron_jax.errors import UserError

INT32_MAX = 2**31 - 1

_COLUMNS = ("items", "offsets", "start_time", "ids", "text")
_ITEMS_TYPE = pa.list_(pa.field("item", pa.int32(), nullable=False))
_PIECE = 1 << 24  # bytes written between two releases of mapped pages


class SessionsWriter:
    """Collects sessions, and writes them as one Arrow file in the end.

    That file holds every column in one piece, so columns are collected in flat files.
    Known on the way: ``num_sessions``, ``num_events``, ``hashes``, and ``clicks``, the
    events of item 0 (none), 1, … up to the largest so far, int64.
    """

    def __init__(self, folder: Path, name: str, limit: int = INT32_MAX) -> None:
        """Opens the flat files of "train" or "test", which ``close`` removes.

        Offsets can count ``limit`` events, or bytes of text ids.
        """
        self.num_sessions = self.num_events = self._text_bytes = 0
        self.hashes = SessionHashes()
        self.clicks = np.zeros(1, np.int64)
        self._folder, self._name, self._limit = folder, name, limit
        self._id_type: pa.DataType = pa.int64()
        self._timed = True
        self._files = {column: self._flat(column).open("wb") for column in _COLUMNS}
        self._append("offsets", np.zeros(1, np.int32))

    def append(self, chunk: SessionChunk) -> None:
        """Adds sessions; raises UserError if they are more than offsets can count."""
        self._append("items", chunk.items.astype(np.int32, copy=False))
        self._append("offsets", self._ends(chunk.lengths, self.num_events, "events"))
        self._append_ids(chunk.ids)
        times = chunk.start_time.cast(pa.int64()).fill_null(0)
        self._append("start_time", times.to_numpy())
        self._timed = self._timed and not chunk.start_time.null_count
        clicks = np.bincount(chunk.items, minlength=len(self.clicks))
        clicks[: len(self.clicks)] += self.clicks
        self.clicks = clicks
        self.hashes.update(chunk)
        self.num_sessions += len(chunk.lengths)
        self.num_events += len(chunk.items)

    def _append_ids(self, ids: pa.Array) -> None:
        if pa.types.is_integer(ids.type):
            self._append("ids", ids.to_numpy())
            return
        if not self.num_sessions:
            self._id_type = pa.string()
            self._append("ids", np.zeros(1, np.int32))
        lengths, text = lengths_and_bytes(ids)
        ends = self._ends(lengths, self._text_bytes, "bytes of session ids")
        self._append("ids", ends)
        self._files["text"].write(text)
        self._text_bytes += len(text)

    def _ends(self, lengths: np.ndarray, start: int, what: str) -> np.ndarray:
        """Turns lengths into int32 offsets of the ends."""
        ends = start + np.cumsum(lengths, dtype=np.int64)
        if len(ends) and ends[-1] > self._limit:
            raise UserError(f"a split can hold {self._limit:,} {what}; there are more")
        return ends.astype(np.int32)

    def _append(self, column: str, values: np.ndarray) -> None:
        self._files[column].write(np.ascontiguousarray(values).data)

    def write(self) -> Path:
        """Writes all sessions as one uncompressed record batch; returns the file."""
        maps = {column: self._mapped(column) for column in _COLUMNS}
        flat = {column: pa.py_buffer(mapped) for column, mapped in maps.items()}
        ids = [None, flat["ids"], flat["text"]]
        if pa.types.is_integer(self._id_type):
            ids.pop()
        # Unknown times are zeros, and so can be their own validity bits.
        known = None if self._timed else flat["start_time"]
        size, times = self.num_sessions, flat["start_time"]
        items = pa.Array.from_buffers(
            pa.int32(), self.num_events, [None, flat["items"]]
        )
        lists = [None, flat["offsets"]]
        columns = {
            "session": pa.Array.from_buffers(self._id_type, size, ids),
            "items": pa.Array.from_buffers(_ITEMS_TYPE, size, lists, children=[items]),
            "start_time": pa.Array.from_buffers(TIME, size, [known, times]),
        }
        batch = pa.record_batch(columns)
        path = self._folder / f"{self._name}.arrow"
        options = pa.ipc.IpcWriteOptions(compression=None)
        mapped = [m for m in maps.values() if isinstance(m, mmap.mmap)]
        with _ReleasingFile(path, mapped) as file:
            sink = pa.PythonFile(file, mode="w")
            with pa.ipc.new_file(sink, batch.schema, options=options) as writer:
                writer.write_batch(batch)
        return path

    def _mapped(self, column: str) -> mmap.mmap | bytes:
        """Maps a flat file; an empty one cannot be mapped."""
        self._files[column].close()
        with self._flat(column).open("rb") as file:
            if not self._flat(column).stat().st_size:
                return b""
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def _flat(self, column: str) -> Path:
        return self._folder / f"{self._name}.{column}.flat"

    def close(self) -> None:
        """Closes and removes the flat files."""
        for column, file in self._files.items():
            with contextlib.suppress(OSError):  # a full disk fails here once more
                file.close()
            self._flat(column).unlink(missing_ok=True)


class _ReleasingFile(io.FileIO):
    """A file to which whole maps are written without their staying in memory."""

    def __init__(self, path: Path, maps: Sequence[mmap.mmap]) -> None:
        super().__init__(path, "w")
        self._maps = maps

    def write(self, data: Any, /) -> int:
        rest = memoryview(data).cast("B")
        while len(rest):
            rest = rest[super().write(rest[:_PIECE]) :]
            for mapped in self._maps:
                if hasattr(mmap, "MADV_DONTNEED"):
                    mapped.madvise(mmap.MADV_DONTNEED)
        return len(data)
