"""Candidates of an event: their scores, the hardest of them, and the gradient."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from tron_jax import negatives


class Candidates(NamedTuple):
    """All negatives of the events of a batch, before selection.

    Columns 0..k-1 of an event are the uniform ones, the next m the in-batch ones of
    its session.

    Attributes:
      uniform: [k] item ids, shared by the batch.
      uniform_keep: scalar bool, false where nothing could be drawn.
      in_batch: [sessions, m] places in the stream.
      in_batch_keep: [sessions, m] bool.
    """

    uniform: jax.Array
    uniform_keep: jax.Array
    in_batch: jax.Array
    in_batch_keep: jax.Array

    def of_events(self, session: jax.Array) -> tuple[jax.Array, jax.Array]:
        """[N, m] places and keep of each event's in-batch negatives."""
        row = jnp.minimum(session, len(self.in_batch) - 1)  # padding borrows the last
        return self.in_batch[row], self.in_batch_keep[row]


def scores(
    hidden: jax.Array,
    uniform_rows: jax.Array,
    input_rows: jax.Array,
    candidates: Candidates,
    session: jax.Array,
) -> jax.Array:
    """Scores every candidate by two matmuls; the in-batch ones are then picked.

    Args:
      hidden: [N, hidden] of each event.
      uniform_rows: [k, hidden] embeddings of the uniform candidates.
      input_rows: [N, hidden] embeddings of the inputs of the stream.
      candidates: the candidates.
      session: [N] session of each event.

    Returns:
      [N, k + m] scores.
    """
    places, _ = candidates.of_events(session)
    in_batch = jnp.take_along_axis(hidden @ input_rows.T, places, axis=1)
    return jnp.concatenate([hidden @ uniform_rows.T, in_batch], axis=1)


def kept(
    candidates: Candidates,
    items: jax.Array,
    labels: jax.Array,
    session: jax.Array,
    *,
    mask_hits: bool,
) -> jax.Array:
    """Says which candidates of each event count.

    Args:
      candidates: the candidates.
      items: [N] inputs of the stream, which the in-batch candidates point at.
      labels: [N] next items.
      session: [N] session of each event.
      mask_hits: leave out candidates that equal the label.

    Returns:
      [N, k + m] bool.
    """
    places, in_batch = candidates.of_events(session)
    shape = (len(labels), len(candidates.uniform))
    uniform = jnp.broadcast_to(candidates.uniform_keep, shape)
    if mask_hits:
        uniform &= ~negatives.hits(candidates.uniform, labels)
        in_batch &= ~negatives.hits(items[places], labels)
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


def slots_of(
    columns: jax.Array,
    candidates: Candidates,
    session: jax.Array,
    uniform_slots: jax.Array,
    input_slots: jax.Array,
) -> jax.Array:
    """Finds the table rows of selected candidates.

    Args:
      columns: [N, topk] candidates of each event.
      candidates: the candidates.
      session: [N] session of each event.
      uniform_slots: [k] row of each uniform candidate.
      input_slots: [N] row of each input.

    Returns:
      [N, topk] rows.
    """
    num_uniform = len(candidates.uniform)
    places, _ = candidates.of_events(session)
    if num_uniform == 0:
        return input_slots[jnp.take_along_axis(places, columns, axis=1)]
    uniform = uniform_slots[jnp.minimum(columns, num_uniform - 1)]
    if places.shape[1] == 0:
        return uniform
    borrowed = jnp.maximum(columns - num_uniform, 0)
    in_batch = input_slots[jnp.take_along_axis(places, borrowed, axis=1)]
    return jnp.where(columns < num_uniform, uniform, in_batch)
