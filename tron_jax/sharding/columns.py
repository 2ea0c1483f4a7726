"""The hardest candidates of a batch, found by the devices that hold their rows.

Rows stay where they are. Every device has the hidden states of all events; it scores
the drawn candidates whose rows it holds, and sends of each event its hardest to the
device of the event, which scores the in-batch candidates, too, and selects. Of the
gradient, it computes what its rows and its events have a share in.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from tron_jax.objectives import candidate_scores, selection
from tron_jax.objectives.objective import Selected, StepData, topk_at
from tron_jax.objectives.selection import LOWEST
from tron_jax.objectives.settings import Selection
from tron_jax.optimizers.touched import RowGradient
from tron_jax.sampling.candidates import hits
from tron_jax.sharding.events import Events
from tron_jax.sharding.shards import AXIS, Shards

MARGIN = 6  # standard deviations; beyond it a device goes through its candidates twice


class Own(NamedTuple):
    """The drawn candidates whose rows a device holds.

    Attributes:
      held: [k] bool, which of all they are.
      columns: [at least k] which they are, in order; k beyond the last.
      at_a_time: how many are scored at a time.
      passes: scalar, how many times.
    """

    held: jax.Array
    columns: jax.Array
    at_a_time: int
    passes: jax.Array

    def of_pass(self, i: jax.Array) -> jax.Array:
        """[at_a_time] columns."""
        return lax.dynamic_slice_in_dim(
            self.columns, i * self.at_a_time, self.at_a_time
        )


def own_of(drawn: jax.Array, shards: Shards) -> Own:
    """Finds the drawn candidates of a device.

    Their number is not known to the compiler: there is room for as many as a device
    has of items drawn evenly, and it goes through them again if there are more.

    Args:
      drawn: [k] item ids, k at least 1.
      shards: the devices, within ``Shards.over``.
    """
    k = drawn.size
    share = k / shards.devices
    at_a_time = min(k, math.ceil(share + MARGIN * math.sqrt(share)))
    held = shards.holds(drawn)
    room = -(-k // at_a_time) * at_a_time
    columns = jnp.nonzero(held, size=room, fill_value=k)[0]
    return Own(held, columns, at_a_time, -(-jnp.sum(held) // at_a_time))


def hardest_candidates(
    data: StepData,
    hidden: jax.Array,
    rows: jax.Array,
    settings: Selection,
    dtype: Any,
    *,
    shards: Shards,
    events: Events,
) -> Selected:
    """Selects as ``objective.hardest_candidates`` does, all devices together.

    Every event's hardest of all are among the hardest of the devices, which are the
    only scores that travel. Which of equally high ones is selected may differ.

    Args:
      data: the events and their candidates; the batch shares what is drawn.
      hidden: [N, hidden] of each event.
      rows: [R, hidden] touched rows of the item table: those of inputs and labels, and
        of drawn candidates those that the device holds.
      settings: how many, and whether one that equals the label counts.
      dtype: of the matmuls that select.
      shards: the division of the rows.
      events: the division of the events.

    Returns:
      The same on every device; but of the gradient by hidden states, that of the
      device's events alone, and of that by rows, that of the rows it holds.
    """
    _, batch, candidates, touched, _ = data
    topk = settings.most
    num_drawn = candidates.drawn.shape[1]
    rounded = hidden.astype(dtype)
    own = own_of(candidates.drawn[0], shards) if num_drawn else None
    found = []
    if own is not None:
        scores, columns = _hardest_drawn(own, data, rounded, rows, settings, topk)
        found.append((events.to_owners(scores), events.to_owners(columns)))
    if candidates.in_batch.shape[1]:
        found.append(_in_batch(data, rounded, rows, settings, events))
    scores, columns = (jnp.concatenate(x, axis=1) for x in zip(*found, strict=True))
    scores, columns = _hardest(scores, columns, topk)
    scores, columns = (events.everywhere(x, len(hidden)) for x in (scores, columns))
    scores, keep = selection.counted(scores)
    if settings.topk_start:
        keep &= jnp.arange(topk) < topk_at(data.step, settings)
    numbers = candidate_scores.rows_of(columns, candidates, touched, batch)

    def backward(by_scores: jax.Array) -> tuple[jax.Array, list[RowGradient]]:
        by_hidden, pieces = jnp.zeros_like(events.own(hidden)), []
        if candidates.in_batch.shape[1]:
            by_hidden, by_rows = _back_in_batch(
                by_scores, columns, data, hidden, rows, events
            )
            pieces.append(by_rows)
        if own is not None:
            by_drawn, by_rows = _back_drawn(by_scores, columns, own, data, hidden, rows)
            by_hidden += events.owners_sum(by_drawn)
            pieces.append(by_rows)
        return events.in_place(by_hidden, len(hidden)), pieces

    return Selected(scores, keep, touched.items(numbers), columns, backward)


def _hardest_drawn(
    own: Own,
    data: StepData,
    hidden: jax.Array,
    rows: jax.Array,
    settings: Selection,
    topk: int,
) -> tuple[jax.Array, jax.Array]:
    """[N, at most topk] scores of the device's hardest, descending, and columns."""
    _, batch, candidates, touched, _ = data
    num_drawn = candidates.drawn.shape[1]
    some = min(topk, num_drawn)
    keep = jnp.broadcast_to(candidates.drawn_keep, (1, num_drawn))[0]

    def scored(columns: jax.Array) -> jax.Array:
        known = jnp.minimum(columns, num_drawn - 1)
        wanted = rows[touched.drawn[0][known]].astype(hidden.dtype)
        scores = jnp.matmul(hidden, wanted.T, preferred_element_type=rows.dtype)
        counts = (columns < num_drawn) & keep[known]
        if settings.mask_hits:
            ids = candidates.drawn[0][known]
            counts = counts & ~hits(ids, batch.labels)
        return jnp.where(counts, scores, LOWEST)

    def add(i: jax.Array, best: tuple[jax.Array, jax.Array]) -> Any:
        columns = own.of_pass(i)
        fresh, place = selection.top_k(scored(columns), min(some, own.at_a_time))
        columns = columns[jnp.minimum(place, own.at_a_time - 1)]
        scores = jnp.concatenate([best[0], fresh], axis=1)
        return _hardest(scores, jnp.concatenate([best[1], columns], axis=1), some)

    shape = (len(hidden), some)
    nothing = jnp.full(shape, LOWEST, rows.dtype), jnp.zeros(shape, own.columns.dtype)
    return lax.fori_loop(0, own.passes, add, nothing)


