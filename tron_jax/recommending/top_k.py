"""The best items of the whole catalogue for each hidden state, exactly, in blocks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from tron_jax.evaluation.ranking import ReadRows, score_block

TopKStep = Callable[..., tuple[jax.Array, jax.Array]]


def make_top_k_step(
    read_rows: ReadRows, *, num_items: int, block: int, fixed: bool = False
) -> TopKStep:
    """Finds the k items of highest score for each hidden state of a chunk.

    ``top_k_step(table_state, step, hidden, count, allowed, excluded, *, k)``, k being
    static and at most num_items, takes hidden states [chunk, hidden] and how many of
    them count (scalar; the rest is padding), chunk being a multiple of ``block``;
    ``allowed`` [num_items + 1] bool, which items may be found at all; and ``excluded``
    [chunk, E] int32, ids that a single state must not get (0 = none). It returns scores
    and ids, [chunk, k], the highest first and of equal ones the lower id; -inf and 0
    where fewer than k items are left. What is returned for padding is meaningless. Of a
    model that diverged, scores are NaN.

    The scores are those of the ranks, ``ranking.score_block`` of blocks of one shape,
    so that an item is among the first k if and only if fewer than k rank before it.
    Item blocks are the outer loop, so a row is read, and brought up to date, once per
    chunk; no more than [block, block] scores exist at a time.

    Args:
      read_rows: reads rows of the item table as of a step.
      num_items: the largest item id.
      block: items and hidden states per matmul.
      fixed: go through all blocks of a chunk, see ``ranking.make_rank_step``.

    Returns:
      The pure step.
    """

    def read(array: jax.Array, i: jax.Array) -> jax.Array:
        return lax.dynamic_slice_in_dim(array, i * block, block)

    def write(array: jax.Array, values: jax.Array, i: jax.Array) -> jax.Array:
        return lax.dynamic_update_slice_in_dim(array, values, i * block, 0)

    def top_k_step(
        table_state: Any,
        step: jax.Array,
        hidden: jax.Array,
        count: jax.Array,
        allowed: jax.Array,
        excluded: jax.Array,
        *,
        k: int,
    ) -> tuple[jax.Array, jax.Array]:
        if not 0 < k <= num_items:
            raise ValueError(f"k is {k}, not 1..{num_items}")
        used = len(hidden) // block if fixed else (count + block - 1) // block

        def of_items(b: jax.Array, found: tuple[jax.Array, jax.Array]):
            first = 1 + b * block
            ids = first + jnp.arange(block)
            inside = jnp.minimum(ids, num_items)
            rows = read_rows(table_state, inside, step)
            may = allowed[inside] & (ids <= num_items)

            def of_states(i: jax.Array, found: tuple[jax.Array, jax.Array]):
                scores = jnp.where(may, score_block(rows, read(hidden, i)), -jnp.inf)
                scores = _without(scores, read(excluded, i) - first)
                best, best_ids = (read(array, i) for array in found)
                # The best so far stand first: of equal scores theirs are lower ids, and
                # little of a block is higher than they are, which top_k makes use of.
                both = jnp.concatenate([best, scores], axis=1)
                best, place = lax.top_k(both, k)
                known = jnp.take_along_axis(best_ids, jnp.minimum(place, k - 1), axis=1)
                best_ids = jnp.where(place < k, known, first + place - k)
                return write(found[0], best, i), write(found[1], best_ids, i)

            return lax.fori_loop(0, used, of_states, found)

        none = jnp.full((len(hidden), k), -jnp.inf, hidden.dtype)
        no_ids = jnp.zeros((len(hidden), k), jnp.int32)
        item_blocks = -(-num_items // block)
        return lax.fori_loop(0, item_blocks, of_items, (none, no_ids))

    return top_k_step


def _without(scores: jax.Array, columns: jax.Array) -> jax.Array:
    """Takes columns, [rows, E] where they are any, out of the scores of each row."""
    if not columns.shape[1]:
        return scores
    outside = scores.shape[1]
    columns = jnp.where(columns < 0, outside, columns)  # or they count from the end
    rows = jnp.arange(len(scores))[:, None]
    return scores.at[rows, columns].set(-jnp.inf, mode="drop")
