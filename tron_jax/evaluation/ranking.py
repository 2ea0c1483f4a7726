"""Ranks labels among all items, exactly and on the device, by counting.

Here is decided which items a label is ranked among, and how their scores are compared.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from tron_jax.evaluation import blocks
from tron_jax.evaluation.queries import Queries, corrected
from tron_jax.models.encoder import added_to

# (state of the item table, ids [n], step) -> rows [n, hidden] as of that step
ReadRows = Callable[[Any, jax.Array, jax.Array], jax.Array]
RankStep = Callable[..., tuple[jax.Array, jax.Array]]

EQUAL = 1 << 16  # what an equal item adds to a count, a higher one adding 1
MAX_BLOCK = (1 << 15) - 1


def score_block(rows: jax.Array, hidden: jax.Array) -> jax.Array:
    """Scores a block of items for a block of events.

    All scores that are compared come from this very matmul, of one shape: an item's
    score computed by another kernel differs in its last bit, and an exact duplicate of
    the label would be above or below it by chance. The barriers keep the compiler from
    merging the matmul with the code around it, which differs from call to call.

    Args:
      rows: [block, hidden] rows of the item table.
      hidden: [block, hidden] hidden states of events.

    Returns:
      [block of events, block of items].
    """
    rows, hidden = lax.optimization_barrier((rows, hidden))
    scores = jnp.einsum("vd,nd->nv", rows, hidden, precision=lax.Precision.HIGHEST)
    return lax.optimization_barrier(scores)


def count_block(
    scores: jax.Array, ids: jax.Array, label_scores: jax.Array, labels: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Counts the items of a block that score higher than the labels, and as high.

    Args:
      scores: [events, items], at most ``MAX_BLOCK`` items.
      ids: [items] item ids; 0 = not an item.
      label_scores: [events] scores of the labels.
      labels: [events] item ids, which do not count against themselves.

    Returns:
      ``higher`` and ``equal``, [events] int32. A NaN counts as higher than any label,
      and any item as higher than a label of NaN.
    """
    label_scores, labels = label_scores[:, None], labels[:, None]
    equal = jnp.where(scores == label_scores, EQUAL, 0)
    # One sum for both counts, as it costs the most after the matmul.
    count = jnp.where(scores <= label_scores, equal, 1)
    count = jnp.where((ids > 0) & (ids != labels), count, 0)
    # Along a row: a GPU would write down all counts to sum them the other way.
    total = jnp.sum(count, axis=1, dtype=jnp.int32)
    return total % EQUAL, total // EQUAL


class Own(NamedTuple):
    """The items that a device ranks among, where several share them.

    Attributes:
      first: () -> the id of the first, which may be 0.
      count: how many ids, some perhaps beyond the last item.
      read: reads rows of these items.
      total: adds up counts over the devices.
    """

    first: Callable[[], jax.Array | int]
    count: int
    read: ReadRows
    total: Callable[[Any], Any]


def make_rank_step(
    read_rows: ReadRows,
    *,
    num_items: int,
    block: int,
    fixed: bool = False,
    own: Own | None = None,
) -> RankStep:
    """Counts, for each event, the items that score higher than its label and as high.

    ``rank_step(table_state, step, queries, labels, num_events)`` takes ``Queries`` of
    [chunk], labels [chunk] and how many of them are events (scalar; the rest is
    padding); chunk is a multiple of ``block``. It returns
    ``higher`` and ``equal``, [chunk] int32, over all items but the label itself and 0;
    the values at padding are meaningless.

    Item blocks are the outer loop, so a row is read, and brought up to date, once per
    chunk; no more than [block, block] scores exist at a time. A model that diverged to
    NaN comes out worst, not best.

    Args:
      read_rows: reads rows of the item table as of a step.
      num_items: the largest item id.
      block: items and events per matmul, at most 32,767. Measured on two cores (43,097
        items, hidden 200): 1,024 takes 1.1 to 1.2 times the matmul alone.
      fixed: go through all blocks of a chunk, also those that hold no event. On an
        accelerator the host would otherwise have to read, before each block, whether
        there is one more.
      own: the items of the device that computes; None = all.

    Returns:
      The pure rank step.

    Source: ours; the published code ranks by top_k of float16 scores.
    """
    if not 0 < block <= MAX_BLOCK:
        raise ValueError(f"block is {block}, not 1..{MAX_BLOCK}")

    read_block = functools.partial(blocks.read_block, block=block)
    write_block = functools.partial(blocks.write_block, block=block)
    own = own or Own(lambda: 1, num_items, read_rows, lambda counts: counts)

    def rank_step(
        table_state: Any,
        step: jax.Array,
        queries: Queries,
        labels: jax.Array,
        num_events: jax.Array,
    ) -> tuple[jax.Array, jax.Array]:
        hidden, corrections = queries
        used = (num_events + block - 1) // block
        event_blocks = len(labels) // block if fixed else used

        def score_labels(i: jax.Array, label_scores: jax.Array) -> jax.Array:
            rows = read_rows(table_state, read_block(labels, i), step)
            scores = jnp.diagonal(score_block(rows, read_block(hidden, i)))
            return write_block(label_scores, scores, i)

        label_scores = lax.fori_loop(
            0, event_blocks, score_labels, jnp.zeros(len(labels), hidden.dtype)
        )
        label_scores += added_to(corrections, labels)

        def count_items(b: jax.Array, counts):
            start = first + b * block
            ids = start + jnp.arange(block)
            rows = own.read(table_state, jnp.minimum(ids, last), step)
            ids = jnp.where(ids <= last, ids, 0)

            def count_events(i: jax.Array, counts):
                scores = score_block(rows, read_block(hidden, i))
                items, added = (read_block(array, i) for array in corrections)
                scores = corrected(scores, items - start, added)
                found = count_block(
                    scores, ids, read_block(label_scores, i), read_block(labels, i)
                )
                return tuple(
                    write_block(count, read_block(count, i) + more, i)
                    for count, more in zip(counts, found, strict=True)
                )

            return lax.fori_loop(0, event_blocks, count_events, counts)

        none = jnp.zeros(len(labels), jnp.int32)
        item_blocks = -(-own.count // block)
        first = own.first()
        last = jnp.minimum(first + own.count - 1, num_items)
        counts = lax.fori_loop(0, item_blocks, count_items, (none, none))
        return own.total(counts)

    return rank_step
