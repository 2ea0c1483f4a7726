"""Cosine scores: unit rows, unit hidden states, and all that takes them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny

from experiments.assembly import run_parts
from tron_jax.data.sessions import open_prepared
from tron_jax.models.cosine import cosine
from tron_jax.models.sasrec import SASRecSettings, make_sasrec
from tron_jax.optimizers import item_table
from tron_jax.optimizers.normalised import normalised
from tron_jax.unit_vectors import unit

COSINE = {"model__scoring": "cosine", "model__scale": 7.0}


@pytest.mark.portable
def test_unit_vectors():
    x = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    x[2] = 0
    found = np.asarray(unit(jnp.asarray(x)))
    wanted = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-30)
    np.testing.assert_allclose(found, wanted, rtol=1e-6)
    gradient = jax.grad(lambda x: unit(x).sum())(jnp.asarray(x))
    assert np.isfinite(gradient).all()


@pytest.mark.portable
@pytest.mark.parametrize("by_rows", [True, False])
def test_the_gradient_passes_through_the_division(by_rows):
    """An update is that of the loss as a function of the table as it is."""
    draw = np.random.default_rng(1)
    table = jnp.asarray(draw.normal(size=(6, 4)), jnp.float32)
    weights = jnp.asarray(draw.normal(size=(6, 4)), jnp.float32)
    ids = jnp.array([1, 4, 6, 7]) if by_rows else None  # those beyond are no rows
    touched = jnp.array([1, 4]) if by_rows else jnp.arange(6)

    def loss(table):
        return (jnp.square(unit(table)) * weights)[touched].sum()

    plain = item_table.row_adagrad(lambda step: 0.1, epsilon=1e-6)
    if not by_rows:
        plain = item_table.dense(optax.adam(0.1))
    item_tx = normalised(plain)
    state, step = item_tx.init(table), jnp.int32(0)
    rows = item_tx.read(state, ids, step)
    used = rows.values[: len(touched)]
    np.testing.assert_allclose(jnp.linalg.norm(used, axis=1), 1, rtol=1e-6)
    by_rows_read = jnp.zeros_like(rows.values)
    gradient = jax.grad(lambda r: (jnp.square(r) * weights[touched]).sum())(used)
    by_rows_read = by_rows_read.at[: len(touched)].set(gradient)
    found = item_tx.update(state, ids, rows, by_rows_read, step).table
    whole = plain.read(state, None, step)
    wanted = plain.update(state, None, whole, jax.grad(loss)(table), step).table
    np.testing.assert_allclose(found, wanted, rtol=1e-5)
    assert not np.allclose(found, table)


@pytest.mark.portable
def test_scores_are_cosines_times_the_scale():
    encoder = cosine(make_sasrec(SASRecSettings(8, 1, 1, 8, 16, 0.0)), 7.0)
    params = encoder.init(jax.random.key(0))
    inputs = jax.random.normal(jax.random.key(1), (16, 8))
    session = jnp.zeros(16, jnp.int32)
    hidden, _ = encoder.encode(params, (), inputs, session, jnp.arange(16))
    np.testing.assert_allclose(jnp.linalg.norm(hidden, axis=1), 7, rtol=1e-6)
    of_rows = encoder.encode_rows(params, inputs[None], jnp.arange(16)[None])[0]
    np.testing.assert_allclose(of_rows, hidden, atol=1e-5)


@pytest.mark.parametrize("mode", ["dense", "rows"])
def test_ranks_are_those_of_cosines(mode, tiny_data, tmp_path, train, evaluate):
    """Against NumPy over the table that the checkpoint holds."""
    workdir = tmp_path / "run"
    assert train(workdir, mode, **COSINE)[0] == 0
    assert evaluate(workdir)[0] == 0
    state, _ = tiny.saved(workdir)
    data = open_prepared(tiny_data)
    config = run_parts.resolve(
        tiny.config(tiny_data, mode=mode, **COSINE), data.num_items
    )
    parts = run_parts.build_model(config, data.num_items)
    step = tiny.lines(workdir)[-1]["step"]
    rows = np.asarray(
        parts.read_rows(state.items, jnp.arange(data.num_items + 1), step)
    )
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, rtol=1e-5)
    assert np.linalg.norm(np.asarray(state.items.table), axis=1).std() > 1e-4
    plain = tiny.config(tiny_data, mode=mode)
    raw = run_parts.build_model(
        run_parts.resolve(plain, data.num_items), data.num_items
    )
    of_plain = raw.read_rows(state.items, jnp.arange(data.num_items + 1), step)
    np.testing.assert_allclose(rows, unit(of_plain), rtol=1e-6)


def test_it_is_of_transformers(tmp_path, train):
    refused = train(
        tmp_path / "run",
        model__name="gru4rec",
        model__position="from_start",
        negatives__exclude="none",
        **COSINE,
    )
    tiny.assert_refused(refused, "model.scoring is cosine", "expected dot")
