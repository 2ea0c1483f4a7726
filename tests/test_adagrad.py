import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import reference_gru4rec as reference
from tolerances import of_float32

from tron_jax.optimizers import adagrad, item_table

ROWS, HIDDEN = 12, 4
# epsilon, in the root, momentum: GRU4Rec+, the original, and what is between them
SETTINGS = [(1e-10, False, 0.0), (1e-6, True, 0.2), (1e-2, False, 0.5), (0, True, 0.0)]


def rate(step):
    return 0.2 / (1 + step / 50)


def draw_gradients(steps, seed=0):
    """Of every size, elements and whole rows of them 0."""
    draw = np.random.default_rng(seed)
    gradients = draw.normal(size=(steps, ROWS, HIDDEN))
    gradients *= 10.0 ** draw.integers(-4, 1, (steps, ROWS, 1))
    gradients *= draw.random((steps, ROWS, HIDDEN)) < 0.8
    gradients *= draw.random((steps, ROWS, 1)) < 0.5
    return gradients.astype(np.float32)


def options(setting):
    return dict(zip(("epsilon", "epsilon_in_root", "momentum"), setting, strict=True))


@functools.cache
def start():
    return np.random.default_rng(9).normal(size=(ROWS, HIDDEN)).astype(np.float32)


def written_out(gradients, setting, *, sparse):
    epsilon, in_root, momentum = setting
    return reference.adagrad(
        start(),
        gradients,
        rate,
        epsilon=epsilon,
        in_root=in_root,
        momentum=momentum,
        sparse=sparse,
    )


def assert_moved_alike(actual, expected):
    rtol, atol = of_float32(1e-4), of_float32(2e-6)
    np.testing.assert_allclose(
        actual - start(), expected - start(), rtol=rtol, atol=atol
    )


@pytest.mark.portable
@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("whole", [pytest.param(False, marks=pytest.mark.device), True])
def test_rows_equal_the_rule_written_out(setting, whole):
    optimizer = item_table.row_adagrad(rate, **options(setting))

    @jax.jit
    def apply(state, ids, gradients, step):
        rows = optimizer.read(state, ids, step)
        return optimizer.update(state, ids, rows, gradients, step)

    gradients = draw_gradients(40)
    state = optimizer.init(jnp.asarray(start()))
    for step, gradient in enumerate(gradients):
        ids = None
        if not whole:
            # Rows without a gradient may be among the touched ones.
            ids = np.flatnonzero(gradient.any(1) | (np.arange(ROWS) % 3 == step % 3))
            ids = np.append(ids, ROWS + np.arange(ROWS - len(ids)))
            gradient = np.where(ids[:, None] < ROWS, gradient[ids % ROWS], 7)
        state = apply(state, ids, gradient, jnp.int32(step))
    expected = written_out(gradients, setting, sparse=True)
    assert_moved_alike(np.asarray(state.table), expected)
    assert len(state.memory) == (2 if setting[2] else 1)


@pytest.mark.parametrize("setting", SETTINGS)
def test_the_transform_equals_the_rule_written_out(setting):
    tx = adagrad.adagrad(rate, **options(setting))
    gradients = draw_gradients(40)
    params = {"a": jnp.asarray(start()), "b": [jnp.asarray(start()[0])]}
    state = tx.init(params)

    @jax.jit
    def apply(params, state, gradients):
        updates, state = tx.update(gradients, state, params)
        return optax.apply_updates(params, updates), state

    for gradient in gradients:
        params, state = apply(params, state, {"a": gradient, "b": [gradient[0]]})
    expected = written_out(gradients, setting, sparse=False)
    assert_moved_alike(np.asarray(params["a"]), expected)
    np.testing.assert_array_equal(params["b"][0], params["a"][0])
    assert state.step == 40


def test_a_row_that_is_not_drawn_keeps_its_velocity_for_the_next_time():
    optimizer = item_table.row_adagrad(
        lambda step: 0.2, epsilon=1e-6, epsilon_in_root=True, momentum=0.5
    )
    state = optimizer.init(jnp.zeros((ROWS, HIDDEN)))
    one = jnp.ones((1, HIDDEN))
    for step, row in enumerate((3, 8, 8, 3)):
        ids = jnp.array([row])
        rows = optimizer.read(state, ids, jnp.int32(step))
        state = optimizer.update(state, ids, rows, one, jnp.int32(step))
    first = -0.2 / np.sqrt(1 + 1e-6)
    second = 0.5 * first - 0.2 / np.sqrt(2 + 1e-6)
    for row in (3, 8):
        np.testing.assert_allclose(state.table[row], first + second, rtol=1e-6)


def test_both_lower_for_accelerators():
    optimizer = item_table.row_adagrad(rate, **options(SETTINGS[1]))
    tx = adagrad.adagrad(rate, **options(SETTINGS[1]))

    def both(table, ids, gradients, step):
        state = optimizer.init(table)
        rows = optimizer.read(state, ids, step)
        return optimizer.update(state, ids, rows, gradients, step), tx.update(
            gradients, tx.init(gradients)
        )

    table = jax.ShapeDtypeStruct((ROWS, HIDDEN), jnp.float32)
    ids = jax.ShapeDtypeStruct((3,), jnp.int32)
    gradients = jax.ShapeDtypeStruct((3, HIDDEN), jnp.float32)
    step = jax.ShapeDtypeStruct((), jnp.int32)
    traced = jax.jit(both).trace(table, ids, gradients, step)
    assert traced.lower(lowering_platforms=("cuda", "tpu")).as_text()
