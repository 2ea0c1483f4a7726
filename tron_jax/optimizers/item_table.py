"""Optimizers of the item table that read and write only the rows of a step.

All share one interface, that of an optax transform which is also given row ids. The
``ids`` ascend and are distinct; an array of them longer than needed is filled up with
ids beyond the table, which are neither read nor written. ``None`` stands for the whole
table. ``step`` counts the updates made so far, so ``update`` makes number step + 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from tron_jax.optimizers.adagrad import Memory, Schedule, make_rule, no_memory


class Rows(NamedTuple):
    """Rows of the table as of a step, with what their update needs.

    Attributes:
      values: [R, hidden] embeddings.
      statistics: what the optimizer keeps of those rows, as of the same step.
    """

    values: jax.Array
    statistics: tuple[jax.Array, ...]


class RowOptimizer(NamedTuple):
    """A table's optimizer as three pure functions.

    Attributes:
      init: ``table -> state``.
      read: ``(state, ids, step) -> Rows``; changes nothing.
      update: ``(state, ids, rows, gradients [R, hidden], step) -> state``.
    """

    init: Callable[[jax.Array], Any]
    read: Callable[[Any, jax.Array | None, jax.Array], Rows]
    update: Callable[[Any, jax.Array | None, Rows, jax.Array, jax.Array], Any]


def gather(array: jax.Array, ids: jax.Array | None) -> jax.Array:
    """Returns rows of an array; those of ids beyond it are 0."""
    if ids is None:
        return array
    return array.at[ids].get(mode="fill", fill_value=0)


def scatter(array: jax.Array, ids: jax.Array | None, rows: jax.Array) -> jax.Array:
    """Replaces rows of an array; those of ids beyond it are dropped."""
    if ids is None:
        return rows
    return array.at[ids].set(
        rows, mode="drop", indices_are_sorted=True, unique_indices=True
    )


class DenseState(NamedTuple):
    """The table and the state of the optax transform that updates it as a whole."""

    table: jax.Array
    opt: Any


def dense(tx: optax.GradientTransformation) -> RowOptimizer:
    """An optax transform over the whole table; ``update`` expects no ids."""

    def read(state: DenseState, ids: jax.Array | None, step: jax.Array) -> Rows:
        return Rows(gather(state.table, ids), ())

    def update(state: DenseState, ids, rows: Rows, gradients, step) -> DenseState:
        assert ids is None, "a dense update is of all rows"
        updates, opt = tx.update(gradients, state.opt, state.table)
        table = optax.apply_updates(state.table, updates)
        assert isinstance(table, jax.Array)
        return DenseState(table, opt)

    return RowOptimizer(lambda table: DenseState(table, tx.init(table)), read, update)


class RowAdagradState(NamedTuple):
    """The table and what Adagrad keeps of it, all [num_items + 1, hidden]."""

    table: jax.Array
    memory: Memory


def row_adagrad(
    learning_rate: Schedule,
    *,
    epsilon: float,
    epsilon_in_root: bool = False,
    momentum: float = 0.0,
) -> RowOptimizer:
    """Adagrad from accumulators of 0, with momentum where there is a gradient.

    An element without a gradient does not move, and its statistics stay, so updating
    the rows of a step is the same as updating all of them. For momentum, which would
    move such an element, this is a definition, that of GRU4Rec's own code: it keeps the
    velocity of rows that a step did not draw. There, the output biases are a table of
    their own, which inputs do not touch; here inputs touch them with a gradient of
    exactly 0, so the definition goes by element, not by row.

    Args:
      learning_rate: of an update, counted from 0.
      epsilon: prevents a division by 0.
      epsilon_in_root: whether ε is added under the root.
      momentum: share of an element's last movement that is added to the next.

    Returns:
      The optimizer.

    Source: ``adagrad.make_rule``.
    """
    rule = make_rule(
        epsilon=epsilon, epsilon_in_root=epsilon_in_root, momentum=momentum
    )

    def init(table: jax.Array) -> RowAdagradState:
        return RowAdagradState(table, no_memory(table, momentum))

    def read(state: RowAdagradState, ids: jax.Array | None, step: jax.Array) -> Rows:
        return Rows(
            gather(state.table, ids), tuple(gather(m, ids) for m in state.memory)
        )

    def update(
        state: RowAdagradState, ids, rows: Rows, gradients, step
    ) -> RowAdagradState:
        movement, after = rule(gradients, rows.statistics, learning_rate(step))
        drawn = gradients != 0
        memory = tuple(
            scatter(whole, ids, jnp.where(drawn, new, old))
            for whole, new, old in zip(
                state.memory, after, rows.statistics, strict=True
            )
        )
        values = rows.values + jnp.where(drawn, movement, 0)
        return RowAdagradState(scatter(state.table, ids, values), memory)

    return RowOptimizer(init, read, update)


class AdamState(NamedTuple):
    """Deferred Adam's memory.

    Attributes:
      table: [num_items + 1, hidden] rows, each as of its own last step.
      mu: [num_items + 1, hidden] first moments, likewise.
      nu: [num_items + 1, hidden] second moments, likewise.
      last: [num_items + 1] int32, the update up to which a row stands here.
    """

    table: jax.Array
    mu: jax.Array
    nu: jax.Array
    last: jax.Array


def sleeping_sums(
    learning_rate: Schedule, horizon: int, b1: float, b2: float
) -> np.ndarray:
    """Sums over all updates after each step, for a row without gradients.

    With lr(u) the rate of update u and c = 1 - β^u, row s holds Σ_{j≥1} of
    β1^j·β2^{-j/2}·lr(s+j)·√c2/c1, then the same with one and two more factors
    √c2·β2^{-j/2}: the sums of w_j, w_j·a_j and w_j·a_j² of ``deferred_adam``. They fall
    geometrically, and from ``horizon`` on they no longer depend on s.

    Args:
      learning_rate: of an update, counted from 0.
      horizon: the step from which the learning rate is constant.
      b1: decay of the first moment.
      b2: decay of the second moment.

    Returns:
      [steps, 3] float32; later steps have the sums of the last row.
    """
    ratios = b1 / b2 ** np.array([0.5, 1.0, 1.5])
    if ratios.max() >= 1:
        raise ValueError(f"b1 {b1} must be below b2**1.5, b2 {b2}")
    terms = math.ceil(math.log(1e-12) / math.log(max(ratios.max(), 1e-12)))
    settled = math.ceil(math.log(1e-10) / math.log(b2))
    steps = max(horizon, settled) + 1
    update = np.arange(1, steps + terms + 1, dtype=np.float64)
    rates = np.broadcast_to(np.asarray(learning_rate(update - 1)), update.shape)
    c1, c2 = 1 - b1**update, 1 - b2**update
    sums = np.zeros((steps, 3))
    for power, ratio in enumerate(ratios):
        factor = rates.astype(np.float64) * c2 ** ((power + 1) / 2) / c1
        for j in range(1, terms + 1):
            sums[:, power] += ratio**j * factor[j - 1 : j - 1 + steps]
    return sums.astype(np.float32)


def deferred_adam(
    learning_rate: Schedule,
    *,
    b1: float = 0.9,
    b2: float = 0.999,
    epsilon: float = 1e-8,
    horizon: int = 0,
) -> RowOptimizer:
    """Adam whose rows sleep while they have no gradient and catch up when read.

    Dense Adam keeps moving a row by its decaying moments. In d updates after step s, a
    row without gradients moves by -m·Σ w_j / (√v + ε·a_j). Here all d are applied at
    once, with the mean a_j in the denominator and the second-order term of its spread;
    the error is of third order in ε/√v.

    The sums over the d updates are differences of the infinite sums from s and from
    now, so a row costs a few look-ups however long it slept.

    Args:
      learning_rate: of an update, counted from 0 (as optax reads its schedules).
      b1: decay of the first moment.
      b2: decay of the second moment; above b1^(2/3).
      epsilon: added to the root of the second moment.
      horizon: the update from which the learning rate is constant.

    Returns:
      The optimizer.

    Source: ours; equals ``optax.adam`` over the whole table to that order.
    """
    table_of_sums = sleeping_sums(learning_rate, horizon, b1, b2)
    ratios = np.maximum(b1, 1e-30) / b2 ** np.array([0.5, 1.0, 1.5])
    log_ratios = np.log(ratios).astype(np.float32)

    def infinite_sums(step: jax.Array) -> jax.Array:
        return jnp.asarray(table_of_sums)[jnp.minimum(step, len(table_of_sums) - 1)]

    def init(table: jax.Array) -> AdamState:
        last = jnp.zeros(len(table), jnp.int32)
        return AdamState(table, jnp.zeros_like(table), jnp.zeros_like(table), last)

    def read(state: AdamState, ids: jax.Array | None, step: jax.Array) -> Rows:
        mu, nu = gather(state.mu, ids), gather(state.nu, ids)
        last = gather(state.last, ids)
        slept = (step - last).astype(jnp.float32)[:, None]
        sums = infinite_sums(last) - jnp.exp(slept * log_ratios) * infinite_sums(step)
        total, first, second = jnp.split(jnp.where(slept > 0, sums, 0), 3, axis=1)
        inverse = jnp.where(total > 0, 1 / jnp.where(total > 0, total, 1), 0)
        mean = jnp.where(total > 0, first * inverse, 1)
        spread = jnp.maximum(second * inverse - jnp.square(mean), 0)
        root = jnp.sqrt(nu) + epsilon * mean
        bent = 1 + spread * jnp.square(epsilon / root)
        values = gather(state.table, ids) - total * bent * mu / root
        decay1, decay2 = (jnp.exp(slept * math.log(max(b, 1e-30))) for b in (b1, b2))
        return Rows(values, (decay1 * mu, decay2 * nu, last))

    def update(state: AdamState, ids, rows: Rows, gradients, step) -> AdamState:
        mu, nu, last = rows.statistics
        mu = b1 * mu + (1 - b1) * gradients
        nu = b2 * nu + (1 - b2) * jnp.square(gradients)
        number = (step + 1).astype(jnp.float32)
        c1, c2 = 1 - b1**number, 1 - b2**number
        moved = (mu / c1) / (jnp.sqrt(nu / c2) + epsilon)
        values = rows.values - learning_rate(step) * moved
        # This is always step + 1. If it did not depend on what was read, the compiler
        # could write first, and would copy the whole array to keep what is read.
        now = jnp.maximum(last, step + 1)
        return AdamState(
            scatter(state.table, ids, values),
            scatter(state.mu, ids, mu),
            scatter(state.nu, ids, nu),
            scatter(state.last, ids, now),
        )

    return RowOptimizer(init, read, update)
