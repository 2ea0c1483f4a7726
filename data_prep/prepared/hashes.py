"""The hashes of a prepared set and the fingerprint they make, as FORMAT.md says."""

import hashlib
from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_prep.clicks.batches import lengths_and_bytes
from data_prep.prepared.chunks import SessionChunk
from tron_jax.data.sessions import FORMAT, VERSION

_IDS = 1 << 20  # turned to text together


def fingerprint(num_items: int, hashes: Mapping[str, str]) -> str:
    """Sums up the content, whatever the files are called or were written by."""
    lines = [f"{FORMAT} {VERSION}", f"num_items {num_items}"]
    lines += [f"{name} {hashes[name]}" for name in sorted(hashes)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def hash_set(
    train: "SessionHashes", test: "SessionHashes", raw_ids: pa.Array
) -> dict[str, str]:
    """Returns the SHA-256 of each array of a set, such as ``train.items``, in hex.

    ``train`` and ``test`` have seen all sessions; raw_ids: [num_items] the user's own
    id of item 1, 2, …
    """
    ids = _IdsHash()
    ids.update(raw_ids)
    parts = train.by_name("train") | test.by_name("test")
    return parts | {"raw_ids": ids.hexdigest()}


class SessionHashes:
    """Hashes the arrays of train or test, chunk by chunk."""

    def __init__(self) -> None:
        """Has seen no session yet."""
        self._items, self._start_time = hashlib.sha256(), hashlib.sha256()
        self._offsets = hashlib.sha256(bytes(4))
        self._events = 0
        self._ids = _IdsHash()

    def update(self, chunk: SessionChunk) -> None:
        """Adds the next sessions."""
        ends = self._events + np.cumsum(chunk.lengths, dtype=np.int64)
        times = pc.fill_null(chunk.start_time.cast(pa.int64()), -1)
        self._items.update(np.ascontiguousarray(chunk.items, "<i4").data)
        self._offsets.update(ends.astype("<i4").data)
        self._start_time.update(np.ascontiguousarray(times.to_numpy(), "<i8").data)
        self._ids.update(chunk.ids)
        self._events += len(chunk.items)

    def by_name(self, part: str) -> dict[str, str]:
        """Returns the hash of each array of the part, "train" or "test"."""
        return {
            f"{part}.items": self._items.hexdigest(),
            f"{part}.offsets": self._offsets.hexdigest(),
            f"{part}.start_time": self._start_time.hexdigest(),
            f"{part}.session": self._ids.hexdigest(),
        }


class _IdsHash:
    """Hashes ids as text: over the hash of their lengths and that of their bytes."""

    def __init__(self) -> None:
        self._lengths, self._texts = hashlib.sha256(), hashlib.sha256()

    def update(self, ids: pa.Array) -> None:
        for start in range(0, len(ids), _IDS):
            texts = ids.slice(start, _IDS).cast(pa.string())
            lengths, text = lengths_and_bytes(texts)
            self._lengths.update(lengths.astype("<i4").data)
            self._texts.update(text)

    def hexdigest(self) -> str:
        both = self._lengths.digest() + self._texts.digest()
        return hashlib.sha256(both).hexdigest()