def _hardest(
    scores: jax.Array, columns: jax.Array, topk: int
) -> tuple[jax.Array, jax.Array]:
    """[N, topk] of scores [N, C], descending, and of the columns that they are of."""
    scores, place = selection.top_k(scores, topk)
    place = jnp.minimum(place, columns.shape[1] - 1)  # of one that does not count
    return scores, jnp.take_along_axis(columns, place, axis=1)


def _in_batch(
    data: StepData,
    hidden: jax.Array,
    rows: jax.Array,
    settings: Selection,
    events: Events,
) -> tuple[jax.Array, jax.Array]:
    """[size, m] scores of the in-batch candidates of a device's events, and columns."""
    _, batch, candidates, touched, _ = data
    num_drawn = candidates.drawn.shape[1]
    session = events.own(batch.session, len(candidates.in_batch))
    positions, keep = candidates.of_events(session)
    pool = candidates.pool(touched.inputs, touched.labels)
    scores = jnp.matmul(
        events.own(hidden),
        rows[pool].astype(hidden.dtype).T,
        preferred_element_type=rows.dtype,
    )
    scores = jnp.take_along_axis(scores, positions, axis=1)
    if settings.mask_hits:
        items = candidates.pool(batch.items, batch.labels)
        keep &= ~hits(items[positions], events.own(batch.labels))
    columns = num_drawn + jnp.arange(positions.shape[1])
    columns = jnp.broadcast_to(columns, positions.shape)
    return jnp.where(keep, scores, LOWEST), columns


def _back_in_batch(
    by_scores: jax.Array,
    columns: jax.Array,
    data: StepData,
    hidden: jax.Array,
    rows: jax.Array,
    events: Events,
) -> tuple[jax.Array, RowGradient]:
    """By the hidden states of the device's events, and by the rows of all of them."""
    _, batch, candidates, touched, _ = data
    num_drawn, num_in_batch = candidates.drawn.shape[1], candidates.in_batch.shape[1]
    pool = candidates.pool(touched.inputs, touched.labels)
    own = events.own(hidden)
    by_own, columns = events.own(by_scores), events.own(columns)
    session = events.own(batch.session, len(candidates.in_batch))
    positions, _ = candidates.of_events(session)
    column = jnp.clip(columns - num_drawn, 0, num_in_batch - 1)
    position = jnp.take_along_axis(positions, column, axis=1)
    place = jnp.where(columns < num_drawn, len(hidden), position)
    whole = candidate_scores.laid_out(by_own, place, len(hidden))
    by_pool = lax.psum(whole.T @ own, AXIS)
    return whole @ rows[pool], RowGradient(pool, by_pool)


def _back_drawn(
    by_scores: jax.Array,
    columns: jax.Array,
    own: Own,
    data: StepData,
    hidden: jax.Array,
    rows: jax.Array,
) -> tuple[jax.Array, RowGradient]:
    """[N, hidden] the share of the device's candidates, and by their rows."""
    touched = data.touched
    num_drawn = own.held.size
    known = jnp.minimum(columns, num_drawn - 1)
    mine = (columns < num_drawn) & own.held[known]
    # The number of each among those of the device.
    number = jnp.where(mine, (jnp.cumsum(own.held) - 1)[known], -1)

    def add(i: jax.Array, sums: tuple[jax.Array, jax.Array]) -> Any:
        by_hidden, by_rows = sums
        place = number - i * own.at_a_time
        inside = (place >= 0) & (place < own.at_a_time)
        place = jnp.where(inside, place, own.at_a_time)
        whole = candidate_scores.laid_out(by_scores, place, own.at_a_time)
        of_pass = jnp.minimum(own.of_pass(i), num_drawn - 1)
        rows_of_pass = touched.drawn[0][of_pass]
        by_hidden += whole @ rows[rows_of_pass]
        return by_hidden, by_rows.at[rows_of_pass].add(whole.T @ hidden)

    sums = jnp.zeros_like(hidden), jnp.zeros_like(rows)
    by_hidden, by_rows = lax.fori_loop(0, own.passes, add, sums)
    return by_hidden, RowGradient(None, by_rows)
