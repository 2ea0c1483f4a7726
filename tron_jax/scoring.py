"""Candidates of an event: their scores, and the hardest of them."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from tron_jax.data.packing import Batch
from tron_jax.negatives import Candidates, hits
from tron_jax.touched import Touched


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


def hardest(
    candidate_scores: jax.Array, keep: jax.Array, topk: int
) -> tuple[jax.Array, jax.Array]:
    """Selects the ``topk`` candidates of highest score; no gradient flows through.

    Args:
      candidate_scores: [N, C].
      keep: [N, C] what may be selected; where fewer are kept, the rest of the columns
        is filled with others that are marked.
      topk: how many, at most C.

    Returns:
      [N, topk] columns, and which of them are kept.

    Source: paper §2.1, top-k negative sampling.
    """
    lowest = jnp.finfo(candidate_scores.dtype).min
    masked = jnp.where(keep, jax.lax.stop_gradient(candidate_scores), lowest)
    _, columns = jax.lax.top_k(masked, topk)
    return columns, jnp.take_along_axis(keep, columns, axis=1)


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
