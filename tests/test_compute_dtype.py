"""A train step in bfloat16: what is, what stays float32, and what it costs."""

import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from test_config_steps import shrunk
from test_configs import get_config

from experiments.assembly import run_parts
from tron_jax.data.sessions import open_prepared
from tron_jax.models.dropout import Dropout
from tron_jax.models.gru4rec import GRU4RecSettings, make_gru4rec
from tron_jax.models.precision import Dense
from tron_jax.models.sasrec import SASRecSettings, make_sasrec

HIDDEN, EVENTS, SESSION = 64, 192, 8
DTYPES = ("float32", "bfloat16")
PLATFORMS = ("cuda", "tpu")
MAKE = {
    "sasrec": lambda dtype, dropout=0.0: make_sasrec(
        SASRecSettings(
            hidden_size=HIDDEN,
            num_layers=2,
            num_heads=2,
            feedforward_size=HIDDEN,
            max_session_length=SESSION,
            dropout=dropout,
            compute_dtype=dtype,
        )
    ),
    "gru4rec": lambda dtype, dropout=0.0: make_gru4rec(
        GRU4RecSettings(
            hidden_size=HIDDEN, dropout=dropout, init="published", compute_dtype=dtype
        )
    ),
}
WIDTH = {"sasrec": HIDDEN, "gru4rec": HIDDEN + 1}


def arguments(name):
    """What the encoder takes, none of it 0: parameters, carry, rows and so on."""
    encoder = MAKE[name]("float32")
    draw = np.random.default_rng(0)
    params = jax.tree.map(
        lambda x: x + 0.1 * draw.normal(size=x.shape).astype(np.float32),
        jax.jit(encoder.init)(jax.random.key(0)),
    )
    carry = jax.tree.map(
        lambda x: x + draw.uniform(-1, 1, x.shape).astype(np.float32),
        encoder.init_carry(EVENTS),
    )
    rows = draw.normal(size=(EVENTS, WIDTH[name])).astype(np.float32)
    session, position = np.divmod(np.arange(EVENTS, dtype=np.int32), SESSION)
    return params, carry, rows, session, position


def encode(name, dtype, dropout=0.0, train=True):
    """The jitted (params, carry, rows, session, position) -> hidden, carry."""
    encoder = MAKE[name](dtype, dropout)
    key = jax.random.key(1) if train else None
    return jax.jit(lambda *inputs: encoder.encode(*inputs, key))


def built(config, data, dtype):
    config.model.compute_dtype = dtype
    config = shrunk(config, data)
    opened = run_parts.open_data(config)
    config = run_parts.resolve(config, opened.num_items)
    return run_parts.build(config, opened.num_items, opened.train)


def dots(text):
    """The dtypes of each matmul of a program: left, right, result."""
    found = re.findall(r"stablehlo.dot_general.*: (.*)", text)
    return [tuple(re.findall(r"x(b?f\d+)>", types)) for types in found]


def root_mean_square(x):
    return float(np.sqrt(np.mean(np.square(np.asarray(x, np.float64)))))


@pytest.mark.parametrize("name", MAKE)
def test_every_matmul_of_a_trained_encoder_takes_bfloat16(name):
    traced = encode(name, "bfloat16", 0.3).trace(*arguments(name))
    for platform in PLATFORMS:
        found = dots(traced.lower(lowering_platforms=(platform,)).as_text())
        # two layers of query, key and value; scores; mixture; out; feed-forward
        assert len(found) == {"sasrec": 12, "gru4rec": 2}[name]
        assert {pair[:2] for pair in found} == {("bf16", "bf16")}
        # the scores that the softmax is taken of
        assert [out for *_, out in found].count("f32") == 2 * (name == "sasrec")


@pytest.mark.portable
@pytest.mark.parametrize("config", ["tron_xl", "gru4rec"])
def test_lowered_steps_hold_bfloat16_where_asked_for_and_evaluation_never(
    config, tiny_data
):
    for dtype in DTYPES:
        parts = built(get_config(config), tiny_data, dtype)
        state = jax.eval_shape(parts.init)
        given = (state, parts.batches.shapes[0], parts.constants)
        after, _ = jax.eval_shape(parts.train_step, *given)
        for leaf in jax.tree.leaves((state, after)):
            assert leaf.dtype in (jnp.float32, jnp.int32)
        traced = jax.jit(parts.train_step).trace(*given)
        text = traced.lower(lowering_platforms=PLATFORMS).as_text()
        assert ("bf16" in text) == (dtype == "bfloat16")
        assert (("bf16", "bf16", "bf16") in dots(text)) == (dtype == "bfloat16")
        for program in parts.evaluator.trace(state.params, state.items).values():
            assert "bf16" not in program.lower().as_text()


@pytest.mark.device
@pytest.mark.parametrize("name", MAKE)
def test_hidden_states_are_float32_and_within_a_bound_of_those_in_float32(name):
    """Two layers of matmuls, each off by 2^-9 at most: a hundredth, all in all."""
    inputs = arguments(name)
    (exact, carry), (rough, rough_carry) = (
        jax.device_get(encode(name, dtype, 0.3)(*inputs)) for dtype in DTYPES
    )
    for left, right in ((exact, rough), *zip(carry, rough_carry, strict=True)):
        assert left.dtype == right.dtype == jnp.float32
    error = rough - exact
    assert 0 < root_mean_square(error) < 0.01 * root_mean_square(exact)
    assert np.abs(error).max() < 0.05 * np.abs(exact).max()
    # the same are dropped
    np.testing.assert_array_equal(rough == 0, exact == 0)


