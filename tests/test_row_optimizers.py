import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import reference
from tolerances import of_float32

from tron_jax.optimizers import item_table
from tron_jax.optimizers.schedules import make_schedule

ROWS, HIDDEN = 12, 4


def constant(step):
    return 1e-3 + 0 * step


def decaying(step):
    array = jnp if isinstance(step, jax.Array) else np
    return 1e-3 / array.sqrt(1 + step / 50)


SCHEDULES = {
    "constant": (constant, 0),
    "decaying": (decaying, 5000),
    "to 0": make_schedule("cosine", 1e-3, warmup_steps=20, steps=3000, end=0.0),
    "drop": make_schedule("step", 1e-3, warmup_steps=0, steps=905, end=0.1),
}


@functools.cache
def jitted(optimizer):
    def apply(state, ids, gradients, step):
        rows = optimizer.read(state, ids, step)
        return optimizer.update(state, ids, rows, gradients, step)

    def read(state, step):
        return optimizer.read(state, None, step).values

    return jax.jit(apply), jax.jit(read)


@functools.cache
def deferred(schedule):
    rate, horizon = SCHEDULES[schedule]
    return item_table.deferred_adam(rate, horizon=horizon)


def run(optimizer, table, updates, last):
    """Applies (step, ids, gradients) and reads the whole table as of step ``last``."""
    apply, read = jitted(optimizer)
    state = optimizer.init(jnp.asarray(table))
    for step, ids, gradients in updates:
        state = apply(state, ids, gradients, jnp.int32(step))
    return np.asarray(read(state, jnp.int32(last))), state


@pytest.mark.parametrize("schedule", sorted(SCHEDULES))
@pytest.mark.parametrize("slept", [1, 2, 17, 300, 4000])
@pytest.mark.parametrize("start", [1, pytest.param(900, marks=pytest.mark.device)])
def test_a_sleeping_row_moves_as_under_dense_adam(schedule, slept, start):
    """The movement of one gradient at update ``start``, against float64."""
    rate, _ = SCHEDULES[schedule]
    sizes = {1e-2: 2e-5, 1e-4: 2e-5, 1e-6: 2e-4}  # and tolerances, a row each
    gradients = np.tile(np.array([*sizes])[:, None], HIDDEN)
    ids = np.arange(len(sizes))
    updates = [(start - 1, ids, gradients.astype(np.float32))]
    zeros = np.zeros_like(gradients, np.float32)
    moved, _ = run(deferred(schedule), zeros, updates, start + slept)
    dense = [None] * (start - 1) + [gradients] + [None] * slept
    expected = reference.dense_adam(zeros, dense, rate)
    for row, tolerance in enumerate(sizes.values()):
        rtol = of_float32(tolerance)
        np.testing.assert_allclose(moved[row], expected[row], rtol=rtol)


@pytest.mark.device
@pytest.mark.portable
@pytest.mark.parametrize("schedule", sorted(SCHEDULES))
def test_deferred_adam_equals_dense_adam_over_rows_touched_now_and_then(schedule):
    rate, _ = SCHEDULES[schedule]
    rng = np.random.default_rng(0)
    table = rng.normal(size=(ROWS, HIDDEN)).astype(np.float32)
    updates, dense = [], []
    for step in range(400):
        size = 5
        ids = np.sort(rng.choice(ROWS - 2, size, replace=False))
        ids[-2:] = ROWS, ROWS + 1  # fewer rows than the static number
        gradients = rng.normal(size=(size, HIDDEN)) * 10.0 ** rng.integers(-4, 0)
        if step % 7 == 0:
            gradients[0] = 0  # touched, yet without a gradient
        updates.append((step, ids, gradients.astype(np.float32)))
        whole = np.zeros((ROWS, HIDDEN))
        whole[ids[:-2]] = gradients[:-2]
        dense.append(whole)
    actual, state = run(deferred(schedule), table, updates, 400)
    expected = reference.dense_adam(table, dense, rate)
    rtol, atol = of_float32(2e-4), of_float32(2e-6)
    np.testing.assert_allclose(actual - table, expected - table, rtol=rtol, atol=atol)
    # rows that were never touched are bit for bit what they were
    np.testing.assert_array_equal(actual[ROWS - 2 :], table[ROWS - 2 :])
    assert (np.asarray(state.last)[ROWS - 2 :] == 0).all()


def test_dense_reference_is_optax():
    rng = np.random.default_rng(1)
    table = rng.normal(size=(ROWS, HIDDEN)).astype(np.float32)
    gradients = [rng.normal(size=(ROWS, HIDDEN)) for _ in range(20)]
    optimizer = item_table.dense(optax.adam(decaying))
    updates = [(t, None, g.astype(np.float32)) for t, g in enumerate(gradients)]
    actual, _ = run(optimizer, table, updates, 20)
    expected = reference.dense_adam(table, gradients, decaying)
    np.testing.assert_allclose(actual - table, expected - table, rtol=1e-4, atol=1e-6)


def test_reading_changes_nothing_and_catches_up_alike_by_ids_and_as_a_whole():
    optimizer = item_table.deferred_adam(constant)
    table = np.random.default_rng(2).normal(size=(ROWS, HIDDEN)).astype(np.float32)
    gradients = jnp.ones((2, HIDDEN))
    whole, state = run(optimizer, table, [(0, jnp.array([3, 8]), gradients)], 50)
    read = jax.jit(lambda s, ids: optimizer.read(s, ids, jnp.int32(50)).values)
    ids = jnp.array([8, 0, 3, 3])
    np.testing.assert_array_equal(read(state, ids), whole[ids])
    assert (whole[[3, 8]] != np.asarray(state.table)[[3, 8]]).all()


def test_decays_that_no_sum_converges_for_are_refused():
    with pytest.raises(ValueError, match="b1"):
        item_table.deferred_adam(constant, b1=0.99, b2=0.9)
