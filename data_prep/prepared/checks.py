"""A prepared set opened for looking at, and checked against its hashes."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from data_prep.prepared.writer import (
    FORMAT,
    VERSION,
    Split,
    fingerprint,
    hash_ids,
    hash_split,
    item_counts,
)
from tron_jax.errors import UserError


class Prepared(NamedTuple):
    """A set on its memory maps.

    raw_ids, train_events: [num_items] of item 1, 2, ….
    """

    path: Path
    stats: dict[str, Any]
    train: Split
    test: Split
    raw_ids: pa.Array
    train_events: np.ndarray


def open_prepared(path: Path) -> Prepared:
    """Opens the four files of a set; what is read is not checked further."""
    if not path.is_dir():
        raise UserError(f"{path}: no such folder; expected a prepared data set")
    stats = _read_stats(path / "stats.json")
    train, test = (
        _open_split(path / f"{name}.arrow", stats[name]) for name in ("train", "test")
    )
    file = path / "items.parquet"
    try:
        items = pq.read_table(file, columns=["raw_id", "train_events"])
    except (pa.ArrowException, OSError) as error:
        raise _damaged(file, error) from error
    if items.num_rows != stats["num_items"]:
        raise UserError(
            f"{file}: {items.num_rows:,} items; stats.json says {stats['num_items']:,}"
        )
    raw_ids = items["raw_id"].combine_chunks()
    return Prepared(path, stats, train, test, raw_ids, items["train_events"].to_numpy())


def _read_stats(path: Path) -> dict[str, Any]:
    try:
        stats = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        what = "no such file; expected a prepared data set"
        raise UserError(f"{path}: {what}") from error
    except (ValueError, OSError) as error:
        raise _damaged(path, error) from error
    if not isinstance(stats, dict) or stats.get("format") != FORMAT:
        raise UserError(f"{path}: format is not {FORMAT!r}; not a prepared data set")
    if stats.get("version") != VERSION:
        raise UserError(f"{path}: version {stats.get('version')!r}; expected {VERSION}")
    needed = ("num_items", "train", "test", "hashes", "fingerprint")
    missing = [name for name in needed if name not in stats]
    if missing:
        raise UserError(f"{path}: no field {missing[0]!r}")
    return stats


def _open_split(path: Path, counts: dict[str, int]) -> Split:
    try:
        batch = pa.ipc.open_file(pa.memory_map(str(path))).get_batch(0)
        lists = batch.column("items")
        items = lists.values.to_numpy()
        offsets = lists.offsets.to_numpy() if batch.num_rows else np.zeros(1, np.int32)
        ids, starts = batch.column("session"), batch.column("start_time")
    except (pa.ArrowException, OSError, KeyError, IndexError) as error:
        raise _damaged(path, error) from error
    for name, found in (("sessions", len(ids)), ("events", len(items))):
        if found != counts[name]:
            raise UserError(
                f"{path}: {found:,} {name}; stats.json says {counts[name]:,}"
            )
    if (offsets[1:] < offsets[:-1] + 2).any() or offsets[-1] != len(items):
        raise UserError(f"{path}: offsets do not rise by two or more to the last event")
    return Split(items, offsets, ids, starts)


def _damaged(path: Path, error: Exception) -> UserError:
    return UserError(f"{path}: damaged or absent: {str(error).splitlines()[0]}")


def check(data: Prepared) -> int:
    """Compares every array with its hash, and the hashes with the fingerprint.

    Returns:
      How many arrays were compared.
    """
    stats, where = data.stats, data.path
    found = {"raw_ids": hash_ids(data.raw_ids)}
    for name, split in (("train", data.train), ("test", data.test)):
        found |= {f"{name}.{part}": h for part, h in hash_split(split).items()}
    for name in sorted(found):
        if stats["hashes"].get(name) != found[name]:
            raise UserError(f"{where}: {name} is not what its hash in stats.json says")
    if fingerprint(stats["num_items"], found) != stats["fingerprint"]:
        raise UserError(f"{where}: the fingerprint in stats.json is not of this set")
    items = data.train.items
    if len(items) and not 1 <= items.min() <= items.max() <= stats["num_items"]:
        raise UserError(f"{where}: train has items beyond the catalogue")
    if (item_counts(data.train, stats["num_items"]) != data.train_events).any():
        raise UserError(
            f"{where}: train_events of items.parquet are not those of train"
        )
    return len(found)
