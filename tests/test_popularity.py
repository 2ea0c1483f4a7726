import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tron_jax.sampling import even, popularity


def chances(made):
    """Of each item, from the table itself, in float64."""
    own = made.threshold / popularity.COLUMN
    chance = own + np.bincount(made.alias - 1, 1 - own, minlength=len(own))
    return chance / len(own)


def wanted(clicks, exponent):
    weights = np.where(clicks > 0, np.maximum(clicks, 1) ** float(exponent), 0)
    return weights / weights.sum()


@pytest.mark.portable
@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0])
def test_every_clicked_item_of_two_million_has_its_chance(exponent):
    """A cumulative sum in float32 would not reach half of them."""
    num_items = 2_000_000
    rng = np.random.default_rng(0)
    items = rng.permutation(num_items).astype(np.int32) + 1
    tail = np.minimum(rng.pareto(0.9, 3_000_000) * 100, num_items - 1).astype(np.int32)
    items = np.concatenate([items[: num_items - 1000], tail + 1])
    made = popularity.make_popularity(items, num_items, exponent)
    clicks = np.bincount(items, minlength=num_items + 1)[1:]
    expected = wanted(clicks, exponent)
    actual = chances(made)
    assert (actual[clicks > 0] > 0).all()
    assert (clicks == 0).any()
    np.testing.assert_allclose(actual, expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("seed", range(20))
def test_small_tables_have_their_chances(seed):
    """Among them one item alone, equal weights, and weights of 0."""
    rng = np.random.default_rng(seed)
    weights = rng.integers(0, [2, 1000][seed % 2], rng.integers(1, 12)).astype(float)
    weights[rng.integers(len(weights))] = rng.choice([1.0, 1e9])
    threshold, alias = popularity.alias_table(weights)
    made = popularity.Popularity(None, threshold, alias, None)
    np.testing.assert_allclose(
        chances(made), weights / weights.sum(), rtol=1e-6, atol=1e-9
    )
    assert (alias >= 1).all()
    assert (alias <= len(weights)).all()


@pytest.mark.parametrize(
    "weights",
    [
        # All alike, but above or below their mean by rounding.
        np.full(2, 2**0.75),
        np.full(49, 3**0.5),
        # The mean itself is among them, first, between and last.
        np.array([2.0, 0, 3, 1, 2, 4, 2]),
        np.array([0.0, 4, 2, 2, 2, 2]),
        np.array([2.0, 2, 2, 5, 2, 1, 2, 0]),
    ],
)
def test_items_of_just_the_mean_have_their_chances(weights):
    made = popularity.Popularity(None, *popularity.alias_table(weights), None)
    np.testing.assert_allclose(
        chances(made), weights / weights.sum(), rtol=1e-6, atol=1e-9
    )


def test_clicks_are_counted_piece_by_piece(monkeypatch):
    items = np.random.default_rng(0).integers(1, 40, 1000).astype(np.int32)
    made = popularity.make_popularity(items, 50, 0.5)
    whole = popularity.make_click_counts(items, 50)
    monkeypatch.setattr(popularity, "CHUNK", 7)
    for a, b in zip(whole, popularity.make_click_counts(items, 50), strict=True):
        np.testing.assert_array_equal(a, b)
    counts = np.bincount(items, minlength=51)
    np.testing.assert_allclose(
        whole.log_count, np.log(np.maximum(counts, 1)), rtol=1e-6
    )
    np.testing.assert_array_equal(made.log_count, whole.log_count)
    np.testing.assert_allclose(np.exp(whole.log_total), 1000, rtol=1e-5)
    total = np.sqrt(counts[1:]).sum()
    np.testing.assert_allclose(np.exp(made.log_total_power), total, rtol=1e-5)


def test_without_clicks_nothing_is_popular():
    with pytest.raises(ValueError, match="no clicks"):
        popularity.make_popularity(np.array([], np.int32), 5, 1.0)


@pytest.mark.device
@pytest.mark.portable
@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0])
def test_draws_follow_the_clicks(exponent):
    clicks = np.array([0, 1, 2, 5, 40, 400, 0, 7, 33])
    items = np.repeat(np.arange(1, 10), clicks)
    made = popularity.make_popularity(items, 9, exponent)
    draw = jax.jit(popularity.draw, static_argnums=1)
    ids = draw(jax.random.key(4), (1000, 60), made)
    assert ids.dtype == jnp.int32
    counts = np.bincount(np.asarray(ids).ravel(), minlength=10)
    assert counts[0] == 0
    expected = 60_000 * wanted(clicks, exponent)
    some = expected > 0
    assert not counts[1:][~some].any()
    chi_square = ((counts[1:] - expected)[some] ** 2 / expected[some]).sum()
    freedom = some.sum() - 1
    assert chi_square < freedom + 4 * np.sqrt(2 * freedom)


def test_draws_of_more_events_begin_alike():
    made = popularity.make_popularity(np.arange(1, 30), 40, 1.0)
    draw = jax.jit(popularity.draw, static_argnums=1)
    short, long = (draw(jax.random.key(1), (n, 7), made) for n in (10, 26))
    np.testing.assert_array_equal(short, long[:10])


def test_draws_of_a_large_catalogue_follow_the_clicks(monkeypatch):
    """By the even draw that large ranges need, as of uniform negatives."""
    asked = []
    between = even.between

    def noted(*arguments):
        asked.append(arguments[2:])
        return between(*arguments)

    monkeypatch.setattr(even, "LARGE", 4)
    monkeypatch.setattr(even, "between", noted)
    clicks = np.array([1, 2, 5, 40, 400])
    made = popularity.make_popularity(np.repeat(np.arange(1, 6), clicks), 5, 0.5)
    ids = popularity.draw(jax.random.key(4), (1000, 60), made)
    assert asked == [(0, 5, 5)]
    counts = np.bincount(np.asarray(ids).ravel(), minlength=6)[1:]
    expected = 60_000 * wanted(clicks, 0.5)
    assert ((counts - expected) ** 2 / expected).sum() < 4 + 4 * np.sqrt(8)
