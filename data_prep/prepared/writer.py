"""Writes a prepared data set in the format of FORMAT.md."""

import contextlib
import hashlib
import io
import json
import mmap
import os
import shutil
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from data_prep.clicks.batches import TIME
from tron_jax.errors import UserError

FORMAT = "tron-prepared-sessions"
VERSION = 1
MAX_EVENTS = 2**31 - 1  # offsets are int32

_SCHEMA_ITEMS = pa.list_(pa.field("item", pa.int32(), nullable=False))
_CHUNK = 1 << 20  # rows looked at together
_PIECE = 1 << 24  # bytes written together


class Split(NamedTuple):
    """One part of a prepared set, in memory or on maps of flat files.

    items: [events] int32; offsets: [sessions+1] int32 from 0; ids: [sessions] int64 or
    string; start_time: [sessions] ``TIME``, all known and rising or all null; maps: of
    the files that these lie in.
    """

    items: np.ndarray
    offsets: np.ndarray
    ids: pa.Array
    start_time: pa.Array
    maps: tuple[mmap.mmap, ...] = ()


@contextlib.contextmanager
def new_folder(out: Path) -> Generator[Path]:
    """Yields a temporary sibling of ``out`` that becomes ``out`` when all went well.

    Whatever stops the body (an error, Ctrl-C, SIGTERM) removes the temporary folder and
    the parents made for it; a full disk is told as such.
    """
    refuse_taken(out)
    out = out.resolve()
    made = [p for p in out.parents if not p.exists()]
    partial = out.parent / f".{out.name}.partial-{os.getpid()}"
    try:
        shutil.rmtree(partial, ignore_errors=True)  # of a killed run with our number
        partial.mkdir(parents=True)
        yield partial
        partial.rename(out)
    except BaseException as error:
        shutil.rmtree(partial, ignore_errors=True)
        for parent in made:
            with contextlib.suppress(OSError):
                parent.rmdir()
        if isinstance(error, OSError):
            why = os.strerror(error.errno) if error.errno else error
            raise UserError(f"{out}: cannot be written: {why}") from error
        raise


def refuse_taken(out: Path) -> None:
    """Raises where ``out`` exists and is not an empty folder."""
    if out.is_symlink() or out.exists():
        if not out.is_dir():
            raise UserError(f"{out}: exists and is no folder; expected a new --out")
        if any(out.iterdir()):
            raise UserError(f"{out}: exists and is not empty; expected a new --out")


def write_prepared(
    folder: Path,
    train: Split,
    test: Split,
    raw_ids: pa.Array,
    about: dict[str, object],
) -> dict[str, object]:
    """Writes the four files of a prepared set.

    Args:
      folder: an existing, empty folder.
      train: the train sessions, items 1..num_items.
      test: the test sessions, possibly none.
      raw_ids: [num_items] the user's own id of item 1, 2, …
      about: the ``name``, ``filters``, ``split`` and ``sources`` of stats.json.

    Returns:
      The content of stats.json.
    """
    num_items = len(raw_ids)
    if num_items < 2:
        raise UserError(f"a catalogue of {num_items} items; expected at least two")
    counts, hashes = {}, {}
    for name, split in (("train", train), ("test", test)):
        path = folder / f"{name}.arrow"
        _write_split(path, split)
        events = item_counts(split, num_items)
        counts[name] = {
            "sessions": len(split.ids),
            "events": len(split.items),
            "items": int(np.count_nonzero(events)),
            "file_bytes": path.stat().st_size,
        }
        hashes |= {f"{name}.{part}": h for part, h in hash_split(split).items()}
        if name == "train":
            _write_items(folder / "items.parquet", raw_ids, events)
    hashes["raw_ids"] = hash_ids(raw_ids)
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


