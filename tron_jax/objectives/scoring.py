"""Candidates of an event: their scores, and the hardest of them."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from tron_jax.data.packing import Batch
from tron_jax.objectives import drawn_scores, selection
from tron_jax.objectives.drawn_scores import Backward, ByRows, Drawn
from tron_jax.optimizers.touched import Touched
from tron_jax.sampling.candidates import Candidates, hits

LOWEST = float(jnp.finfo(jnp.float32).min)


@jax.named_scope("candidates")
def scores(
    hidden: jax.Array,
    rows: jax.Array,
    candidates: Candidates,
    touched: Touched,
    batch: Batch,
) -> tuple[jax.Array, Backward]:
    """Scores every candidate: those drawn as costs least, in-batch ones by a matmul.

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
    num_drawn = candidates.drawn.shape[1]
    drawn, drawn_back = _drawn(hidden, rows, candidates, touched, batch)

    def score(hidden: jax.Array, pool_rows: jax.Array) -> jax.Array:
        return jnp.take_along_axis(hidden @ pool_rows.T, places, axis=1)

    pool = candidates.pool(touched.inputs, touched.labels)
    in_batch, in_batch_back = drawn_scores.of_rows(score, hidden, rows, pool)

    def backward(by_scores: jax.Array) -> tuple[jax.Array, ByRows]:
        by_hidden, by_rows = drawn_back(by_scores[:, :num_drawn])
        more, by_pool = in_batch_back(by_scores[:, num_drawn:])
        return by_hidden + more, [*by_rows, *by_pool]

    return jnp.concatenate([drawn, in_batch], axis=1), backward


def _drawn(
    hidden: jax.Array,
    rows: jax.Array,
    candidates: Candidates,
    touched: Touched,
    batch: Batch,
) -> tuple[jax.Array, Backward]:
    """[N, k] scores of the drawn candidates alone, and the way back."""
    numbers = touched.drawn
    score = drawn_scores.strategy(len(hidden), len(rows), numbers.shape)
    group = candidates.groups(batch.session)
    return score(hidden, rows, Drawn(numbers, group, candidates.members))


@jax.named_scope("candidates")
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
    drawn = jnp.broadcast_to(_drawn_keep(candidates, batch), shape)
    if mask_hits:
        drawn &= ~hits(_drawn_items(candidates, batch), batch.labels)
        pool = candidates.pool(batch.items, batch.labels)
        in_batch &= ~hits(pool[places], batch.labels)
    return jnp.concatenate([drawn, in_batch], axis=1)


def _drawn_items(candidates: Candidates, batch: Batch) -> jax.Array:
    """[k] or [N, k] ids of the drawn candidates of each event."""
    if len(candidates.drawn) == 1:
        return candidates.drawn[0]
    return candidates.drawn[candidates.groups(batch.session)]


def _drawn_keep(candidates: Candidates, batch: Batch) -> jax.Array:
    """What broadcasts to [N, k]: which drawn candidates of each event count."""
    keep = candidates.drawn_keep
    if keep.ndim < 2 or len(keep) == 1:
        return keep
    return keep[candidates.groups(batch.session)]