def test_a_states_error_does_not_grow_with_its_session():
    params, carry, rows, session, position = arguments("gru4rec")
    position = np.ones_like(position)
    states = [(carry, encode("gru4rec", dtype)) for dtype in DTYPES]
    errors = []
    for step in range(40):
        row = np.roll(rows, step, 0)
        states = [
            (step_of(params, state, row, session, position)[1], step_of)
            for state, step_of in states
        ]
        exact, rough = (state for state, _ in states)
        errors.append(root_mean_square(rough - exact) / root_mean_square(exact))
    assert max(errors) < 0.01
    assert max(errors[30:]) < 1.5 * max(errors[:10])


@pytest.mark.device
@pytest.mark.parametrize("name", MAKE)
def test_gradients_are_float32_and_close(name):
    inputs = arguments(name)
    direction = np.random.default_rng(3).normal(size=(EVENTS, WIDTH[name]))
    direction = direction.astype(np.float32)

    def gradients(dtype):
        def total(params, rows):
            changed = (params, inputs[1], rows, *inputs[3:])
            return jnp.sum(encode(name, dtype)(*changed)[0] * direction)

        return jax.jit(jax.grad(total, (0, 1)))(inputs[0], inputs[2])

    exact, rough = (gradients(dtype) for dtype in DTYPES)
    pairs = zip(jax.tree.leaves_with_path(exact), jax.tree.leaves(rough), strict=True)
    for (path, left), right in pairs:
        assert left.dtype == right.dtype == jnp.float32
        # A unit in 400 is so near 0 that its ReLU changes sides, gradient and all.
        name_of_leaf = jax.tree_util.keystr(path)
        through_relu = "feedforward_norm" in name_of_leaf or "['in']" in name_of_leaf
        bound = 0.1 if through_relu else 0.02
        assert root_mean_square(right - left) < bound * root_mean_square(left), (
            name_of_leaf
        )


@pytest.mark.device
def test_a_bias_gradient_is_summed_in_float32():
    layer = Dense(4, dtype=jnp.bfloat16)
    events = jnp.ones((10_001, 2), jnp.bfloat16)
    params = jax.jit(layer.init)(jax.random.key(0), events)

    def total(params):
        return jnp.sum(layer.apply(params, events).astype(jnp.float32))

    by_bias = jax.jit(jax.grad(total))(params)["params"]["bias"]
    np.testing.assert_array_equal(by_bias, np.full(4, 10_001))
    assert jax.eval_shape(layer.apply, params, events).dtype == jnp.bfloat16


def test_what_is_dropped_scales_the_rest_by_a_number_that_is_not_rounded():
    x = jnp.linspace(1, 2, 129).astype(jnp.bfloat16)
    rngs = {"dropout": jax.random.key(0)}
    dropped = Dropout(0.25 + 2**-9).apply({}, x, True, rngs=rngs)
    assert dropped.dtype == jnp.bfloat16
    expected = (x.astype(jnp.float32) / (0.75 - 2**-9)).astype(jnp.bfloat16)
    assert (expected != x / jnp.bfloat16(0.75 - 2**-9)).any()
    kept = np.asarray(dropped != 0)
    assert 0 < kept.sum() < kept.size
    np.testing.assert_array_equal(dropped[kept], expected[kept])


@pytest.mark.parametrize(
    "config", [pytest.param("smoke", marks=pytest.mark.device), "gru4rec_original"]
)
def test_ranks_are_the_same_for_the_same_state(config, tiny_data, compilations):
    test = open_prepared(tiny_data).test
    state, ranks = None, []
    for dtype in DTYPES:
        parts = built(get_config(config), tiny_data, dtype)
        with tiny.compiled_once(compilations):
            state = state or jax.jit(parts.init)()
            ranks.append(parts.evaluator(state.params, state.items, 0, test))
    tiny.assert_same_bits(*ranks)
    assert len(ranks[0]["exact"].higher)


def test_another_name_is_refused_with_those_that_exist():
    for make in MAKE.values():
        with pytest.raises(KeyError, match="float32, bfloat16"):
            make("float16")


def test_a_workdir_keeps_its_dtype_and_an_older_one_has_float32(
    stopped, train, evaluate
):
    words = "model.compute_dtype=float32, not bfloat16"
    tiny.assert_refused(train(stopped, model__compute_dtype="bfloat16"), words)
    path = stopped / "config.json"
    content = json.loads(path.read_text())
    assert content["model"].pop("compute_dtype") == "float32"
    path.write_text(json.dumps(content))
    tiny.assert_refused(train(stopped, model__compute_dtype="bfloat16"), words)
    assert evaluate(stopped)[0] == 0
    assert train(stopped)[0] == 0
    assert json.loads(path.read_text())["model"]["compute_dtype"] == "float32"
