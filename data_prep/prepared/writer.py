"""Writes a prepared data set in the format of FORMAT.md."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data_prep.prepared.hashes import fingerprint, hash_set
from data_prep.prepared.sessions_writer import SessionsWriter
from tron_jax.data.sessions import FORMAT, VERSION
from tron_jax.errors import UserError


def write_prepared(
    folder: Path,
    train: SessionsWriter,
    test: SessionsWriter,
    raw_ids: pa.Array,
    about: dict[str, object],
) -> dict[str, Any]:
    """Writes the four files of a prepared set.

    Args:
      folder: an existing folder.
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
    counts = {}
    for name, sessions in (("train", train), ("test", test)):
        counts[name] = {
            "sessions": sessions.num_sessions,
            "events": sessions.num_events,
            "items": int(np.count_nonzero(sessions.clicks)),
            "file_bytes": sessions.write().stat().st_size,
        }
    clicks = np.zeros(num_items, np.int64)
    clicks[: len(train.clicks) - 1] = train.clicks[1:]
    numbers = pa.array(np.arange(1, num_items + 1, dtype=np.int32))
    items = pa.table({"item": numbers, "raw_id": raw_ids, "train_events": clicks})
    pq.write_table(items, folder / "items.parquet")
    hashes = hash_set(train.hashes, test.hashes, raw_ids)
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
    # The name of a raw file may hold bytes that are no text.
    (folder / "stats.json").write_bytes(text.encode("utf-8", "backslashreplace"))
    return stats
