"""The touched rows of a step, and gradients added up by row."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tolerances import of_float32

from tron_jax.optimizers.touched import RowGradient, sum_rows, touch

touched = jax.jit(touch, static_argnums=(3, 4))


@pytest.mark.parametrize("shape", [(1, 30), (6, 5), (3, 0)])
def test_rows_of_each_grouping_are_found(shape):
    rng = np.random.default_rng(0)
    inputs, labels = rng.integers(0, 200, (2, 9))
    drawn = rng.integers(1, 200, shape)
    found = touched(inputs, labels, drawn, 500, False)
    ids = np.asarray(found.ids)
    assert len(ids) == 18 + drawn.size
    all_ids = np.concatenate([inputs, labels, drawn.ravel()])
    np.testing.assert_array_equal(ids[ids < 500], np.unique(all_ids))
    assert (np.diff(ids) > 0).all()  # beyond the table as well
    for rows, wanted in zip(found[1:], (inputs, labels, drawn), strict=True):
        assert rows.shape == wanted.shape
        np.testing.assert_array_equal(ids[rows], wanted)


def test_where_draws_outnumber_the_table_it_is_touched_as_a_whole():
    inputs, labels = jnp.array([4, 9, 0]), jnp.array([9, 2, 0])
    drawn = jnp.arange(1, 13).reshape(3, 4)
    assert touched(inputs, labels, drawn, 19, False).ids.shape == (18,)
    found = touched(inputs, labels, drawn, 18, False)
    assert found.ids is None
    np.testing.assert_array_equal(found.drawn, drawn)
    assert touched(inputs, labels, drawn, 500, True).ids is None


@pytest.mark.device
@pytest.mark.parametrize(
    ("dense", "some"), [(0, 1), (0, 2), (1, 0), (2, 0), (1, 2), (2, 1)]
)
def test_gradients_of_some_and_of_all_rows_are_added_up(dense, some):
    rng = np.random.default_rng(0)
    values = [rng.normal(size=(9, 2)).astype(np.float32) for _ in range(dense)]
    parts = [RowGradient(None, by_all) for by_all in values]
    for shape in ((7,), (4, 3))[:some]:
        gradients = rng.normal(size=(*shape, 2)).astype(np.float32)
        parts.append(RowGradient(rng.integers(0, 9, shape), gradients))
    expected = np.zeros((9, 2))
    for rows, gradients in parts:
        np.add.at(expected, np.arange(9) if rows is None else rows, gradients)
    actual = jax.jit(lambda parts: sum_rows(9, parts))(parts[::-1])
    rtol, atol = of_float32(1e-5), of_float32(1e-6)
    np.testing.assert_allclose(actual, expected, rtol=rtol, atol=atol)