@jax.named_scope("candidates")
def selection_scores(
    hidden: jax.Array,
    rows: jax.Array,
    candidates: Candidates,
    touched: Touched,
    batch: Batch,
    *,
    mask_hits: bool,
    topk: int,
) -> jax.Array:
    """Scores every candidate to select by; what does not count has ``LOWEST``.

    The same as ``scores`` where ``kept`` and ``LOWEST`` elsewhere. Where the batch
    shares what is drawn, with fewer passes over the largest array of a step: the
    matmul leaves room for the in-batch scores, which are put there in place, and a
    mask that is known to be true costs nothing.

    Args:
      hidden: [N, hidden] of each event; where the batch shares what is drawn, its
        dtype is that of the matmuls.
      rows: [R, hidden] touched rows of the item table.
      candidates: the candidates.
      touched: where the items of the step are found in ``rows``.
      batch: the events.
      mask_hits: leave out candidates that equal the label.
      topk: how many will be selected.

    Returns:
      [N, C] scores, C at least k + m; columns beyond those have ``LOWEST``.
    """
    if len(candidates.drawn) > 1:
        every, _ = scores(hidden, rows, candidates, touched, batch)
        return jnp.where(kept(candidates, batch, mask_hits=mask_hits), every, LOWEST)
    places, keep = candidates.of_events(batch.session)
    num_drawn, borrowed = candidates.drawn.shape[1], places.shape[1]
    room = selection.width(num_drawn + borrowed, topk) - num_drawn

    def score(numbers: jax.Array) -> jax.Array:
        some = rows[numbers].astype(hidden.dtype)
        return jnp.matmul(hidden, some.T, preferred_element_type=rows.dtype)

    every = score(jnp.pad(touched.drawn[0], (0, room)))
    in_batch = score(candidates.pool(touched.inputs, touched.labels))
    in_batch = jnp.take_along_axis(in_batch, places, axis=1)
    if mask_hits:
        ids = jnp.pad(candidates.drawn[0], (0, room))
        every = jnp.where(hits(ids, batch.labels), LOWEST, every)
        pool = candidates.pool(batch.items, batch.labels)
        keep &= ~hits(pool[places], batch.labels)
    drawn_keep = candidates.drawn_keep
    if drawn_keep.shape[1:] == (num_drawn,):
        drawn_keep = jnp.pad(drawn_keep, ((0, 0), (0, room)))
    every = jnp.where(drawn_keep, every, LOWEST)
    in_batch = jnp.where(keep, in_batch, LOWEST)
    beyond = ((0, 0), (0, room - borrowed))
    in_batch = jnp.pad(in_batch, beyond, constant_values=LOWEST)
    return jax.lax.dynamic_update_slice(every, in_batch, (0, num_drawn))


@jax.named_scope("selection")
def hardest(scores: jax.Array, topk: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Selects the ``topk`` candidates of highest score.

    Args:
      scores: [N, C]; those that do not count have ``LOWEST``.
      topk: how many, at most C; where fewer count, the rest is filled with others.

    Returns:
      [N, topk] scores, descending, and 0 of what does not count; columns; and which of
      them count.

    Source: paper §2.1, top-k negative sampling.
    """
    highest, columns = selection.top_k(scores, topk)
    keep = highest != LOWEST  # NaN counts, so that the loss shows it
    return jnp.where(keep, highest, 0), columns, keep


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
    pool = candidates.pool(touched.inputs, touched.labels)
    return _look_up(columns, candidates, batch, touched.drawn, pool)


def items_of(
    columns: jax.Array | None, candidates: Candidates, batch: Batch
) -> jax.Array:
    """Finds the items of selected candidates.

    Args:
      columns: [N, topk] candidates of each event; None: all of them.
      candidates: the candidates.
      batch: the events.

    Returns:
      [N, topk] or [N, k + m] item ids.
    """
    pool = candidates.pool(batch.items, batch.labels)
    if columns is not None:
        return _look_up(columns, candidates, batch, candidates.drawn, pool)
    places, _ = candidates.of_events(batch.session)
    drawn = _drawn_items(candidates, batch)
    drawn = jnp.broadcast_to(drawn, (len(places), drawn.shape[-1]))
    return jnp.concatenate([drawn, pool[places]], axis=1)


def _look_up(
    columns: jax.Array,
    candidates: Candidates,
    batch: Batch,
    drawn: jax.Array,
    pool: jax.Array,
) -> jax.Array:
    """Picks from what the drawn and the in-batch candidates stand for."""
    num_drawn = drawn.shape[1]
    places, _ = candidates.of_events(batch.session)
    # Columns beyond, which do not count, stand for the last.
    columns = jnp.minimum(columns, num_drawn + places.shape[1] - 1)
    if num_drawn == 0:
        return pool[jnp.take_along_axis(places, columns, axis=1)]
    first = jnp.minimum(columns, num_drawn - 1)
    if len(drawn) == 1:
        found = drawn[0][first]
    else:
        found = drawn[candidates.groups(batch.session)[:, None], first]
    if places.shape[1] == 0:
        return found
    borrowed = jnp.maximum(columns - num_drawn, 0)
    in_batch = pool[jnp.take_along_axis(places, borrowed, axis=1)]
    return jnp.where(columns < num_drawn, found, in_batch)
