"""Which sessions of two prepared sets are the same, by the user's own ids."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tron_jax.data.sessions import PreparedData, catalogue_of
from tron_jax.evaluation.histories import consecutive


def match(first: PreparedData, second: PreparedData) -> tuple[np.ndarray, np.ndarray]:
    """Finds the test sessions of one set in another, as far as their clicks agree.

    A set numbers items by its own train part and drops clicks on others, so a session
    may go on differently; up to there, each click was predicted from the same history.

    Args:
      first: a set.
      second: another.

    Returns:
      [test sessions of the first] row of the session in the second, 0 where there is
      none; and the number of clicks with which both begin, 0 where there is none.
    """
    row = _positions(first.test.ids, second.test.ids)
    found = row >= 0
    row = np.where(found, row, 0)
    shorter = np.minimum(first.test.lengths, second.test.lengths[row])
    clicks = np.where(found, shorter, 0).astype(np.int64)

    ids = [catalogue_of(data).raw_ids for data in (first, second)]
    # Of each item of the second set its number in the first, 0 where it has none.
    number = np.concatenate([[0], _positions(ids[1], ids[0]) + 1])
    left = consecutive(first.test.offsets[:-1].astype(np.int64), clicks)
    right = consecutive(second.test.offsets[row].astype(np.int64), clicks)
    agrees = first.test.items[left] == number[second.test.items[right]]

    start = np.cumsum(clicks) - clicks
    wrong = np.append(np.flatnonzero(~agrees), len(agrees))
    next_wrong = wrong[np.searchsorted(wrong, start)]
    return row, np.minimum(clicks, next_wrong - start)


def _positions(wanted: pa.Array, among: pa.Array) -> np.ndarray:
    """[wanted] where each id is among others, -1 where it is not."""
    if wanted.type != among.type:  # 7 is the id 7 in any set
        wanted, among = wanted.cast(pa.string()), among.cast(pa.string())
    found = pc.call_function("index_in", [wanted], pc.SetLookupOptions(among))
    return pc.fill_null(found, -1).to_numpy().astype(np.int64)
