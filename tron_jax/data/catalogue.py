"""The items of a prepared set by the ids that its log has for them. Needs no JAX."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tron_jax.errors import UserError

ITEMS = "items.parquet"  # in a prepared set, and in the workdir of a run

_COLUMNS = [
    (("raw_id", kind), ("train_events", pa.int64()))
    for kind in (pa.int64(), pa.string())
]


class Catalogue(NamedTuple):
    """The items of a set, in order: [num_items] raw ids, and their clicks in train."""

    raw_ids: pa.Array
    train_events: np.ndarray


def read_catalogue(path: Path, num_items: int) -> Catalogue:
    """Reads items.parquet; raises UserError if it is damaged or of another set."""
    try:
        items = pq.read_table(path, columns=["raw_id", "train_events"])
    except (pa.ArrowException, OSError) as error:
        what = str(error).splitlines()[0]
        raise UserError(f"{path}: damaged or no Parquet file ({what})") from error
    if items.num_rows != num_items:
        raise UserError(f"{path}: {items.num_rows:,} items; expected {num_items:,}")
    found = tuple(zip(items.schema.names, items.schema.types, strict=True))
    if found not in _COLUMNS or any(column.null_count for column in items.columns):
        what = "expected columns raw_id, int64 or string, and train_events, int64"
        raise UserError(f"{path}: {what}, without nulls")
    raw_ids = items["raw_id"].combine_chunks()
    return Catalogue(raw_ids, items["train_events"].to_numpy())
