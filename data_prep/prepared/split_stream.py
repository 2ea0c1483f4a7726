"""A split collected chunk by chunk in flat files, so that memory is bounded."""

import contextlib
import mmap
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa

from data_prep.clicks.batches import TIME
from data_prep.prepared.writer import MAX_EVENTS, Split, text_of
from tron_jax.errors import UserError

MAX_TEXT = 2**31 - 1  # bytes of text ids: their offsets are int32 too

_COLUMNS = ("items", "offsets", "starts", "ids", "text")


class SplitStream:
    """Collects sessions in the order of a prepared set."""

    def __init__(self, folder: Path, name: str) -> None:
        """Opens the flat files, which ``close`` removes."""
        self._paths = {part: folder / f"{name}.{part}.flat" for part in _COLUMNS}
        self._files: dict[str, BinaryIO] = {}
        for part, path in self._paths.items():
            self._files[part] = path.open("wb")
        self._sessions = self._events = self._text = 0
        self._ids: pa.DataType = pa.int64()
        self._timed = True
        self._maps: list[mmap.mmap] = []
        self._put("offsets", np.zeros(1, np.int32))

    def append(
        self, items: np.ndarray, lengths: np.ndarray, ids: pa.Array, starts: pa.Array
    ) -> None:
        """Adds sessions.

        Args:
          items: [events] int32, the sessions laid end to end.
          lengths: [sessions] their events.
          ids: [sessions] int64 or string, the same type each time.
          starts: [sessions] ``TIME``; all null, each time, or none.
        """
        ends = self._events + np.cumsum(lengths, dtype=np.int64)
        if len(ends) and ends[-1] > MAX_EVENTS:
            raise UserError(f"a split can hold {MAX_EVENTS:,} events; there are more")
        self._put("items", items.astype(np.int32, copy=False))
        self._put("offsets", ends.astype(np.int32))
        self._put_ids(ids)
        self._timed = self._timed and not starts.null_count
        times = starts.cast(pa.int64()).fill_null(0).to_numpy()
        self._put("starts", times)
        self._sessions += len(lengths)
        self._events += len(items)

    def _put_ids(self, ids: pa.Array) -> None:
        if pa.types.is_integer(ids.type):
            self._put("ids", ids.to_numpy())
            return
        if not self._sessions:
            self._ids = pa.string()
            self._put("ids", np.zeros(1, np.int32))
        lengths, text = text_of(ids)
        ends = self._text + np.cumsum(lengths, dtype=np.int64)
        if len(ends) and ends[-1] > MAX_TEXT:
            what = "bytes of session ids; there are more"
            raise UserError(f"a split can hold {MAX_TEXT:,} {what}")
        self._put("ids", ends.astype(np.int32))
        self._files["text"].write(text)
        self._text += len(text)

    def _put(self, column: str, values: np.ndarray) -> None:
        self._files[column].write(np.ascontiguousarray(values).data)

    def finish(self) -> Split:
        """Closes the files and maps them."""
        for file in self._files.values():
            file.close()
        ids = [None, self._buffer("ids"), self._buffer("text")]
        if pa.types.is_integer(self._ids):
            ids.pop()
        starts = self._buffer("starts")
        # Unknown starts are zeros, and so can be their own validity bits.
        known = None if self._timed else starts
        return Split(
            np.frombuffer(self._buffer("items"), np.int32),
            np.frombuffer(self._buffer("offsets"), np.int32),
            pa.Array.from_buffers(self._ids, self._sessions, ids),
            pa.Array.from_buffers(TIME, self._sessions, [known, starts]),
            tuple(self._maps),
        )

    def _buffer(self, column: str) -> pa.Buffer:
        """Maps a flat file; an empty one cannot be mapped."""
        with self._paths[column].open("rb") as file:
            if not self._paths[column].stat().st_size:
                return pa.py_buffer(b"")
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._maps.append(mapped)
        return pa.py_buffer(mapped)

    def close(self) -> None:
        """Closes and removes the flat files; a mapped split stays readable."""
        for part, file in self._files.items():
            with contextlib.suppress(OSError):  # a full disk fails here once more
                file.close()
            self._paths[part].unlink(missing_ok=True)
