"""The train step: one pure function composed of the parts beside this file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from tron_jax import rng
from tron_jax.data.packing import Batch
from tron_jax.data.slots import StackedBatches
from tron_jax.models.encoder import Encoder
from tron_jax.objectives.objective import LossTotals, Objective, StepData
from tron_jax.optimizers.item_table import RowOptimizer
from tron_jax.optimizers.touched import RowGradient, sum_rows, touch
from tron_jax.sampling.sampler import Sampler
from tron_jax.sampling.sources import NO_CONSTANTS, Constants


class TrainState(NamedTuple):
    """All that a run is made of; keys follow from the seed and ``step``.

    Attributes:
      step: scalar int32, updates made so far.
      params: of the encoder.
      opt: state of the encoder's optax transform.
      items: state of the item table's row optimizer, the table included.
      carry: what the encoder keeps of the sessions that are under way.
    """

    step: jax.Array
    params: Any
    opt: Any
    items: Any
    carry: Any = ()


# (state, batch, constants of the sources of negatives) -> state and totals
TrainStep = Callable[[TrainState, Batch, Constants], tuple[TrainState, LossTotals]]

# (state, chunk, constants) -> state, and the totals of each step
RepeatedStep = Callable[
    [TrainState, StackedBatches, Constants], tuple[TrainState, LossTotals]
]


def make_train_step(
    encoder: Encoder,
    sample: Sampler,
    objective: Objective,
    tx: optax.GradientTransformation,
    item_tx: RowOptimizer,
    *,
    num_items: int,
    whole_table: bool,
    seed: int,
) -> TrainStep:
    """Composes the update; the caller jits it.

    Args:
      encoder: of the inputs.
      sample: of the negatives.
      objective: the loss and its gradient.
      tx: optimizer of the encoder.
      item_tx: optimizer of the item table.
      num_items: the largest item id.
      whole_table: update the item table as a whole, whatever a step needs.
      seed: of the dropout.

    Returns:
      The pure train step.
    """

    def train_step(
        state: TrainState, batch: Batch, constants: Constants = NO_CONSTANTS
    ) -> tuple[TrainState, LossTotals]:
        with jax.named_scope("sampling"):
            candidates = sample(state.step, batch, constants)
        with jax.named_scope("row_read"):
            touched = touch(
                batch.items, batch.labels, candidates.drawn, num_items + 1, whole_table
            )
            rows = item_tx.read(state.items, touched.ids, state.step)

        @jax.named_scope("encoder")
        def encode(params: Any, inputs: jax.Array) -> tuple[jax.Array, Any]:
            key = rng.step_key(seed, state.step, rng.DROPOUT)
            return encoder.encode(
                params, state.carry, inputs, batch.session, batch.position, key
            )

        hidden, backward, carry = jax.vjp(
            encode, state.params, rows.values[touched.inputs], has_aux=True
        )
        with jax.named_scope("objective"):
            data = StepData(state.step, batch, candidates, touched, constants)
            gradients, totals = objective(data, hidden, rows.values)
        by_params, by_inputs = backward(gradients.hidden)
        with jax.named_scope("encoder_update"):
            updates, opt = tx.update(by_params, state.opt, state.params)
            params = optax.apply_updates(state.params, updates)
        with jax.named_scope("row_update"):
            by_input = RowGradient(touched.inputs, by_inputs)
            by_row = sum_rows(len(rows.values), [by_input, *gradients.rows])
            items = item_tx.update(state.items, touched.ids, rows, by_row, state.step)
        return TrainState(state.step + 1, params, opt, items, carry), totals

    return train_step


def repeat(train_step: TrainStep) -> RepeatedStep:
    """Makes many train steps in one dispatch, each with its own gradient and update.

    A loop rather than a scan, since its number of steps is a value: whether a run is
    cut off, logs or saves within a chunk, each step is made by the same program. Totals
    are not added up here, for sums of other parts of a window round differently.

    Args:
      train_step: of one batch.

    Returns:
      The pure function; its totals are [T], 0 beyond the steps made.
    """

    def repeated(
        state: TrainState, chunk: StackedBatches, constants: Constants = NO_CONSTANTS
    ) -> tuple[TrainState, LossTotals]:
        def batch_of(i: jax.typing.ArrayLike) -> Batch:
            return jax.tree.map(lambda of_all: of_all[i], chunk.batches)

        def one(i: jax.Array, made: tuple[TrainState, LossTotals]) -> Any:
            state, totals = train_step(made[0], batch_of(i), constants)
            return state, jax.tree.map(
                lambda of_all, of_one: of_all.at[i].set(of_one), made[1], totals
            )

        _, of_one = jax.eval_shape(train_step, state, batch_of(0), constants)
        most = len(chunk.batches.items)
        nothing = jax.tree.map(lambda x: jnp.zeros((most, *x.shape), x.dtype), of_one)
        return lax.fori_loop(0, chunk.steps, one, (state, nothing))

    return repeated
