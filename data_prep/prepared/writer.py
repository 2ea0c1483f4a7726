"""Writes a prepared data set in the format of FORMAT.md."""

import io
import json
import mmap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data_prep.prepared.flat_files import chunks, release_pages
from data_prep.prepared.hashes import fingerprint, hash_set
from tron_jax.data.sessions import FORMAT, VERSION, Sessions
from tron_jax.errors import UserError

_ITEMS_TYPE = pa.list_(pa.field("item", pa.int32(), nullable=False))
_PIECE = 1 << 24  # bytes written between two releases of mapped pages


def write_prepared(
    folder: Path,
    train: Sessions,
    test: Sessions,
    raw_ids: pa.Array,
    about: dict[str, object],
    maps: Sequence[mmap.mmap] = (),
) -> dict[str, Any]:
    """Writes the four files of a prepared set.

    Args:
      folder: an existing, empty folder.
      train: the train sessions, items 1..num_items, offsets from 0.
      test: the test sessions, possibly none.
      raw_ids: [num_items] the user's own id of item 1, 2, …
      about: the ``name``, ``filters``, ``split`` and ``sources`` of stats.json.
      maps: mapped files that the sessions lie in; what was read of them does not stay
        in memory.

    Returns:
      The content of stats.json.
    """
    num_items = len(raw_ids)
    if num_items < 2:
        raise UserError(f"a catalogue of {num_items} items; expected at least two")
    counts = {}
    for name, sessions in (("train", train), ("test", test)):
        path = folder / f"{name}.arrow"
        _write_sessions(path, sessions, maps)
        clicks = count_clicks(sessions, num_items, maps)
        counts[name] = {
            "sessions": sessions.num_sessions,
            "events": sessions.num_events,
            "items": int(np.count_nonzero(clicks)),
            "file_bytes": path.stat().st_size,
        }
        if name == "train":
            _write_items(folder / "items.parquet", raw_ids, clicks)
    hashes = hash_set(train, test, raw_ids, maps)
    stats = {
        "format": FORMAT,
        "version": VERSION,
        "num_items": num_items,
        **counts,
        **about,
        "hashes": hashes,
        "fingerprint": fingerprint(num_items, hashes),
    }
    text = json.dumps(stats, indent=2, ensure_ascii=False) + "\n"
    (folder / "stats.json").write_text(text, encoding="utf-8")
    return stats


def count_clicks(
    sessions: Sessions, num_items: int, maps: Sequence[mmap.mmap] = ()
) -> np.ndarray:
    """Counts the events of items 1..num_items, [num_items] int64."""
    counts = np.zeros(num_items + 1, np.int64)
    for rows in chunks(len(sessions.items), maps):
        counts += np.bincount(sessions.items[rows], minlength=num_items + 1)
    return counts[1:]


def _write_sessions(path: Path, sessions: Sessions, maps: Sequence[mmap.mmap]) -> None:
    """Writes one uncompressed record batch, straight from the sessions' buffers."""
    items = pa.ListArray.from_arrays(
        pa.array(sessions.offsets), pa.array(sessions.items), type=_ITEMS_TYPE
    )
    batch = pa.record_batch(
        {"session": sessions.ids, "items": items, "start_time": sessions.start_time}
    )
    options = pa.ipc.IpcWriteOptions(compression=None)
    with path.open("wb", buffering=0) as file:
        sink = pa.PythonFile(_ReleasingFile(file, maps), mode="w")
        writer = pa.ipc.new_file(sink, batch.schema, options=options)
        writer.write_batch(batch)
        writer.close()


class _ReleasingFile(io.RawIOBase):
    """A file to which whole maps are written without their staying in memory."""

    def __init__(self, file: io.FileIO, maps: Sequence[mmap.mmap]) -> None:
        self._file, self._maps = file, maps

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        rest = memoryview(data).cast("B")
        while len(rest):
            rest = rest[self._file.write(rest[:_PIECE]) :]
            release_pages(self._maps)
        return len(data)

    def tell(self) -> int:
        return self._file.tell()


def _write_items(path: Path, raw_ids: pa.Array, train_events: np.ndarray) -> None:
    numbers = pa.array(np.arange(1, len(raw_ids) + 1, dtype=np.int32))
    table = pa.table({"item": numbers, "raw_id": raw_ids, "train_events": train_events})
    pq.write_table(table, path)
