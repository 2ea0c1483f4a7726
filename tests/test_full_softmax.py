import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference_losses
from test_steps import make_batch

from tron_jax.objectives import full_softmax
from tron_jax.objectives.full_softmax import make_full_softmax
from tron_jax.objectives.objective import StepData
from tron_jax.optimizers.touched import Touched

EVENTS, ITEMS, HIDDEN = 64, 70, 8


def example(items=ITEMS, scale=1.0):
    rng = np.random.default_rng(0)
    batch = make_batch(size=EVENTS, items=items)
    hidden = rng.normal(size=(EVENTS, HIDDEN))
    table = rng.normal(size=(items + 1, HIDDEN)) * scale
    return batch, hidden, table


def run(objective, batch, hidden, table):
    """Totals and gradients, those by rows added up."""
    none = jnp.zeros((1, 0), jnp.int32)
    touched = Touched(None, jnp.asarray(batch.items), jnp.asarray(batch.labels), none)

    @jax.jit
    def call(hidden, table):
        gradients, totals = objective(
            StepData(jnp.int32(0), batch, None, touched, None), hidden, table
        )
        by_rows = jnp.zeros_like(table)
        for rows, part in gradients.rows:
            by_rows = by_rows + part if rows is None else by_rows.at[rows].add(part)
        return totals, gradients.hidden, by_rows

    return call(jnp.asarray(hidden), jnp.asarray(table))


@pytest.mark.portable
@pytest.mark.parametrize(
    "block", [1, 10, pytest.param(16, marks=pytest.mark.device), 69, 70, 200]
)
def test_equals_the_softmax_over_all_items(block):
    """Blocks that divide the items and blocks that do not, fewer and more than them."""
    batch, hidden, table = example()
    count = batch.weight.sum()
    expected = reference_losses.full_softmax(
        hidden, table, batch.labels, batch.weight, count
    )
    with jax.enable_x64(True):
        objective = make_full_softmax(num_items=ITEMS, block=block)
        totals, by_hidden, by_rows = run(objective, batch, hidden, table)
    assert totals.events == count
    for actual, wanted in zip((totals.loss, by_hidden, by_rows), expected, strict=True):
        assert np.asarray(actual).dtype == np.float64
        np.testing.assert_allclose(actual, wanted, rtol=1e-10, atol=1e-14)
    assert not np.asarray(by_rows)[0].any()


def test_gradient_is_that_of_the_plain_form():
    batch, hidden, table = example()
    hidden, table = np.float32(hidden), np.float32(table)

    def plain(hidden, table):
        scores = hidden @ table[1:].T
        label = jnp.maximum(batch.labels - 1, 0)
        losses = -jnp.take_along_axis(jax.nn.log_softmax(scores), label[:, None], 1)
        return jnp.sum(losses[:, 0] * batch.weight) / 32

    objective = make_full_softmax(
        num_items=ITEMS, block=16, mean_over="batch", batch_size=32
    )
    totals, *actual = run(objective, batch, hidden, table)
    value, expected = jax.jit(jax.value_and_grad(plain, (0, 1)))(hidden, table)
    np.testing.assert_allclose(totals.loss / 32, value, rtol=1e-5)
    for a, b in zip(actual, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_large_scores_stay_finite_and_nan_shows():
    batch, hidden, table = example(scale=1e3)
    objective = make_full_softmax(num_items=ITEMS, block=16)
    hidden, table = np.float32(hidden), np.float32(table)
    assert all(
        np.isfinite(leaf).all()
        for leaf in jax.tree.leaves(run(objective, batch, hidden, table))
    )
    table[33, 2] = np.nan
    assert np.isnan(run(objective, batch, hidden, table)[0].loss)


def test_no_array_of_events_times_items_is_made():
    items, block = 20_000, 100
    batch, hidden, table = example(items)
    assert batch.items.size == EVENTS

    def both_passes(hidden, table):
        total, backward = jax.vjp(
            lambda *by: full_softmax.log_total(*by, block), hidden, table
        )
        return backward(total)

    compiled = jax.jit(both_passes).lower(hidden, table).compile()
    memory = compiled.memory_analysis()
    assert memory is not None
    assert memory.temp_size_in_bytes < 4 * EVENTS * items / 4


def test_lowers_for_accelerators():
    batch, hidden, table = example()
    objective = make_full_softmax(num_items=ITEMS, block=16)
    touched = Touched(None, batch.items, batch.labels, np.zeros((1, 0), np.int32))

    def call(hidden, table):
        data = StepData(jnp.int32(0), batch, None, touched, None)
        return objective(data, hidden, table)

    traced = jax.jit(call).trace(np.float32(hidden), np.float32(table))
    assert traced.lower(lowering_platforms=("cuda", "tpu")).as_text()
