"""The best items of the whole catalogue for each query, exactly, in blocks."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from tron_jax.evaluation import blocks
from tron_jax.evaluation.queries import Queries, corrected
from tron_jax.evaluation.ranking import ReadRows, score_block

TopKStep = Callable[..., tuple[jax.Array, jax.Array]]

GROUP = 8  # neighbouring items whose maximum stands for them
FEW = 8  # groups in which something better is looked for; if more, in all


def make_top_k_step(
    read_rows: ReadRows,
    *,
    num_items: int,
    block: int,
    states: int | None = None,
    fixed: bool = False,
) -> TopKStep:
    """Finds the k items of highest score for each query of a chunk.

    ``top_k_step(table_state, step, queries, count, allowed, excluded, *, k)``, k being
    static and at most num_items, takes ``Queries`` of [chunk] and how many of them
    count (scalar; the rest is padding), chunk being a multiple of ``states``;
    ``allowed`` [num_items + 1] bool, which items may be found at all; and ``excluded``
    [chunk, E] int32, ids that a single state must not get (0 = none). It returns scores
    and ids, [chunk, k], the highest first and of equal ones the lower id; -inf and 0
    where fewer than k items are left. What is returned for padding is meaningless. The
    scores of a hidden state of NaN are NaN.

    The scores are those of the ranks, ``ranking.score_block`` of blocks of one shape,
    so that an item is among the first k if and only if fewer than k rank before it.
    Item blocks are the outer loop, so a row is read, and brought up to date, once per
    chunk; no more than [block, block] scores exist at a time. On a CPU ``lax.top_k`` is
    one thread that walks a row: after the first blocks few items are better than the
    best so far, and it walks only over groups of items that hold one.

    Args:
      read_rows: reads rows of the item table as of a step.
      num_items: the largest item id.
      block: items per matmul.
      states: queries per matmul; as many as items where None.
      fixed: go through all blocks of a chunk, see ``ranking.make_rank_step``.

    Returns:
      The pure step.
    """
    states = states or block
    read = functools.partial(blocks.read_block, block=states)
    write = functools.partial(blocks.write_block, block=states)

    def top_k_step(
        table_state: Any,
        step: jax.Array,
        queries: Queries,
        count: jax.Array,
        allowed: jax.Array,
        excluded: jax.Array,
        *,
        k: int,
    ) -> tuple[jax.Array, jax.Array]:
        if not 0 < k <= num_items:
            raise ValueError(f"k is {k}, not 1..{num_items}")
        hidden, corrections = queries
        used = len(hidden) // states if fixed else (count + states - 1) // states
        grouped = not fixed and block % GROUP == 0 and block > GROUP * FEW
        group = GROUP if grouped else 1
        order = _columns(block, group)

        def of_items(b: jax.Array, found: tuple[jax.Array, jax.Array]):
            first = 1 + b * block
            ids = first + order
            inside = jnp.minimum(ids, num_items)
            rows = read_rows(table_state, inside, step)
            may = allowed[inside] & (ids <= num_items)

            def of_states(i: jax.Array, found: tuple[jax.Array, jax.Array]):
                scores = score_block(rows, read(hidden, i))
                items, added = (read(array, i) for array in corrections)
                columns = _columns_of(items - first, block, group)
                scores = corrected(scores, columns, added)
                scores = jnp.where(may, scores, -jnp.inf)
                columns = _columns_of(read(excluded, i) - first, block, group)
                scores = _without(scores, columns)
                best, best_ids = (read(array, i) for array in found)
                best, best_ids = _better(best, best_ids, scores, first, group)
                return write(found[0], best, i), write(found[1], best_ids, i)

            return lax.fori_loop(0, used, of_states, found)

        none = jnp.full((len(hidden), k), -jnp.inf, hidden.dtype)
        no_ids = jnp.zeros((len(hidden), k), jnp.int32)
        item_blocks = -(-num_items // block)
        scores, ids = lax.fori_loop(0, item_blocks, of_items, (none, no_ids))
        diverged = jnp.isnan(hidden).any(axis=1, keepdims=True)
        return jnp.where(diverged, jnp.nan, scores), ids

    return top_k_step


def _columns(block: int, group: int) -> np.ndarray:
    """[block] which item of a block stands in each column.

    A group is of neighbours, and its members stand as far apart as there are groups:
    then maxima run along whole vectors, and of two groups that tie, the first has the
    lower ids.
    """
    return np.arange(block).reshape(-1, group).T.reshape(-1)


def _better(
    best: jax.Array,
    best_ids: jax.Array,
    scores: jax.Array,
    first: jax.Array,
    group: int,
) -> tuple[jax.Array, jax.Array]:
    """The best so far and of a block, [rows, k] scores and ids.

    Args:
      best: [rows, k] scores of items before the block, descending.
      best_ids: [rows, k] their ids.
      scores: [rows, block], in the order of ``_columns``.
      first: id of the block's first item.
      group: items of a group; 1 = none are made.
    """
    if group == 1:
        ids = first + jnp.arange(scores.shape[1])
        return _best_of(best, best_ids, scores, ids)
    groups = scores.shape[1] // group
    scores = scores.reshape(-1, group, groups)
    maxima = scores.max(axis=1)
    exceeding = jnp.sum(maxima > best[:, -1:], axis=1)

    def in_few_groups() -> tuple[jax.Array, jax.Array]:
        # Of the maxima above the last of the best; where they are fewer than FEW, that
        # one itself comes first, and stands for no group.
        last = jnp.repeat(best[:, -1:], FEW, axis=1)
        _, place = lax.top_k(jnp.concatenate([last, maxima], axis=1), FEW)
        chosen = jnp.where(place < FEW, groups, place - FEW)
        chosen = jnp.sort(chosen, axis=1)  # members then stand by their ids
        inside = jnp.minimum(chosen, groups - 1)[:, None]
        found = jnp.take_along_axis(scores, inside, 2, mode="promise_in_bounds")
        found = jnp.where(chosen[:, None] < groups, found, -jnp.inf)
        ids = first + chosen[:, None] * group + jnp.arange(group)[:, None]
        return _best_of(best, best_ids, *map(_by_ids, (found, ids)))

    def in_all() -> tuple[jax.Array, jax.Array]:
        ids = first + jnp.arange(group * groups)
        return _best_of(best, best_ids, _by_ids(scores), ids)

    return lax.cond(jnp.all(exceeding <= FEW), in_few_groups, in_all)


def _by_ids(grouped: jax.Array) -> jax.Array:
    """[rows, members, groups] -> [rows, items], in the order of the items."""
    return jnp.swapaxes(grouped, 1, 2).reshape(len(grouped), -1)


def _best_of(
    best: jax.Array, best_ids: jax.Array, scores: jax.Array, ids: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The k best of those known and others, whose ids are higher and ascend."""
    # The known stand first: of equal scores theirs are the lower ids, and little is
    # higher than they are, which top_k makes use of.
    best, place = lax.top_k(jnp.concatenate([best, scores], 1), best.shape[1])
    both = jnp.concatenate([best_ids, jnp.broadcast_to(ids, scores.shape)], axis=1)
    return best, jnp.take_along_axis(both, place, 1, mode="promise_in_bounds")


def _without(scores: jax.Array, columns: jax.Array) -> jax.Array:
    """Takes columns, [rows, E], out of each row; those beyond the last do not count."""
    if not columns.shape[1]:
        return scores
    rows = jnp.arange(len(scores))[:, None]
    return scores.at[rows, columns].set(-jnp.inf, mode="drop")


def _columns_of(items: jax.Array, block: int, group: int) -> jax.Array:
    """Where items stand that are counted from a block's first, see ``_columns``.

    Of an item of another block it is a column beyond the last.
    """
    columns = items % group * (block // group) + items // group
    return jnp.where((items < 0) | (items >= block), block, columns)
