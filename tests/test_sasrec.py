import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tolerances import of_float32

from tron_jax.data.packing import pack
from tron_jax.models.sasrec import Attention, SASRecSettings, make_sasrec

HIDDEN = 16


def golden_params(golden, layers=2):
    """The authors' PyTorch weights under our names; their kernels are [out, in]."""

    def dense(kernel, bias):
        return {"kernel": golden[kernel].T, "bias": golden[bias]}

    def norm(name):
        return {"scale": golden[f"{name}.weight"], "bias": golden[f"{name}.bias"]}

    params = {
        "positions": golden["w/positional_embedding_layer.embedding.weight"],
        "final_norm": norm("w/encoder.norm"),
    }
    for i in range(layers):
        layer = f"w/encoder.layers.{i}"
        attention = f"{layer}.self_attn"
        params |= {
            f"attention_{i}": {
                "qkv": dense(
                    f"{attention}.in_proj_weight", f"{attention}.in_proj_bias"
                ),
                "out": dense(
                    f"{attention}.out_proj.weight", f"{attention}.out_proj.bias"
                ),
            },
            f"feedforward_{i}": {
                "in": dense(f"{layer}.linear1.weight", f"{layer}.linear1.bias"),
                "out": dense(f"{layer}.linear2.weight", f"{layer}.linear2.bias"),
            },
            f"attention_norm_{i}": norm(f"{layer}.norm1"),
            f"feedforward_norm_{i}": norm(f"{layer}.norm2"),
        }
    return {"params": params}


def small(**changes):
    return make_sasrec(
        SASRecSettings(
            **{
                "hidden_size": HIDDEN,
                "num_layers": 2,
                "num_heads": 1,
                "feedforward_size": HIDDEN,
                "max_session_length": 8,
                "dropout": 0.0,
            }
            | changes
        )
    )


ENCODE = jax.jit(small().encode)


@pytest.mark.device
@pytest.mark.usefixtures("full_float32")
@pytest.mark.portable
@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 1, 0, 2)])
def test_packed_forward_equals_the_authors_code(golden_file, order):
    golden = golden_file("sasrec_forward.npz")
    clicks, labels, mask = (golden[name] for name in ("clicks", "labels", "mask"))
    sessions = []
    for row in order:
        real = mask[row] > 0
        sessions.append(np.append(clicks[row][real], labels[row][real][-1]))
    counts = np.array([len(session) - 1 for session in sessions])
    starts = np.cumsum(counts + 1) - counts - 1
    batch = pack(
        np.concatenate(sessions).astype(np.int32),
        starts,
        counts,
        size=48,
        pad_session=4,
        max_session_length=8,
        position="from_end",
    )
    inputs = golden["w/item_embedding.weight"][batch.items]
    hidden, _ = ENCODE(golden_params(golden), (), inputs, batch.session, batch.position)
    expected = np.concatenate([golden["hidden"][row][mask[row] > 0] for row in order])
    real = batch.weight > 0
    tolerance = of_float32(1e-5)
    np.testing.assert_allclose(
        np.asarray(hidden)[real], expected, rtol=tolerance, atol=tolerance
    )


def test_parameters_have_the_names_and_shapes_of_the_golden_weights(golden_file):
    golden = golden_params(golden_file("sasrec_forward.npz"))
    params = jax.eval_shape(small().init, jax.random.key(0))
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, golden)


def test_initialisers_stay_within_the_published_bounds_and_fill_them():
    size = 64
    encoder = small(hidden_size=size, feedforward_size=size)
    params = jax.jit(encoder.init)(jax.random.key(0))["params"]
    bounds = {
        ("attention_0", "qkv", "kernel"): np.sqrt(6 / (4 * size)),
        ("attention_0", "out", "kernel"): 1 / np.sqrt(size),
        ("feedforward_1", "in", "kernel"): 1 / np.sqrt(size),
        ("feedforward_1", "in", "bias"): 1 / np.sqrt(size),
        ("feedforward_1", "out", "bias"): 1 / np.sqrt(size),
    }
    for (module, layer, name), bound in bounds.items():
        largest = np.abs(params[module][layer][name]).max()
        assert 0.9 * bound < largest <= bound, (module, layer, name)
    assert np.abs(params["positions"]).max() <= np.sqrt(6 / (8 + size))
    assert not params["attention_0"]["qkv"]["bias"].any()
    assert not params["attention_0"]["out"]["bias"].any()


