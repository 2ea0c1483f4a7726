"""The train step: one pure function composed of the parts beside this file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from tron_jax import negatives, rng, scoring
from tron_jax.data.packing import Batch
from tron_jax.losses import Loss
from tron_jax.models.sasrec import Encoder
from tron_jax.row_optimizers import RowOptimizer


class TrainState(NamedTuple):
    """All that a run is made of; keys follow from the seed and ``step``.

    Attributes:
      step: scalar int32, updates made so far.
      params: of the encoder.
      opt: state of the encoder's optax transform.
      items: state of the item table's row optimizer, the table included.
    """

    step: jax.Array
    params: Any
    opt: Any
    items: Any


class Totals(NamedTuple):
    """What a step adds to the log, as sums.

    Attributes:
      loss: scalar, sum of the losses of the predictions.
      events: scalar, number of predictions.
    """

    loss: jax.Array
    events: jax.Array


class Touched(NamedTuple):
    """The rows of the item table that a step is about.

    Attributes:
      ids: [R] distinct item ids, or None where they are the whole table.
      inputs: [N] row of each input.
      labels: [N] row of each label.
      uniform: [k] row of each uniform negative.
    """

    ids: jax.Array | None
    inputs: jax.Array
    labels: jax.Array
    uniform: jax.Array


TrainStep = Callable[[TrainState, Batch], tuple[TrainState, Totals]]


def touch(
    inputs: jax.Array, labels: jax.Array, uniform: jax.Array, num_rows: int, whole: bool
) -> Touched:
    """Finds the distinct rows of a step.

    Args:
      inputs: [N] item ids.
      labels: [N] item ids.
      uniform: [k] item ids.
      num_rows: of the table, the row of padding included.
      whole: read and update the whole table whatever the step needs.

    Returns:
      The rows; their static number is that of the ids drawn, at most num_rows.
    """
    drawn = jnp.concatenate([inputs, labels, uniform])
    if whole or drawn.size >= num_rows:
        return Touched(None, inputs, labels, uniform)
    ids, slots = jnp.unique(
        drawn, size=drawn.size, fill_value=num_rows, return_inverse=True
    )
    return Touched(ids, *jnp.split(slots, [inputs.size, 2 * inputs.size]))


def sum_rows(num_rows: int, *parts: tuple[jax.Array, jax.Array]) -> jax.Array:
    """Adds up gradients by row, in one scatter.

    Args:
      num_rows: rows of the result.
      *parts: pairs of row numbers [...] and gradients [..., hidden].

    Returns:
      [num_rows, hidden].
    """
    hidden = parts[0][1].shape[-1]
    rows = jnp.concatenate([row.reshape(-1) for row, _ in parts])
    gradients = jnp.concatenate([grad.reshape(-1, hidden) for _, grad in parts])
    return jnp.zeros((num_rows, hidden), gradients.dtype).at[rows].add(gradients)


def make_train_step(
    encoder: Encoder,
    tx: optax.GradientTransformation,
    item_tx: RowOptimizer,
    loss_fn: Loss,
    *,
    num_items: int,
    num_sessions: int,
    num_uniform: int,
    num_in_batch: int,
    exclude: str,
    mask_hits: bool,
    topk: int,
    whole_table: bool,
    seed: int,
) -> TrainStep:
    """Composes the update ``(state, batch) -> (state, totals)``; the caller jits it.

    Args:
      encoder: of the inputs.
      tx: optimizer of the encoder.
      item_tx: optimizer of the item table.
      loss_fn: loss per event.
      num_items: the largest item id.
      num_sessions: sessions that a batch may have.
      num_uniform: uniform negatives, shared by the batch.
      num_in_batch: in-batch negatives per session.
      exclude: ``batch`` keeps inputs of the batch out of the uniform ones, or ``none``.
      mask_hits: mask candidates that equal the label.
      topk: candidates per event that count, the hardest; 0 = all.
      whole_table: update the item table as a whole, whatever a step needs.
      seed: of every random draw.

    Returns:
      The pure train step.
    """

    def sample(step: jax.Array, batch: Batch) -> scoring.Candidates:
        excluded = None
        if exclude == "batch":
            excluded = negatives.exclude_inputs(batch.items, num_items)
        uniform_key = rng.step_key(seed, step, rng.UNIFORM)
        in_batch_key = rng.step_key(seed, step, rng.IN_BATCH)
        return scoring.Candidates(
            *negatives.uniform_batchwise(uniform_key, num_uniform, num_items, excluded),
            *negatives.in_batch(
                in_batch_key, batch.session, num_sessions, num_in_batch
            ),
        )

    def mean_loss(batch: Batch, pos: jax.Array, neg: jax.Array, keep: jax.Array):
        total = jnp.sum(loss_fn(pos, neg, keep) * batch.weight)
        events = jnp.sum(batch.weight)
        return total / jnp.maximum(events, 1), Totals(total, events)

    def loss_of_hardest(batch, candidates, keep, touched, hidden, rows):
        """Selects without gradient, then scores what was selected with it."""
        inputs = rows[touched.inputs]
        score = scoring.scores(
            hidden, rows[touched.uniform], inputs, candidates, batch.session
        )
        columns, keep = scoring.hardest(score, keep, topk)
        hard = scoring.slots_of(
            columns, candidates, batch.session, touched.uniform, touched.inputs
        )

        def loss(hidden, label_rows, hard_rows):
            pos = jnp.sum(hidden * label_rows, axis=1)
            neg = jnp.einsum("nd,nkd->nk", hidden, hard_rows)
            return mean_loss(batch, pos, neg, keep)

        (d_hidden, d_label, d_hard), totals = jax.grad(loss, (0, 1, 2), has_aux=True)(
            hidden, rows[touched.labels], rows[hard]
        )
        return d_hidden, [(touched.labels, d_label), (hard, d_hard)], totals

    def loss_of_all(batch, candidates, keep, touched, hidden, rows):
        def loss(hidden, label_rows, uniform_rows, input_rows):
            pos = jnp.sum(hidden * label_rows, axis=1)
            neg = scoring.scores(
                hidden, uniform_rows, input_rows, candidates, batch.session
            )
            return mean_loss(batch, pos, neg, keep)

        slots = (touched.labels, touched.uniform, touched.inputs)
        (d_hidden, *d_rows), totals = jax.grad(loss, (0, 1, 2, 3), has_aux=True)(
            hidden, *(rows[slot] for slot in slots)
        )
        return d_hidden, list(zip(slots, d_rows, strict=True)), totals

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, Totals]:
        candidates = sample(state.step, batch)
        touched = touch(
            batch.items, batch.labels, candidates.uniform, num_items + 1, whole_table
        )
        rows = item_tx.read(state.items, touched.ids, state.step)

        def encode(params: Any, inputs: jax.Array) -> jax.Array:
            key = rng.step_key(seed, state.step, rng.DROPOUT)
            return encoder.encode(params, inputs, batch.session, batch.position, key)

        inputs = rows.values[touched.inputs]
        hidden, backward = jax.vjp(encode, state.params, inputs)
        keep = scoring.kept(
            candidates, batch.items, batch.labels, batch.session, mask_hits=mask_hits
        )
        loss = loss_of_hardest if topk else loss_of_all
        d_hidden, d_rows, totals = loss(
            batch, candidates, keep, touched, hidden, rows.values
        )
        d_params, d_inputs = backward(d_hidden)
        gradients = sum_rows(len(rows.values), (touched.inputs, d_inputs), *d_rows)
        updates, opt = tx.update(d_params, state.opt, state.params)
        items = item_tx.update(state.items, touched.ids, rows, gradients, state.step)
        params = optax.apply_updates(state.params, updates)
        return TrainState(state.step + 1, params, opt, items), totals

    return train_step
