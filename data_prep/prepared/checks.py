"""What opening a prepared set leaves unchecked: the hashes of its arrays."""

import numpy as np

from data_prep.prepared.chunks import chunks_of
from data_prep.prepared.hashes import SessionHashes, fingerprint, hash_set
from tron_jax.data.catalogue import Catalogue
from tron_jax.data.sessions import PreparedData
from tron_jax.errors import UserError


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
