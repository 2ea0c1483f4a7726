import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tron_jax import negatives

SESSIONS = 6
uniform = jax.jit(negatives.uniform_batchwise, static_argnums=(1, 2))
exclude = jax.jit(negatives.exclude_inputs, static_argnums=1)
in_batch = jax.jit(negatives.in_batch, static_argnums=(2, 3))


def stream(seed, size=48, padding=5):
    rng = np.random.default_rng(seed)
    session = np.sort(rng.integers(0, SESSIONS, size - padding))
    session = np.append(session, np.full(padding, SESSIONS)).astype(np.int32)
    items = rng.integers(1, 40, size).astype(np.int32)
    return np.where(session == SESSIONS, 0, items), session


@pytest.mark.parametrize("seed", range(5))
def test_excluded_items_are_the_distinct_inputs(seed):
    items, _ = stream(seed)
    excluded = exclude(items, 40)
    expected = np.unique(items[items > 0])
    assert excluded.count == len(expected)
    np.testing.assert_array_equal(excluded.items[: len(expected)], expected)
    assert (np.asarray(excluded.items[len(expected) :]) > 40).all()


@pytest.mark.portable
def test_draws_map_onto_what_is_left_in_order():
    """Index arithmetic against the plain list of the items that are left."""
    items = jnp.array([3, 4, 1, 9, 3, 0, 12, 0], jnp.int32)
    excluded = exclude(items, 12)
    left = [item for item in range(1, 13) if item not in (1, 3, 4, 9, 12)]
    ids, keep = uniform(jax.random.key(0), 1000, 12, excluded)
    draws = jax.random.randint(jax.random.key(0), (1000,), 0, len(left))
    assert keep
    np.testing.assert_array_equal(ids, np.array(left)[draws])


@pytest.mark.parametrize("excluding", [False, True])
def test_uniform_negatives_are_uniform_over_what_is_left(excluding):
    items, _ = stream(0)
    num_items, draws = 60, 60_000
    excluded = exclude(items, num_items) if excluding else None
    ids, keep = uniform(jax.random.key(7), draws, num_items, excluded)
    assert keep
    counts = np.bincount(ids, minlength=num_items + 1)
    left = np.ones(num_items + 1, bool)
    left[0] = False
    if excluding:
        left[items] = False
    assert not counts[~left].any()
    expected = draws / left.sum()
    chi_square = ((counts[left] - expected) ** 2 / expected).sum()
    freedom = left.sum() - 1
    assert abs(chi_square - freedom) < 4 * np.sqrt(2 * freedom)


def test_where_nothing_is_left_no_uniform_negative_counts():
    items = jnp.arange(1, 9, dtype=jnp.int32)
    ids, keep = uniform(jax.random.key(0), 16, 8, exclude(items, 8))
    assert not keep
    assert ((ids >= 1) & (ids <= 8)).all()


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("num", [5, 40])
def test_in_batch_negatives_are_distinct_inputs_of_other_sessions(seed, num):
    _, session = stream(seed)
    places, keep = (
        np.asarray(x) for x in in_batch(jax.random.key(seed), session, SESSIONS, num)
    )
    assert places.shape == keep.shape == (SESSIONS, num)
    for row in range(SESSIONS):
        others = ((session != row) & (session < SESSIONS)).sum()
        kept = places[row, keep[row]]
        assert len(kept) == min(num, others)
        assert len(set(kept.tolist())) == len(kept)
        assert (session[kept] != row).all()
        assert (session[kept] < SESSIONS).all()


def test_in_batch_negatives_are_uniform_over_the_other_inputs():
    _, session = stream(3)
    draw = jax.jit(jax.vmap(lambda key: negatives.in_batch(key, session, SESSIONS, 5)))
    places, _ = draw(jax.random.split(jax.random.key(0), 4000))
    for row in range(SESSIONS):
        counts = np.bincount(np.asarray(places)[:, row].ravel(), minlength=48)
        other = (session != row) & (session < SESSIONS)
        expected = 4000 * 5 / other.sum()
        # without replacement: the variance shrinks by the share that is not drawn
        shrink = 1 - 5 / other.sum()
        chi_square = ((counts[other] - expected) ** 2 / expected / shrink).sum()
        freedom = other.sum() - 1
        assert abs(chi_square - freedom) < 5 * np.sqrt(2 * freedom)


@pytest.mark.portable
def test_a_longer_stream_leaves_the_draws_of_real_events_unchanged():
    items, session = stream(1)
    longer = np.append(session, np.full(32, SESSIONS, np.int32))
    more_items = np.append(items, np.zeros(32, np.int32))
    key = jax.random.key(5)
    for short, long in zip(
        in_batch(key, session, SESSIONS, 7),
        in_batch(key, longer, SESSIONS, 7),
        strict=True,
    ):
        np.testing.assert_array_equal(short, long)
    draw = functools.partial(uniform, key, 50, 40)
    np.testing.assert_array_equal(
        draw(exclude(items, 40))[0], draw(exclude(more_items, 40))[0]
    )


def test_hits_are_candidates_equal_to_the_label():
    candidates, labels = np.array([4, 2, 9]), np.array([2, 7, 0])
    expected = [[False, True, False], [False] * 3, [False] * 3]
    np.testing.assert_array_equal(negatives.hits(candidates, labels), expected)
