"""What is clicked in the same sessions as an item. Needs no JAX."""

from __future__ import annotations

import numpy as np

BLOCK = 1 << 14  # sessions whose rows are summed up at a time


def neighbour_means(
    items: np.ndarray, offsets: np.ndarray, table: np.ndarray, is_new: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The mean row of what was clicked in the same sessions as each new item.

    A click on an item that is not new counts once for each new item of its session,
    however often that was clicked there.

    Args:
      items: [events] int32, 1..num_items.
      offsets: [sessions + 1]; session s is ``items[offsets[s] : offsets[s + 1]]``.
      table: [num_items + 1, width] of which the rows that are not new are read.
      is_new: [num_items + 1] bool.

    Returns:
      Of the new items in ascending order, [new, width] float32 means, 0 where there are
      none; and [new] int64 of how many clicks, 0 of an item whose neighbours are all
      new.
    """
    lengths = np.diff(offsets)
    session = np.repeat(np.arange(len(lengths)), lengths)
    clicked = items[offsets[0] : offsets[-1]]
    with_new = np.unique(session[is_new[clicked]])
    inside = np.isin(session, with_new)
    session, clicked = np.searchsorted(with_new, session[inside]), clicked[inside]
    ends = np.cumsum(lengths[with_new])
    number = np.cumsum(is_new) - 1
    sums = np.zeros((np.count_nonzero(is_new), table.shape[1]))
    counts = np.zeros(len(sums), np.int64)
    for first in range(0, len(with_new), BLOCK):
        starts = (ends - lengths[with_new])[first : first + BLOCK]
        block = slice(starts[0], ends[first : first + BLOCK][-1])
        known = ~is_new[clicked[block]]
        rows = np.where(known[:, None], table[clicked[block]], 0)
        pairs = np.stack([session[block] - first, number[clicked[block]]])[:, ~known]
        in_session, new = np.unique(pairs, axis=1)
        begins = starts - starts[0]
        np.add.at(sums, new, np.add.reduceat(rows, begins, dtype=float)[in_session])
        np.add.at(counts, new, np.add.reduceat(known, begins, dtype=int)[in_session])
    return (sums / np.maximum(counts, 1)[:, None]).astype(np.float32), counts
