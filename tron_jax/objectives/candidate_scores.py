"""Scores of every candidate of an event, and which candidates count.

Candidates are the columns of an event: first the drawn ones of its group, then the
in-batch ones of its session (``sampling.candidates``).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from tron_jax.data.packing import Batch
from tron_jax.objectives import drawn_scores, selection
from tron_jax.objectives.drawn_scores import Backward, DrawnRows
from tron_jax.objectives.selection import LOWEST
from tron_jax.optimizers.touched import RowGradient, Touched
from tron_jax.sampling.candidates import Candidates, hits

# The share of an event's candidates from which on ``gradient_by_matmul`` costs a CPU
# less than to gather rows: with 300 of TRON XL's 16,511 a step takes 1.2 of the time,
# with 500 0.9, with 3,000 0.7, and half the memory (experiments/results/speed).
BY_MATMUL_FROM = 1 / 40


@jax.named_scope("candidates")
def masked_scores(
    hidden: jax.Array,
    rows: jax.Array,
    candidates: Candidates,
    touched: Touched,
    batch: Batch,
    *,
    mask_hits: bool,
    topk: int,
) -> jax.Array:
    """Scores every candidate to select by; one that does not count has ``LOWEST``.

    The same as ``scores`` where ``kept`` and ``LOWEST`` elsewhere. Where the batch
    shares what is drawn, with fewer passes over the largest array of a step: the
    matmul leaves room for the in-batch scores, which are written there in place, and a
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
        all_scores, _ = scores(hidden, rows, candidates, touched, batch)
        keep = kept(candidates, batch, mask_hits=mask_hits)
        return jnp.where(keep, all_scores, LOWEST)
    positions, keep = candidates.of_events(batch.session)
    num_drawn, num_in_batch = candidates.drawn.shape[1], positions.shape[1]
    room = _room(num_drawn, num_in_batch, topk)

    def score(numbers: jax.Array) -> jax.Array:
        some = rows[numbers].astype(hidden.dtype)
        return jnp.matmul(hidden, some.T, preferred_element_type=rows.dtype)

    drawn = score(jnp.pad(touched.drawn[0], (0, room)))
    in_batch = score(candidates.pool(touched.inputs, touched.labels))
    in_batch = jnp.take_along_axis(in_batch, positions, axis=1)
    if mask_hits:
        ids = jnp.pad(candidates.drawn[0], (0, room))
        drawn = jnp.where(hits(ids, batch.labels), LOWEST, drawn)
        pool = candidates.pool(batch.items, batch.labels)
        keep &= ~hits(pool[positions], batch.labels)
    drawn_keep = candidates.drawn_keep
    if drawn_keep.shape[1:] == (num_drawn,):
        drawn_keep = jnp.pad(drawn_keep, ((0, 0), (0, room)))
    drawn = jnp.where(drawn_keep, drawn, LOWEST)
    in_batch = jnp.where(keep, in_batch, LOWEST)
    beyond = ((0, 0), (0, room - num_in_batch))
    in_batch = jnp.pad(in_batch, beyond, constant_values=LOWEST)
    return jax.lax.dynamic_update_slice(drawn, in_batch, (0, num_drawn))


def _room(num_drawn: int, num_in_batch: int, topk: int) -> int:
    """Columns behind those drawn, for the in-batch ones and what selection wants."""
    return selection.width(num_drawn + num_in_batch, topk) - num_drawn


def rows_of(
    columns: jax.Array, candidates: Candidates, touched: Touched, batch: Batch
) -> jax.Array:
    """Finds the touched rows of selected candidates.

    Args:
      columns: [N, topk] candidates of each event; a column beyond the last, which does
        not count, stands for the last.
      candidates: the candidates.
      touched: the rows of the step.
      batch: the events.

    Returns:
      [N, topk] row numbers.
    """
    num_drawn = touched.drawn.shape[1]
    pool = candidates.pool(touched.inputs, touched.labels)
    positions, _ = candidates.of_events(batch.session)
    columns = jnp.minimum(columns, num_drawn + positions.shape[1] - 1)
    if num_drawn == 0:
        return pool[jnp.take_along_axis(positions, columns, axis=1)]
    drawn_column = jnp.minimum(columns, num_drawn - 1)
    if len(touched.drawn) == 1:
        drawn = touched.drawn[0][drawn_column]
    else:
        group = candidates.groups(batch.session)
        drawn = touched.drawn[group[:, None], drawn_column]
    if positions.shape[1] == 0:
        return drawn
    in_batch_column = jnp.maximum(columns - num_drawn, 0)
    in_batch = pool[jnp.take_along_axis(positions, in_batch_column, axis=1)]
    return jnp.where(columns < num_drawn, drawn, in_batch)


