"""From the user's own ids to a model's numbers, a few at a time and often."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

# ids -> [ids] int32 numbers, 1..items, or 0 of one that the model does not know
Lookup = Callable[[Sequence[Any]], np.ndarray]


def make_lookup(raw_ids: pa.Array) -> Lookup:
    """Builds what finds ids, which are all of the type of a model's own.

    ``item_ids.numbers_of`` does the same for all ids of a log at once, and looks
    through the whole catalogue for it.

    Args:
      raw_ids: [items] int64 or string, those of the model's items, in order.
    """
    if pa.types.is_string(raw_ids.type):
        numbers = {raw: n for n, raw in enumerate(raw_ids.to_pylist(), start=1)}
        return lambda ids: np.fromiter((numbers.get(x, 0) for x in ids), np.int32)
    values = raw_ids.to_numpy()
    order = np.argsort(values, kind="stable").astype(np.int32)
    ascending = values[order]

    def find(ids: Sequence[Any]) -> np.ndarray:
        wanted = np.array(ids, np.int64)
        place = np.minimum(np.searchsorted(ascending, wanted), len(ascending) - 1)
        return np.where(ascending[place] == wanted, order[place] + 1, 0).astype(
            np.int32
        )

    return find
