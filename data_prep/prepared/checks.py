"""What opening a prepared set leaves unchecked: its catalogue and its hashes."""

from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data_prep.prepared.chunks import chunks_of
from data_prep.prepared.hashes import SessionHashes, fingerprint, hash_set
from tron_jax.data.sessions import PreparedData
from tron_jax.errors import UserError

_COLUMNS = [
    (("raw_id", kind), ("train_events", pa.int64()))
    for kind in (pa.int64(), pa.string())
]


class Catalogue(NamedTuple):
    """The items of a set, in order: [num_items] raw ids, and their clicks in train."""

    raw_ids: pa.Array
    train_events: np.ndarray


def read_catalogue(data: PreparedData) -> Catalogue:
    """Reads items.parquet; raises UserError if it is damaged or of another set."""
    path = data.path / "items.parquet"
    try:
        items = pq.read_table(path, columns=["raw_id", "train_events"])
    except (pa.ArrowException, OSError) as error:
        what = str(error).splitlines()[0]
        raise UserError(f"{path}: damaged or no Parquet file ({what})") from error
    if items.num_rows != data.num_items:
        raise UserError(
            f"{path}: {items.num_rows:,} items; stats.json says {data.num_items:,}"
        )
    found = tuple(zip(items.schema.names, items.schema.types, strict=True))
    if found not in _COLUMNS or any(column.null_count for column in items.columns):
        what = "expected columns raw_id, int64 or string, and train_events, int64"
        raise UserError(f"{path}: {what}, without nulls")
    raw_ids = items["raw_id"].combine_chunks()
    return Catalogue(raw_ids, items["train_events"].to_numpy())


def check_hashes(data: PreparedData, catalogue: Catalogue) -> int:
    """Compares every array with its hash, and the hashes with the fingerprint.

    Returns how many arrays there are, or raises UserError where one differs.
    """
    expected = data.stats.get("hashes")
    if not isinstance(expected, dict):
        raise UserError(f"{data.path / 'stats.json'}: no field 'hashes'")
    train, test = SessionHashes(), SessionHashes()
    clicks = np.zeros(data.num_items + 1, np.int64)
    for chunk in chunks_of(data.train):
        train.update(chunk)
        clicks += np.bincount(chunk.items, minlength=len(clicks))
    for chunk in chunks_of(data.test):
        test.update(chunk)
    found = hash_set(train, test, catalogue.raw_ids)
    for name in sorted(found):
        if expected.get(name) != found[name]:
            what = f"{name} is not what its hash in stats.json says"
            raise UserError(f"{data.path}: {what}")
    if fingerprint(data.num_items, found) != data.fingerprint:
        what = "the fingerprint in stats.json is not of this set"
        raise UserError(f"{data.path}: {what}")
    if (clicks[1:] != catalogue.train_events).any():
        what = "train_events of items.parquet are not those of train"
        raise UserError(f"{data.path}: {what}")
    return len(found)
