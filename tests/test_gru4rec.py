import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference_gru4rec as reference
from tolerances import of_float32

from tron_jax.models.gru4rec import GRU4RecSettings, make_gru4rec

HIDDEN, SLOTS = 6, 4


def make(hidden_size=HIDDEN, dropout=0.0, init="published"):
    return make_gru4rec(
        GRU4RecSettings(hidden_size=hidden_size, dropout=dropout, init=init)
    )


def perturbed(encoder, seed=0):
    """Parameters none of which is 0 or equal to another."""
    draw = np.random.default_rng(seed)
    params = jax.jit(encoder.init)(jax.random.key(seed))
    return jax.tree.map(
        lambda x: x + 0.3 * draw.normal(size=x.shape).astype(np.float32),
        jax.device_get(params),
    )


def normal(seed, shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.device
@pytest.mark.usefixtures("full_float32")
@pytest.mark.portable
def test_forward_equals_the_authors_code(golden_file):
    golden = golden_file("gru4rec_forward.npz")

    def dense(kind):
        kernel, bias = (golden[f"w/gru.{w}_{kind}_l0"] for w in ("weight", "bias"))
        return {"kernel": kernel.T, "bias": bias}

    encoder = make(16)
    params = {"params": {"inputs": dense("ih"), "state": dense("hh")}}
    table = golden["w/item_embedding.weight"]
    encode = jax.jit(encoder.encode)
    carry = encoder.init_carry(4)
    assert (golden["keep_state"][1:] == 0).any()
    for items, keep, expected in zip(
        golden["items"], golden["keep_state"], golden["outputs"], strict=True
    ):
        position = 5 * keep[:, 0].astype(np.int32)
        hidden, carry = encode(params, carry, table[items], np.arange(4), position)
        np.testing.assert_allclose(
            hidden, expected[:, 0], rtol=of_float32(1e-5), atol=of_float32(1e-6)
        )
    shapes = jax.tree.map(jnp.shape, jax.eval_shape(encoder.init, jax.random.key(0)))
    assert shapes == jax.tree.map(jnp.shape, params)


def test_states_are_carried_and_cleared_where_a_session_starts():
    encoder = make()
    params = perturbed(encoder)
    rows = normal(1, (7, SLOTS, HIDDEN + 1))
    position = np.random.default_rng(2).integers(0, 3, (7, SLOTS)).astype(np.int32)
    position[0] = 0
    assert (position[1:] == 0).any()
    assert (position[1:] > 0).any()
    encode = jax.jit(encoder.encode)
    carry = encoder.init_carry(SLOTS)
    state = np.zeros((SLOTS, HIDDEN))
    for row, index in zip(rows, position, strict=True):
        hidden, carry = encode(params, carry, row, np.arange(SLOTS), index)
        for slot in range(SLOTS):
            before = state[slot] if index[slot] else np.zeros(HIDDEN)
            state[slot] = reference.gru(params, row[slot, :-1], before)
        np.testing.assert_allclose(hidden[:, :-1], state, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(hidden[:, -1], np.ones(SLOTS))
        np.testing.assert_array_equal(carry, hidden[:, :-1])


def test_what_is_dropped_is_dropped_from_what_is_carried_on():
    encoder = make(64, dropout=0.4)
    params = perturbed(encoder)
    rows = normal(1, (SLOTS, 65))
    position = np.ones(SLOTS, np.int32)
    before = normal(2, (SLOTS, 64))

    @jax.jit
    def encode(key=None):
        return encoder.encode(params, before, rows, position, position, key)

    whole, _ = encode()
    hidden, carry = encode(jax.random.key(3))
    np.testing.assert_array_equal(hidden[:, :-1], carry)
    np.testing.assert_array_equal(hidden[:, -1], np.ones(SLOTS))
    kept = np.asarray(carry) != 0
    np.testing.assert_allclose(carry[kept], whole[:, :-1][kept] / 0.6, rtol=1e-4)
    assert abs(kept.mean() - 0.6) < 4 * np.sqrt(0.24 / kept.size)
    again, _ = encode(jax.random.key(3))
    np.testing.assert_array_equal(hidden, again)
    other, _ = encode(jax.random.key(4))
    assert (hidden != other).any()


def test_gradients_reach_inputs_and_weights_but_neither_carry_nor_bias_column():
    encoder = make()
    params = perturbed(encoder)
    rows = normal(1, (SLOTS, HIDDEN + 1))
    before = normal(2, (SLOTS, HIDDEN))
    position = np.array([0, 1, 2, 0])

    def both(params, carry, rows):
        return encoder.encode(params, carry, rows, np.arange(SLOTS), position)

    def of_hidden(*arguments):
        return jnp.sum(jnp.square(both(*arguments)[0]))

    def of_carry(*arguments):
        return jnp.sum(jnp.square(both(*arguments)[1]))

    (by_params, by_carry, by_rows), nothing = jax.device_get(
        jax.jit(lambda *a: [jax.grad(f, (0, 1, 2))(*a) for f in (of_hidden, of_carry)])(
            params, before, rows
        )
    )
    assert all((leaf != 0).all() for leaf in jax.tree.leaves(by_params))
    assert not by_carry.any()
    assert (by_rows[:, :-1] != 0).all()
    assert not by_rows[:, -1].any()
    assert not any(leaf.any() for leaf in jax.tree.leaves(nothing))
    # against differences, of a loss that weighs every state differently
    step = 5e-3
    along = jax.jit(of_hidden)
    ahead, behind = (
        along(jax.tree.map(lambda p, s=s: p + np.float32(s), params), before, rows)
        for s in (step, -step)
    )
    slope = sum(leaf.sum() for leaf in jax.tree.leaves(by_params))
    np.testing.assert_allclose((ahead - behind) / (2 * step), slope, rtol=1e-3)


def test_idle_slots_stay_finite():
    encoder = make(dropout=0.4)
    params = perturbed(encoder)
    carry = encoder.init_carry(SLOTS)
    rows = np.zeros((SLOTS, HIDDEN + 1), np.float32)
    session, position = np.full(SLOTS, SLOTS), np.zeros(SLOTS, np.int32)
    encode = jax.jit(encoder.encode)
    for step in range(3):
        key = jax.random.key(step)
        hidden, carry = encode(params, carry, rows, session, position, key)
    assert np.isfinite(hidden).all()
    assert np.isfinite(carry).all()


@pytest.mark.parametrize("init", ["published", "original"])
def test_first_parameters_fill_their_bounds(init):
    size, rows = 64, 2000
    encoder = make(size, init=init)
    layers = jax.jit(encoder.init)(jax.random.key(0))["params"]
    table = jax.jit(encoder.init_table, static_argnums=1)(jax.random.key(1), rows)
    assert table.shape == (rows, size + 1)
    published = init == "published"
    matrix = 1 / np.sqrt(size) if published else np.sqrt(6 / (2 * size))
    bounds = {
        "table": (
            table[:, :-1],
            np.sqrt(1 / (rows + size + 1)) if published else np.sqrt(6 / (rows + size)),
        ),
        "inputs": (layers["inputs"]["kernel"], matrix),
        "state": (layers["state"]["kernel"], matrix),
    }
    for name in ("inputs", "state"):
        bounds[f"bias of {name}"] = (
            layers[name]["bias"],
            1 / np.sqrt(size) if published else 0,
        )
    bounds["output bias"] = (table[:, -1], bounds["table"][1] if published else 0)
    for name, (values, bound) in bounds.items():
        assert np.abs(values).max() <= bound, name
        assert np.abs(values).max() >= 0.95 * bound, name
        assert abs(np.mean(values)) <= 0.2 * bound, name


def test_unknown_init_is_refused_with_the_names():
    with pytest.raises(KeyError, match="published, original"):
        make(init="xavier")


def test_a_step_lowers_for_accelerators():
    encoder = make(dropout=0.4)
    params, carry, rows, key = jax.eval_shape(
        lambda: (
            jax.jit(encoder.init)(jax.random.key(0)),
            encoder.init_carry(SLOTS),
            jnp.zeros((SLOTS, HIDDEN + 1)),
            jax.random.key(0),
        )
    )
    ids = jax.ShapeDtypeStruct((SLOTS,), jnp.int32)
    traced = jax.jit(encoder.encode).trace(params, carry, rows, ids, ids, key)
    assert traced.lower(lowering_platforms=("cuda", "tpu")).as_text()
