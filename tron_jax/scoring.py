"""Candidates of an event: their scores, and the hardest of them."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from tron_jax.data.packing import Batch
from tron_jax.negatives import Candidates, hits
from tron_jax.touched import Touched

LOWEST = float(jnp.finfo(jnp.float32).min)


def scores(
    hidden: jax.Array,
    uniform_rows: jax.Array,
    input_rows: jax.Array,
    candidates: Candidates,
    batch: Batch,
) -> jax.Array:
    """Scores every candidate by two matmuls; the in-batch ones are then picked.

    Args:
      hidden: [N, hidden] of each event.
      uniform_rows: [k, hidden] embeddings of the uniform candidates.
      input_rows: [N, hidden] embeddings of the inputs of the stream.
      candidates: the candidates.
      batch: the events.

    Returns:
      [N, k + m] scores.
    """
    places, _ = candidates.of_events(batch.session)
    in_batch = jnp.take_along_axis(hidden @ input_rows.T, places, axis=1)
    return jnp.concatenate([hidden @ uniform_rows.T, in_batch], axis=1)


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
    shape = (batch.labels.size, candidates.uniform.size)
    uniform = jnp.broadcast_to(candidates.uniform_keep, shape)
    if mask_hits:
        uniform &= ~hits(candidates.uniform, batch.labels)
        in_batch &= ~hits(batch.items[places], batch.labels)
    return jnp.concatenate([uniform, in_batch], axis=1)


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
    every = hidden @ rows[jnp.concatenate([touched.uniform, room])].T
    in_batch = hidden @ rows[touched.inputs].T
    in_batch = jnp.take_along_axis(in_batch, places, axis=1)
    if mask_hits:
        ids = jnp.concatenate([candidates.uniform, room])
        every = jnp.where(hits(ids, batch.labels), LOWEST, every)
        keep &= ~hits(batch.items[places], batch.labels)
    every = jnp.where(candidates.uniform_keep, every, LOWEST)
    in_batch = jnp.where(keep, in_batch, LOWEST)
    return jax.lax.dynamic_update_slice(every, in_batch, (0, candidates.uniform.size))


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
    num_uniform = candidates.uniform.size
    places, _ = candidates.of_events(batch.session)
    if num_uniform == 0:
        return touched.inputs[jnp.take_along_axis(places, columns, axis=1)]
    uniform = touched.uniform[jnp.minimum(columns, num_uniform - 1)]
    if places.shape[1] == 0:
        return uniform
    borrowed = jnp.maximum(columns - num_uniform, 0)
    in_batch = touched.inputs[jnp.take_along_axis(places, borrowed, axis=1)]
    return jnp.where(columns < num_uniform, uniform, in_batch)
