"""The train step: one pure function composed of the parts beside this file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from tron_jax import rng
from tron_jax.data.batches import ManySteps
from tron_jax.data.packing import Batch
from tron_jax.models.encoder import Encoder
from tron_jax.objectives.objective import LossTotals, Objective, StepData
from tron_jax.optimizers.item_table import RowOptimizer, Rows
from tron_jax.optimizers.touched import RowGradient, Touched, sum_rows, touch
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


# (state, batch, constants of the sources of negatives, and whether the step is made: if
# given and false, the state stays and the totals are 0) -> state and totals
TrainStep = Callable[..., tuple[TrainState, LossTotals]]

# Among the constants: the seed of the run.
SEED = "seed"

# (state, dispatch, constants) -> state, and the totals of each step
RepeatedStep = Callable[
    [TrainState, ManySteps, Constants], tuple[TrainState, LossTotals]
]

# (rows as a device has read them, where items are found in them) -> rows
ShareRows = Callable[[Rows, Touched], Rows]


def make_train_step(
    encoder: Encoder,
    sample: Sampler,
    objective: Objective,
    tx: optax.GradientTransformation,
    item_tx: RowOptimizer,
    *,
    num_items: int,
    whole_table: bool | None,
    seed: rng.Seed,
    share: ShareRows = lambda rows, touched: rows,
) -> TrainStep:
    """Composes the update; the caller jits it.

    Args:
      encoder: of the inputs.
      sample: of the negatives.
      objective: the loss and its gradient.
      tx: optimizer of the encoder.
      item_tx: optimizer of the item table.
      num_items: the largest item id.
      whole_table: update the item table as a whole, whatever a step needs; None =
        by rows in any case.
      seed: of the dropout.
      share: gives a device of several the rows that others hold.

    Returns:
      The pure train step.
    """

    def train_step(
        state: TrainState,
        batch: Batch,
        constants: Constants = NO_CONSTANTS,
        made: jax.Array | None = None,
    ) -> tuple[TrainState, LossTotals]:
        with jax.named_scope("sampling"):
            candidates = sample(state.step, batch, constants)
        with jax.named_scope("row_read"):
            touched = touch(
                batch.items, batch.labels, candidates.drawn, num_items + 1, whole_table
            )
            rows = item_tx.read(state.items, touched.ids, state.step)
            rows = share(rows, touched)

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
            gradients, totals = objective(data, hidden, rows.values, state.params)
        by_params, by_inputs = backward(gradients.hidden)
        if gradients.params != ():
            by_params = jax.tree.map(jnp.add, by_params, gradients.params)
        with jax.named_scope("encoder_update"):
            updates, opt = tx.update(by_params, state.opt, state.params)
            params = optax.apply_updates(state.params, updates)
        with jax.named_scope("row_update"):
            by_input = RowGradient(touched.inputs, by_inputs)
            by_row = sum_rows(len(rows.values), [by_input, *gradients.rows])
            if made is not None:
                touched = touched.if_made(made, num_items + 1)
            items = item_tx.update(state.items, touched.ids, rows, by_row, state.step)
        after = TrainState(state.step + 1, params, opt, items, carry)
        if made is not None:
            after = _if_made(made, after, state, whole_table=touched.ids is None)
            totals = _choose(made, totals, jax.tree.map(jnp.zeros_like, totals))
        return after, totals

    return train_step


def seeded(make: Callable[[jax.Array], TrainStep]) -> TrainStep:
    """Makes a train step that finds its seed among the constants, under ``SEED``.

    Runs that differ by their seed alone then have one program, which is compiled once.

    Args:
      make: from a seed, a scalar of uint32, to the step of that seed.
    """

    def train_step(
        state: TrainState,
        batch: Batch,
        constants: Constants,
        made: jax.Array | None = None,
    ) -> tuple[TrainState, LossTotals]:
        return make(constants[SEED])(state, batch, constants, made)

    return train_step


def _choose(made: jax.Array, new: Any, old: Any) -> Any:
    return jax.tree.map(lambda new, old: jnp.where(made, new, old), new, old)


def _if_made(
    made: jax.Array, after: TrainState, before: TrainState, *, whole_table: bool
) -> TrainState:
    """The state after a step, or that before it.

    Of an item table that is updated by rows, none was written if the step is not made;
    to choose between two tables would copy one.
    """
    chosen = _choose(made, after._replace(items=()), before._replace(items=()))
    items = _choose(made, after.items, before.items) if whole_table else after.items
    return chosen._replace(items=items)


def repeat(train_step: TrainStep, *, fixed: bool = False) -> RepeatedStep:
    """Makes many train steps in one dispatch, each with its own gradient and update.

    A loop rather than a scan, since its number of steps is a value: whether a run is
    cut off, logs or saves within a dispatch, each step is made by the same program.
    Totals are not added up here, for sums of other parts of a window round differently.

    Args:
      train_step: of one batch.
      fixed: go through all steps that a dispatch may have, computing those beyond its
        own in vain. On an accelerator the host would otherwise have to read, before
        each step, whether there is one more.

    Returns:
      The pure function; its totals are [T], 0 beyond the steps made.
    """

    def repeated(
        state: TrainState, dispatch: ManySteps, constants: Constants = NO_CONSTANTS
    ) -> tuple[TrainState, LossTotals]:
        def one(i: jax.typing.ArrayLike, made: tuple[TrainState, LossTotals]) -> Any:
            whether = (i < dispatch.steps,) if fixed else ()
            batch = dispatch.batch(i)
            state, totals = train_step(made[0], batch, constants, *whether)
            return state, jax.tree.map(
                lambda of_all, of_one: of_all.at[i].set(of_one), made[1], totals
            )

        most = dispatch.shape[0]
        batch = jax.eval_shape(dispatch.batch, 0)
        _, of_one = jax.eval_shape(train_step, state, batch, constants)
        nothing = jax.tree.map(lambda x: jnp.zeros((most, *x.shape), x.dtype), of_one)
        steps = most if fixed else dispatch.steps
        return lax.fori_loop(0, steps, one, (state, nothing))

    return repeated
