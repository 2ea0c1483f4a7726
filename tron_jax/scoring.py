"""Candidates of an event: their scores, and the hardest of them."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from tron_jax.data.packing import Batch
from tron_jax.negatives import Candidates, hits
from tron_jax.touched import Touched

LOWEST = float(jnp.finfo(jnp.float32).min)


# gradient by scores [N, C] -> gradient by hidden states [N, hidden], and by rows: pairs
# of row numbers [...] and gradients [..., hidden], to be added up
Backward = Callable[[jax.Array], tuple[jax.Array, list[tuple[jax.Array, jax.Array]]]]


def scores(
    hidden: jax.Array,
    rows: jax.Array,
    candidates: Candidates,
    touched: Touched,
    batch: Batch,
) -> tuple[jax.Array, Backward]:
    """Scores every candidate by two matmuls; the in-batch ones are then picked.

    Args:
      hidden: [N, hidden] of each event.
      rows: [R, hidden] touched rows of the item table.
      candidates: the candidates.
      touched: where the items of the step are found in ``rows``.
      batch: the events.

    Returns:
      [N, k + m] scores, and what turns their gradient into that of what made them.
    """
    places, _ = candidates.of_events(batch.session)

    def score(hidden, drawn_rows, input_rows):
        in_batch = jnp.take_along_axis(hidden @ input_rows.T, places, axis=1)
        return jnp.concatenate([hidden @ drawn_rows.T, in_batch], axis=1)

    numbers = (touched.drawn[0], touched.inputs)
    every, back = jax.vjp(score, hidden, *(rows[number] for number in numbers))

    def backward(by_scores):
        by_hidden, *by_rows = back(by_scores)
        return by_hidden, list(zip(numbers, by_rows, strict=True))

    return every, backward


def kept(candidates: Candidates, batch: Batch, *, mask_hits: bool) -> jax.Array:
    """Says which candidates of each event count.

    Args:
      candidates: the candidates.
      batch: the events.
      mask_hits: leave out candidates that equal the label.

    Returns:
      [N, k + m] bool.
    """
    places, in_batch = candidates.of_events(batch.session)
    shape = (batch.labels.size, candidates.drawn.shape[1])
    drawn = jnp.broadcast_to(candidates.drawn_keep, shape)
    if mask_hits:
        drawn &= ~hits(candidates.drawn[0], batch.labels)
        in_batch &= ~hits(batch.items[places], batch.labels)
    return jnp.concatenate([drawn, in_batch], axis=1)


def selection_scores(
    hidden: jax.Array,
    rows: jax.Array,
    candidates: Candidates,
    touched: Touched,
    batch: Batch,
    *,
    mask_hits: bool,
) -> jax.Array:
    """Scores every candidate to select by; what does not count has ``LOWEST``.

    The same as ``scores`` where ``kept`` and ``LOWEST`` elsewhere, with fewer passes
    over the largest array of a step: the matmul leaves room for the in-batch scores,
    which are put there in place, and a mask that is known to be true costs nothing.

    Args:
      hidden: [N, hidden] of each event.
      rows: [R, hidden] touched rows of the item table.
      candidates: the candidates.
      touched: where the items of the step are found in ``rows``.
      batch: the events.
      mask_hits: leave out candidates that equal the label.

    Returns:
      [N, k + m] scores.
    """
    places, keep = candidates.of_events(batch.session)
    room = jnp.zeros(places.shape[1], jnp.int32)
    every = hidden @ rows[jnp.concatenate([touched.drawn[0], room])].T
    in_batch = hidden @ rows[touched.inputs].T
    in_batch = jnp.take_along_axis(in_batch, places, axis=1)
    if mask_hits:
        ids = jnp.concatenate([candidates.drawn[0], room])
        every = jnp.where(hits(ids, batch.labels), LOWEST, every)
        keep &= ~hits(batch.items[places], batch.labels)
    every = jnp.where(candidates.drawn_keep, every, LOWEST)
    in_batch = jnp.where(keep, in_batch, LOWEST)
    return jax.lax.dynamic_update_slice(every, in_batch, (0, candidates.drawn.shape[1]))


def hardest(scores: jax.Array, topk: int) -> tuple[jax.Array, jax.Array]:
    """Selects the ``topk`` candidates of highest score.

    Args:
      scores: [N, C]; those that do not count have ``LOWEST``.
      topk: how many, at most C; where fewer count, the rest is filled with others.

    Returns:
      [N, topk] columns, and which of them count.

    Source: paper §2.1, top-k negative sampling.
    """
    highest, columns = jax.lax.top_k(scores, topk)
    return columns, highest != LOWEST  # NaN counts, so that the loss shows it


def rows_of(
    columns: jax.Array, candidates: Candidates, batch: Batch, touched: Touched
) -> jax.Array:
    """Finds the table rows of selected candidates.

    Args:
      columns: [N, topk] candidates of each event.
      candidates: the candidates.
      batch: the events.
      touched: the rows of the step.

    Returns:
      [N, topk] rows.
    """
    num_drawn = candidates.drawn.shape[1]
    places, _ = candidates.of_events(batch.session)
    if num_drawn == 0:
        return touched.inputs[jnp.take_along_axis(places, columns, axis=1)]
    drawn = touched.drawn[0][jnp.minimum(columns, num_drawn - 1)]
    if places.shape[1] == 0:
        return drawn
    borrowed = jnp.maximum(columns - num_drawn, 0)
    in_batch = touched.inputs[jnp.take_along_axis(places, borrowed, axis=1)]
    return jnp.where(columns < num_drawn, drawn, in_batch)
