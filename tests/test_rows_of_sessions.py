"""An encoder over sessions as lines, as they are served, is the one that is trained."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tron_jax.data.packing import block_size, pack
from tron_jax.models.gru4rec import GRU4RecSettings, make_gru4rec
from tron_jax.models.sasrec import SASRecSettings, make_sasrec

WIDTH, LONGEST = 12, 20
SASREC = make_sasrec(
    SASRecSettings(
        hidden_size=WIDTH,
        num_layers=2,
        num_heads=3,
        feedforward_size=7,
        max_session_length=LONGEST,
        dropout=0.5,
    )
)
GRU4REC = make_gru4rec(
    GRU4RecSettings(hidden_size=WIDTH - 1, dropout=0.5, init="published")
)
LENGTHS = np.array([1, 5, LONGEST, 2, 13])


@functools.cache
def params(encoder):
    draw = np.random.default_rng(0)
    made = jax.jit(encoder.init)(jax.random.key(0))
    return jax.tree.map(lambda x: x + 0.3 * draw.normal(size=x.shape), made)


TABLE = jnp.asarray(np.random.default_rng(1).normal(size=(60, WIDTH)), jnp.float32)
CLICKS = np.random.default_rng(2).integers(1, 60, LENGTHS.sum() + 1).astype(np.int32)
ENDS = np.cumsum(LENGTHS)


def rows(position, size=LONGEST + 3):
    """Items and positions, a session a line; what is behind its end is anything."""
    items = np.random.default_rng(3).integers(0, 60, (len(LENGTHS), size))
    places = np.tile(np.arange(size), (len(LENGTHS), 1))
    if position == "from_end":
        places += (LONGEST - LENGTHS)[:, None]
    for row, (end, length) in enumerate(zip(ENDS, LENGTHS, strict=True)):
        items[row, :length] = CLICKS[end - length : end]
    return items, np.minimum(places, LONGEST - 1)


@pytest.mark.device
@pytest.mark.portable
@pytest.mark.parametrize("position", ["from_start", "from_end"])
def test_a_transformer(position, full_float32):
    size = 4 * block_size(LONGEST)
    batch = pack(
        CLICKS,
        ENDS - LENGTHS,
        LENGTHS,
        size=size,
        pad_session=len(LENGTHS),
        max_session_length=LONGEST,
        position=position,
    )
    packed, _ = jax.jit(SASREC.encode)(
        params(SASREC), (), TABLE[batch.items], batch.session, batch.position
    )
    items, places = rows(position)
    found = jax.jit(SASREC.encode_rows)(params(SASREC), TABLE[items], places)
    assert found.shape == (*items.shape, WIDTH)
    for row, (end, length) in enumerate(zip(ENDS, LENGTHS, strict=True)):
        expected = packed[end - length : end]
        np.testing.assert_allclose(found[row, :length], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.device
def test_a_recurrent_network(full_float32):
    items, places = rows("from_start")
    found = jax.jit(GRU4REC.encode_rows)(params(GRU4REC), TABLE[items], places)
    for row, length in enumerate(LENGTHS):
        carry = GRU4REC.init_carry(1)
        for event in range(length):
            now = jnp.array([event])
            inputs = TABLE[items[row, event]][None]
            hidden, carry = GRU4REC.encode(params(GRU4REC), carry, inputs, now, now)
            np.testing.assert_allclose(
                found[row, event], hidden[0], rtol=1e-5, atol=1e-5
            )
