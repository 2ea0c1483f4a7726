"""Moments that are kept: as if the first run had simply gone on."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import reference
import reference_gru4rec
from tolerances import of_float32

from tron_jax.optimizers import carried_over, item_table
from tron_jax.optimizers.carried_over import continued

ROWS, HIDDEN = 10, 4
BEFORE, AFTER = 60, 90
# The new table: row 0 of padding, two rows of the old one in another order, one new,
# and others again; rows 2 and 9 of the old one are dropped.
ORIGIN = np.array([0, 5, 3, -1, 1, 4, 8, 6, 7, -1], np.int32)
ADAGRAD = {"epsilon": 1e-6, "epsilon_in_root": True}


def rate(step):
    array = jnp if isinstance(step, jax.Array) else np
    return 1e-2 / array.sqrt(1 + step / 50)


FORMS = {
    "dense": lambda: item_table.dense(optax.adam(rate)),
    "rows": lambda: item_table.deferred_adam(rate, horizon=5000),
}


def draw_gradients(steps, seed):
    """[steps, ROWS, HIDDEN], most rows of a step without any."""
    draw = np.random.default_rng(seed)
    gradients = draw.normal(size=(steps, ROWS, HIDDEN))
    gradients *= 10.0 ** draw.integers(-3, 1, (steps, ROWS, 1))
    return (gradients * (draw.random((steps, ROWS, 1)) < 0.2)).astype(np.float32)


def train(optimizer, state, gradients):
    """Applies gradients to the rows that have any, counting steps from 0."""

    @jax.jit
    def apply(state, ids, gradients, step):
        rows = optimizer.read(state, ids, step)
        return optimizer.update(state, ids, rows, gradients, step)

    for step, of_step in enumerate(gradients):
        ids = None
        if not is_dense(state):
            ids = np.flatnonzero(of_step.any(1))
            ids = np.append(ids, ROWS + np.arange(ROWS - len(ids)))
            of_step = np.where((ids < ROWS)[:, None], of_step[ids % ROWS], 0)
        state = apply(state, ids, of_step, jnp.int32(step))
    return state


def is_dense(state):
    inner = state.state if isinstance(state, carried_over.ContinuedState) else state
    return isinstance(inner, item_table.DenseState)


def tables():
    draw = np.random.default_rng(3)
    return draw.normal(size=(2, ROWS, HIDDEN)).astype(np.float32)


def carried(first, second, gradients):
    """A run by one optimizer, and a warm start by the other; its values and state."""
    old, fresh = tables()
    state = train(first, first.init(jnp.array(old)), gradients)
    whole = carried_over.take(first, state, len(gradients))
    chosen = carried_over.choose_rows(whole, ORIGIN, fresh)
    return carried_over.place(chosen, second.init(jnp.array(fresh)))


def as_if_gone_on(before, after):
    """The table, and all gradients of its rows: new rows had none before."""
    old, fresh = tables()
    known = (ORIGIN >= 0)[:, None]
    table = np.where(known, old[ORIGIN], fresh)
    return table, [*np.where(known, before[:, ORIGIN], 0), *after]


@pytest.mark.portable
@pytest.mark.parametrize("first", sorted(FORMS))
@pytest.mark.parametrize("second", sorted(FORMS))
def test_adam_goes_on_in_either_form(first, second):
    before, after = draw_gradients(BEFORE, 0), draw_gradients(AFTER, 1)
    second = continued(FORMS[second]())
    state = train(second, carried(FORMS[first](), second, before), after)
    assert int(state.before) == BEFORE
    values = np.asarray(second.read(state, None, jnp.int32(AFTER)).values)
    table, gradients = as_if_gone_on(before, after)
    expected = reference.dense_adam(table, gradients, rate)
    rtol, atol = of_float32(3e-4), of_float32(1e-5)
    np.testing.assert_allclose(values - table, expected - table, rtol=rtol, atol=atol)


def test_adam_goes_on_twice():
    """The count of a run that itself went on."""
    parts = [draw_gradients(steps, steps) for steps in (30, 20, 40)]
    first = FORMS["rows"]()
    second, third = continued(first), continued(FORMS["dense"]())
    old, fresh = tables()
    state = train(first, first.init(jnp.array(old)), parts[0])
    same = np.arange(ROWS)
    for optimizer, after, gradients in (
        (first, second, parts[1]),
        (second, third, parts[2]),
    ):
        steps = 30 if optimizer is first else 20
        whole = carried_over.take(optimizer, state, steps)
        chosen = carried_over.choose_rows(whole, same, fresh)
        state = carried_over.place(chosen, after.init(jnp.array(fresh)))
        state = train(after, state, gradients)
    whole = carried_over.take(third, state, 40)
    assert whole.updates == 90
    expected = reference.dense_adam(old, np.concatenate(parts), rate)
    np.testing.assert_allclose(whole.values - old, expected - old, rtol=3e-4, atol=1e-5)


@pytest.mark.parametrize("momentum", [0.0, 0.3])
def test_adagrad_goes_on(momentum):
    before, after = draw_gradients(BEFORE, 0), draw_gradients(AFTER, 1)
    plain = item_table.row_adagrad(rate, momentum=momentum, **ADAGRAD)
    second = continued(plain)
    state = train(second, carried(plain, second, before), after)
    table, gradients = as_if_gone_on(before, after)
    expected = reference_gru4rec.adagrad(
        table,
        gradients,
        rate,
        epsilon=1e-6,
        in_root=True,
        momentum=momentum,
        sparse=True,
    )
    rtol, atol = of_float32(1e-4), of_float32(2e-6)
    moved = np.asarray(state.table) - table
    np.testing.assert_allclose(moved, expected - table, rtol=rtol, atol=atol)


def test_with_the_steps_of_the_run_moments_would_be_divided_as_if_young():
    """Why the count is kept: the figures of the module's docstring."""
    ones = np.ones((400, ROWS, HIDDEN), np.float32)
    first = FORMS["dense"]()
    state = train(first, first.init(jnp.array(tables()[0])), ones)
    adam, schedule = state.opt
    young = adam._replace(count=jnp.zeros_like(adam.count))
    of_right, of_wrong = [], []
    wrong = state._replace(opt=(young, schedule))
    for _ in range(10):
        after, wrong_after = (
            train(first, state, ones[:1]),
            train(first, wrong, ones[:1]),
        )
        of_right.append(float((after.table - state.table)[0, 0]))
        of_wrong.append(float((wrong_after.table - wrong.table)[0, 0]))
        state, wrong = after, wrong_after
    ratio = np.divide(of_wrong, of_right)
    number = np.arange(1, 11)
    c1, c2 = 1 - 0.9**number, 1 - 0.999**number
    mature = np.sqrt(1 - 0.999 ** (400 + number))  # of updates that are not many yet
    np.testing.assert_allclose(ratio, np.sqrt(c2) / c1 / mature, rtol=1e-2)


def test_moments_of_another_rule_do_not_fit():
    rows = FORMS["rows"]()
    whole = carried_over.take(rows, rows.init(jnp.array(tables()[0])), 0)
    adagrad = item_table.row_adagrad(rate, **ADAGRAD)
    with pytest.raises(ValueError, match="2 moments do not fit RowAdagradState"):
        carried_over.place(whole, adagrad.init(jnp.array(tables()[0])))
