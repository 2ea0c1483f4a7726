import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tron_jax.models.dropout import Dropout, random_words

SIZE = 2**16
KEYS = [jax.random.key(seed) for seed in range(6)]


draw = jax.jit(random_words, static_argnums=1)


def words(key, shape=(SIZE,)):
    return np.asarray(draw(key, shape))


def share_of_ones(array):
    return np.unpackbits(array.view(np.uint8)).mean()


# of means of SIZE · 32 fair bits, and of SIZE of them
ALL_BITS, ONE_BIT = 5 * 0.5 / np.sqrt(SIZE * 32), 5 * 0.5 / np.sqrt(SIZE)


@pytest.mark.device
@pytest.mark.portable
@pytest.mark.parametrize("key", KEYS)
def test_each_bit_of_each_element_is_a_fair_coin(key):
    drawn = words(key)
    assert len(np.unique(drawn)) == SIZE  # one to one
    assert abs(share_of_ones(drawn) - 0.5) < ALL_BITS
    for bit in range(32):
        ones = (drawn >> np.uint32(bit)) & 1
        assert abs(ones.mean() - 0.5) < ONE_BIT
        for apart in (1, 2, 8, 200, 600):  # of elements, of rows
            changed = ones[apart:] != ones[:-apart]
            assert abs(changed.mean() - 0.5) < 1.1 * ONE_BIT


def test_keys_that_differ_in_a_bit_draw_words_that_agree_by_chance():
    data = jax.random.key_data(KEYS[0])
    drawn = words(KEYS[0])
    for word in range(2):
        for bit in range(32):
            other = data.at[word].set(data[word] ^ jnp.uint32(1 << bit))
            changed = drawn ^ words(jax.random.wrap_key_data(other))
            assert abs(share_of_ones(changed) - 0.5) < ALL_BITS


def test_no_key_draws_what_another_draws_elsewhere():
    steps = [jax.random.fold_in(KEYS[0], step) for step in range(4)]
    all_words = np.concatenate([words(key) for key in [*KEYS, *steps[1:]]])
    expected = len(all_words) ** 2 / 2 / 2**32
    repeated = len(all_words) - len(np.unique(all_words))
    assert repeated < expected + 5 * np.sqrt(expected)


def test_what_is_drawn_for_an_element_does_not_depend_on_those_behind_it():
    short, long = words(KEYS[1], (3, 5, 7)), words(KEYS[1], (9, 5, 7))
    np.testing.assert_array_equal(short, long[:3])


@pytest.mark.device
@pytest.mark.parametrize("rate", [0.001, 0.05, 0.5, 0.999])
def test_elements_are_dropped_at_the_rate_and_the_rest_makes_up_for_it(rate):
    x = np.full((SIZE, 4), 3, np.float32)
    drop = jax.jit(lambda key: Dropout(rate).apply({}, x, True, rngs={"dropout": key}))
    dropped = 0.0
    for key in KEYS:
        out = np.asarray(drop(key))
        np.testing.assert_allclose(out[out != 0], 3 / (1 - rate), rtol=1e-6)
        dropped += (out == 0).mean() / len(KEYS)
    spread = np.sqrt(rate * (1 - rate) / (x.size * len(KEYS)))
    assert abs(dropped - rate) < 5 * spread


def test_all_is_kept_in_evaluation_and_at_rate_0():
    x = jnp.arange(6.0)
    assert Dropout(0.5).apply({}, x, False) is x
    assert Dropout(0.0).apply({}, x, True, rngs={"dropout": KEYS[0]}) is x