def test_a_session_sees_neither_later_inputs_nor_other_sessions():
    encoder = small(num_heads=2)
    params = jax.jit(encoder.init)(jax.random.key(1))
    counts = np.array([5, 8, 3, 8, 8, 6])
    session = np.repeat(np.arange(6), counts)
    session = np.pad(session, (0, 48 - session.size), constant_values=6)
    position = np.concatenate([np.arange(n) for n in counts])
    position = np.pad(position, (0, 48 - position.size))
    inputs = jax.random.normal(jax.random.key(2), (48, HIDDEN))
    mix = jnp.arange(HIDDEN)  # a plain sum would be constant after the final norm

    @jax.jit
    def influence(inputs):
        return jax.jacobian(
            lambda x: encoder.encode(params, (), x, session, position)[0] @ mix
        )(inputs)

    reaches = np.abs(influence(inputs)).sum(-1) > 0
    index = np.arange(48)
    expected = (session[:, None] == session) & (index <= index[:, None])
    real = session < 6
    np.testing.assert_array_equal(reaches[real], expected[real])


@pytest.mark.device
@pytest.mark.usefixtures("full_float32")
@pytest.mark.parametrize("rate", [0.2, 0.5])
def test_dropout_on_attention_weights_keeps_its_share_and_depends_on_the_key(rate):
    attention = Attention(num_heads=1, dropout=rate, block=64)
    size = 64 * 16
    session = np.arange(size) // 32
    # Values of one-hot: the output is then the dropped weights themselves.
    only_values = np.pad(np.eye(64, dtype=np.float32), ((0, 0), (128, 0)))
    zeros = np.zeros(192, np.float32)
    params = {
        "params": {
            "qkv": {"kernel": only_values, "bias": zeros},
            "out": {"kernel": np.eye(64, dtype=np.float32), "bias": zeros[:64]},
        }
    }
    one_hot = np.eye(64, dtype=np.float32)[np.arange(size) % 32]

    @jax.jit
    def weights(key):
        return attention.apply(params, one_hot, session, True, rngs={"dropout": key})

    first, second = (np.asarray(weights(jax.random.key(i)))[:, :32] for i in range(2))
    row = np.arange(size) % 32
    causal = np.arange(32) <= row[:, None]
    kept = first[causal] > 0
    assert abs(kept.mean() - (1 - rate)) < 4 * np.sqrt(rate * (1 - rate) / kept.size)
    assert not first[~causal].any()
    expected = np.broadcast_to(1 / (row[:, None] + 1) / (1 - rate), causal.shape)
    np.testing.assert_allclose(
        first[first > 0], expected[first > 0], rtol=of_float32(1e-5)
    )
    assert (first != second).any()
    np.testing.assert_array_equal(first, weights(jax.random.key(0))[:, :32])


@pytest.mark.device
@pytest.mark.usefixtures("full_float32")
@pytest.mark.portable
def test_dropout_of_real_events_does_not_depend_on_the_length_of_the_stream():
    encoder = small(dropout=0.3, num_layers=1)
    params = jax.jit(encoder.init)(jax.random.key(1))
    inputs = jax.random.normal(jax.random.key(2), (64, HIDDEN))
    session = np.repeat(np.arange(8), 8)

    def encode(size):
        hidden, _ = encoder.encode(
            params,
            (),
            inputs[:size],
            session[:size],
            np.arange(size) % 8,
            jax.random.key(3),
        )
        return hidden[:32]

    short, long = jax.jit(lambda: (encode(32), encode(64)))()
    rtol, atol = of_float32(1e-5), of_float32(1e-6)
    np.testing.assert_allclose(short, long, rtol=rtol, atol=atol)