@jax.named_scope("candidates")
def gradient_by_matmul(
    by_scores: jax.Array,
    columns: jax.Array,
    hidden: jax.Array,
    rows: jax.Array,
    candidates: Candidates,
    touched: Touched,
    batch: Batch,
) -> tuple[jax.Array, list[RowGradient]]:
    """Turns a gradient by selected scores into that by what made them.

    It is laid out over all candidates of the batch, 0 where they were not selected, so
    that no row is gathered or scattered for a single event. That costs less where many
    are selected (``BY_MATMUL_FROM``), and an accelerator always.

    Args:
      by_scores: [N, topk] gradient; 0 of a candidate that does not count.
      columns: [N, topk] which of the event's candidates were selected.
      hidden: [N, hidden] of each event.
      rows: [R, hidden] touched rows of the item table.
      candidates: the candidates; the batch shares what is drawn.
      touched: where the items of the step are found in ``rows``.
      batch: the events.

    Returns:
      [N, hidden] by the hidden states, and in pieces that by the rows.
    """
    events, topk = columns.shape
    positions, _ = candidates.of_events(batch.session)
    num_drawn, num_in_batch = touched.drawn.shape[1], positions.shape[1]
    is_drawn = columns < num_drawn

    def part(numbers: jax.Array, place: jax.Array) -> tuple[jax.Array, RowGradient]:
        whole = laid_out(by_scores, place, len(numbers))
        return whole @ rows[numbers], RowGradient(numbers, whole.T @ hidden)

    parts = []
    if num_drawn:
        # As wide as the scores were, whose rows are then not gathered a second time.
        room = _room(num_drawn, num_in_batch, topk)
        numbers = jnp.pad(touched.drawn[0], (0, room))
        parts.append(part(numbers, jnp.where(is_drawn, columns, len(numbers))))
    if num_in_batch:
        column = jnp.clip(columns - num_drawn, 0, num_in_batch - 1)
        position = jnp.take_along_axis(positions, column, axis=1)
        pool = candidates.pool(touched.inputs, touched.labels)
        parts.append(part(pool, jnp.where(is_drawn, events, position)))
    by_hidden, by_rows = zip(*parts, strict=True)
    return sum(by_hidden[1:], by_hidden[0]), list(by_rows)


def laid_out(values: jax.Array, place: jax.Array, width: int) -> jax.Array:
    """Adds up values [N, k] at columns [N, k] of [N, width], but those beyond."""
    whole = jnp.zeros((len(values), width), values.dtype)
    event = jnp.arange(len(values))[:, None]
    return whole.at[event, place].add(values, mode="drop")


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
    positions, _ = candidates.of_events(batch.session)
    num_drawn = touched.drawn.shape[1]
    score_drawn = drawn_scores.cheapest(len(hidden), len(rows), touched.drawn.shape)
    group = candidates.groups(batch.session)
    drawn, drawn_backward = score_drawn(
        hidden, rows, DrawnRows(touched.drawn, group, candidates.members)
    )

    def score(hidden: jax.Array, pool_rows: jax.Array) -> jax.Array:
        return jnp.take_along_axis(hidden @ pool_rows.T, positions, axis=1)

    pool = candidates.pool(touched.inputs, touched.labels)
    in_batch, in_batch_backward = drawn_scores.of_gathered(score, hidden, rows, pool)

    def backward(by_scores: jax.Array) -> tuple[jax.Array, list[RowGradient]]:
        by_hidden, by_rows = drawn_backward(by_scores[:, :num_drawn])
        more, by_pool = in_batch_backward(by_scores[:, num_drawn:])
        return by_hidden + more, [*by_rows, *by_pool]

    return jnp.concatenate([drawn, in_batch], axis=1), backward


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
    positions, in_batch = candidates.of_events(batch.session)
    drawn = candidates.drawn_keep
    if drawn.ndim == 2 and len(drawn) > 1:
        drawn = drawn[candidates.groups(batch.session)]
    drawn = jnp.broadcast_to(drawn, (batch.labels.size, candidates.drawn.shape[1]))
    if mask_hits:
        drawn &= ~hits(_drawn_items(candidates, batch), batch.labels)
        pool = candidates.pool(batch.items, batch.labels)
        in_batch &= ~hits(pool[positions], batch.labels)
    return jnp.concatenate([drawn, in_batch], axis=1)


def items_of(candidates: Candidates, batch: Batch) -> jax.Array:
    """Returns the item ids of every candidate of each event, [N, k + m]."""
    positions, _ = candidates.of_events(batch.session)
    pool = candidates.pool(batch.items, batch.labels)
    drawn = _drawn_items(candidates, batch)
    drawn = jnp.broadcast_to(drawn, (len(positions), drawn.shape[-1]))
    return jnp.concatenate([drawn, pool[positions]], axis=1)


def _drawn_items(candidates: Candidates, batch: Batch) -> jax.Array:
    """[k] or [N, k] ids of the drawn candidates of each event."""
    if len(candidates.drawn) == 1:
        return candidates.drawn[0]
    return candidates.drawn[candidates.groups(batch.session)]
