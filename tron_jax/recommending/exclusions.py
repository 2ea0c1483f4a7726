"""Items that single predictions must not get, few of most of them and many of some."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from tron_jax.evaluation.histories import consecutive

# Ids of one prediction: as many as a chunk has room for in each of its rows, and as
# many as a block has. A prediction with more is made by itself, by a mask as long as
# the catalogue.
MOST_OF_CHUNK, MOST_OF_BLOCK = 256, 4096
WIDTHS = (0, 8, 32, 128, 256, 1024, 4096)  # of rows of ids; each is compiled


class Ragged(NamedTuple):
    """Rows of different lengths, which may overlap in memory.

    Attributes:
      values: [values] of all rows.
      starts: [rows] where in them each row begins.
      ends: [rows] and where it ends.
    """

    values: np.ndarray
    starts: np.ndarray
    ends: np.ndarray


def divide(
    excluded: Ragged | None,
    index: np.ndarray,
    allowed: np.ndarray,
    chunk: int,
    block: int,
) -> Iterator[tuple[np.ndarray | None, np.ndarray, np.ndarray]]:
    """Divides a chunk by how many ids its predictions must not get.

    Args:
      excluded: ids of each prediction; None = of none.
      index: [predictions] of the chunk.
      allowed: [num_items + 1] bool, which items any prediction may get.
      chunk: queries of the chunk.
      block: of those that have many ids, made together.

    Yields:
      Which predictions of the chunk are meant, None = all; the items that these may
      get; and ids that each of them must not get, [chunk or block, E] int32, padded by
      0. What is found of a prediction that comes again replaces what was.
    """
    if excluded is None:
        yield None, allowed, np.zeros((chunk, 0), np.int32)
        return
    values, starts = excluded.values, excluded.starts[index].astype(np.int64)
    counts = excluded.ends[index].astype(np.int64) - starts
    few = np.where(counts > MOST_OF_CHUNK, 0, counts)
    yield None, allowed, _laid_out(values, starts, few, chunk)
    order = np.argsort(counts, kind="stable")
    bounds = np.searchsorted(counts[order], (MOST_OF_CHUNK, MOST_OF_BLOCK), "right")
    first, last = map(int, bounds)
    for begin in range(first, last, block):
        some = order[begin : min(begin + block, last)]
        yield some, allowed, _laid_out(values, starts[some], counts[some], block)
    for row in order[last:]:
        left = allowed.copy()
        left[values[starts[row] : starts[row] + counts[row]]] = False
        yield np.array([row]), left, np.zeros((block, 0), np.int32)


def _laid_out(
    values: np.ndarray, starts: np.ndarray, counts: np.ndarray, size: int
) -> np.ndarray:
    """Lays out the ids of some predictions in rows.

    Args:
      values: ids.
      starts: [predictions] where in them those of each begin.
      counts: [predictions] how many each has.
      size: rows to lay out, at least as many as predictions.

    Returns:
      [size, E] int32 ids, padded by 0.
    """
    most = int(counts.max(initial=0))
    rows = np.zeros((size, next(w for w in WIDTHS if w >= most)), np.int32)
    row = np.repeat(np.arange(len(counts)), counts)
    column = consecutive(np.zeros_like(counts), counts)
    rows[row, column] = values[consecutive(starts, counts)]
    return rows
