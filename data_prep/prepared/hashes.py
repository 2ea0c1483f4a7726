"""The hashes of a prepared set and the fingerprint they make, as FORMAT.md says."""

import hashlib
import mmap
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_prep.clicks.batches import TIME, lengths_and_bytes
from data_prep.prepared.flat_files import chunks
from tron_jax.data.sessions import FORMAT, VERSION, Sessions


def fingerprint(num_items: int, hashes: Mapping[str, str]) -> str:
    """Sums up the content, whatever the files are called or were written by."""
    lines = [f"{FORMAT} {VERSION}", f"num_items {num_items}"]
    lines += [f"{name} {hashes[name]}" for name in sorted(hashes)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def hash_set(
    train: Sessions,
    test: Sessions,
    raw_ids: pa.Array,
    maps: Sequence[mmap.mmap] = (),
) -> dict[str, str]:
    """Hashes each array of a set.

    Args:
      train: the train sessions.
      test: the test sessions.
      raw_ids: [num_items] the user's own id of item 1, 2, …
      maps: mapped files that these lie in, if their pages are to be released.

    Returns:
      Hexadecimal SHA-256 by name, such as ``train.items``.
    """
    hashes = {}
    for name, sessions in (("train", train), ("test", test)):
        hashes |= {
            f"{name}.items": _hash_numbers(sessions.items, maps),
            f"{name}.offsets": _hash_numbers(sessions.offsets, maps),
            f"{name}.start_time": _hash_times(sessions.start_time, maps),
            f"{name}.session": _hash_ids(sessions.ids, maps),
        }
    return hashes | {"raw_ids": _hash_ids(raw_ids)}


def _hash_numbers(values: np.ndarray, maps: Sequence[mmap.mmap]) -> str:
    digest = hashlib.sha256()
    for rows in chunks(len(values), maps):
        digest.update(np.ascontiguousarray(values[rows], "<i4").data)
    return digest.hexdigest()


def _hash_times(times: pa.Array, maps: Sequence[mmap.mmap]) -> str:
    digest = hashlib.sha256()
    for rows in chunks(len(times), maps):
        numbers = times[rows].cast(TIME).cast(pa.int64())
        numbers = pc.fill_null(numbers, -1).to_numpy()
        digest.update(np.ascontiguousarray(numbers, "<i8").data)
    return digest.hexdigest()


def _hash_ids(ids: pa.Array, maps: Sequence[mmap.mmap] = ()) -> str:
    """Hashes ids as text: over the hash of their lengths and that of their bytes."""
    lengths, texts = hashlib.sha256(), hashlib.sha256()
    for rows in chunks(len(ids), maps):
        sizes, text = lengths_and_bytes(ids[rows].cast(pa.string()))
        lengths.update(sizes.astype("<i4").data)
        texts.update(text)
    return hashlib.sha256(lengths.digest() + texts.digest()).hexdigest()