def fingerprint(num_items: int, hashes: dict[str, str]) -> str:
    """Sums up the content, whatever the files are called or were written by."""
    lines = [f"{FORMAT} {VERSION}", f"num_items {num_items}"]
    lines += [f"{part} {hashes[part]}" for part in sorted(hashes)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _write_split(path: Path, split: Split) -> None:
    """Writes one uncompressed record batch, straight from the split's buffers."""
    items = pa.ListArray.from_arrays(
        pa.array(split.offsets), pa.array(split.items), type=_SCHEMA_ITEMS
    )
    batch = pa.record_batch(
        {"session": split.ids, "items": items, "start_time": split.start_time}
    )
    options = pa.ipc.IpcWriteOptions(compression=None)
    with path.open("wb", buffering=0) as file:
        sink = pa.PythonFile(_Forgetting(file, split.maps), mode="w")
        writer = pa.ipc.new_file(sink, batch.schema, options=options)
        writer.write_batch(batch)
        writer.close()


class _Forgetting(io.RawIOBase):
    """A file to which whole maps are written without their staying in memory."""

    def __init__(self, file: io.FileIO, maps: tuple[mmap.mmap, ...]) -> None:
        self._file, self._maps = file, maps

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        rest = memoryview(data).cast("B")
        while len(rest):
            rest = rest[self._file.write(rest[:_PIECE]) :]
            _forget(self._maps)
        return len(data)

    def tell(self) -> int:
        return self._file.tell()


def _write_items(path: Path, raw_ids: pa.Array, train_events: np.ndarray) -> None:
    numbers = pa.array(np.arange(1, len(raw_ids) + 1, dtype=np.int32))
    table = pa.table({"item": numbers, "raw_id": raw_ids, "train_events": train_events})
    pq.write_table(table, path)


def item_counts(split: Split, num_items: int) -> np.ndarray:
    """Counts the events of items 1..num_items, [num_items] int64."""
    counts = np.zeros(num_items + 1, np.int64)
    for chunk in _chunks(len(split.items), split.maps):
        counts += np.bincount(split.items[chunk], minlength=num_items + 1)
    return counts[1:]


def hash_split(split: Split) -> dict[str, str]:
    """Hashes each array of a part, as FORMAT.md says."""
    return {
        "items": _hash_numbers(split.items, split.maps),
        "offsets": _hash_numbers(split.offsets, split.maps),
        "start_time": _hash_times(split.start_time, split.maps),
        "session": hash_ids(split.ids, split.maps),
    }


def _hash_numbers(values: np.ndarray, maps: tuple[mmap.mmap, ...]) -> str:
    digest = hashlib.sha256()
    for chunk in _chunks(len(values), maps):
        digest.update(np.ascontiguousarray(values[chunk], "<i4").data)
    return digest.hexdigest()


def _hash_times(times: pa.Array, maps: tuple[mmap.mmap, ...]) -> str:
    digest = hashlib.sha256()
    for chunk in _chunks(len(times), maps):
        numbers = times[chunk].cast(TIME).cast(pa.int64())
        numbers = pc.fill_null(numbers, -1).to_numpy()
        digest.update(np.ascontiguousarray(numbers, "<i8").data)
    return digest.hexdigest()


def hash_ids(ids: pa.Array, maps: tuple[mmap.mmap, ...] = ()) -> str:
    """Hashes ids as text: over the hash of their lengths and that of their bytes."""
    lengths, texts = hashlib.sha256(), hashlib.sha256()
    for chunk in _chunks(len(ids), maps):
        sizes, text = text_of(ids[chunk].cast(pa.string()))
        lengths.update(sizes.astype("<i4").data)
        texts.update(text)
    return hashlib.sha256(lengths.digest() + texts.digest()).hexdigest()


def text_of(ids: pa.Array) -> tuple[np.ndarray, pa.Buffer | bytes]:
    """Splits strings into their lengths in bytes, [ids] int32, and their bytes."""
    if not len(ids):
        return np.zeros(0, np.int32), b""
    _, places, text = ids.buffers()
    offsets = np.frombuffer(places, np.int32, len(ids) + 1, 4 * ids.offset)
    bounds = int(offsets[0]), int(offsets[-1])
    return np.diff(offsets), b"" if text is None else text[bounds[0] : bounds[1]]


def _chunks(size: int, maps: tuple[mmap.mmap, ...]) -> Iterator[slice]:
    for start in range(0, size, _CHUNK):
        yield slice(start, start + _CHUNK)
        _forget(maps)


def _forget(maps: tuple[mmap.mmap, ...]) -> None:
    """Lets go of the memory of mapped files' pages, which stay in the files."""
    if hasattr(mmap, "MADV_DONTNEED"):
        for one in maps:
            one.madvise(mmap.MADV_DONTNEED)
