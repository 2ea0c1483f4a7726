import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tron_jax.objectives import selection
from tron_jax.objectives.selection import LOWEST

K = 4
WAYS = {
    "two stages": jax.jit(selection.in_two_stages, static_argnums=1),
    "groups": jax.jit(selection.in_groups, static_argnums=1),
}
# That of a GPU is also tested there.
MARKED = ["two stages", pytest.param("groups", marks=pytest.mark.device)]


def rows_of_scores(kind, columns, seed):
    """[7, columns] float32."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(7, columns)).astype(np.float32)
    if kind == "ties":
        scores = rng.integers(0, 5, (7, columns)).astype(np.float32)
    elif kind == "few count":  # none, one, two, … of a row
        for event, row in enumerate(scores):
            row[rng.permutation(columns)[event:]] = LOWEST
    elif kind == "descending":
        scores = -np.sort(-scores, axis=1)
    elif kind == "ascending":
        scores = np.sort(scores, axis=1)
    return scores


@pytest.mark.portable
@pytest.mark.parametrize("way", MARKED)
@pytest.mark.parametrize("columns", [320, 300, 161, 9])
@pytest.mark.parametrize(
    "kind", ["random", "ties", "few count", "descending", "ascending"]
)
def test_the_highest_are_those_of_top_k(kind, columns, way):
    for seed in range(3):
        scores = rows_of_scores(kind, columns, seed)
        values, found = map(np.asarray, WAYS[way](scores, K))
        expected, _ = jax.lax.top_k(scores, K)
        np.testing.assert_array_equal(values, expected)
        for event, places in enumerate(found):
            real = places < columns
            assert (values[event, ~real] == LOWEST).all()
            assert len(set(places.tolist())) == K
            np.testing.assert_array_equal(
                scores[event, places[real]], values[event, real]
            )


NAN = {
    "positive": np.float32(np.nan),
    "negative": np.array([0xFFC00000], np.uint32).view(np.float32)[0],
}


@pytest.mark.portable
@pytest.mark.parametrize("columns", [320, 79])  # in two stages, in one
@pytest.mark.parametrize("sign", NAN)
@pytest.mark.parametrize("way", MARKED)
def test_nan_comes_first_and_is_found_where_it_is(way, sign, columns):
    """Of either sign; of many rows, as the compiler's maximum loses NaN in those."""
    rng = np.random.default_rng(1)
    scores = rng.normal(size=(200, columns)).astype(np.float32)
    clean = scores.copy()
    event, place = np.arange(0, 200, 2), rng.integers(0, columns, 100)
    scores[event, place] = NAN[sign]
    scores[4, [5, 5 + columns // 2]] = NAN[sign]
    values, found = map(np.asarray, WAYS[way](scores, K))
    assert np.isnan(values[event, 0]).all()
    np.testing.assert_array_equal(np.isnan(values), np.isnan(real(scores, found)))
    others = np.delete(event, 2)
    np.testing.assert_array_equal(found[others, 0], np.delete(place, 2))
    np.testing.assert_array_equal(values[1::2], jax.lax.top_k(clean[1::2], K)[0])
    assert {5, 5 + columns // 2} <= set(found[4, :3].tolist())


def real(scores, columns):
    return np.take_along_axis(scores, columns, axis=1)


def test_what_is_widened_stays_as_wide():
    for k in range(1, 12):
        for columns in range(k, 1200):
            wide = selection.width(columns, k)
            assert columns <= wide < columns + 8 * selection.LARGEST
            assert wide <= 1.5 * columns
            assert selection.width(wide, k) == wide


@pytest.mark.parametrize(
    ("columns", "k", "expected"),
    [
        (16_511, 100, 16_512),
        (16_511, 1, 16_640),
        (8_319, 100, 8_320),
        (300, 4, 320),
        (79, 4, 79),
        (50, 50, 50),
    ],
)
def test_a_row_is_widened_to_whole_groups_where_it_is_long(columns, k, expected):
    assert selection.width(columns, k) == expected
    scores = jnp.zeros((2, expected))
    text = jax.jit(lambda scores: selection.top_k(scores, k)).lower(scores).as_text()
    assert "pad" not in text
    assert text.count("chlo.top_k") == (2 if columns > 79 else 1)


@pytest.mark.parametrize(("platform", "sorts"), [("cpu", 2), ("cuda", 2), ("tpu", 1)])
def test_each_platform_has_its_way(platform, sorts):
    scores = jax.ShapeDtypeStruct((4, 320), np.float32)
    traced = jax.jit(lambda scores: selection.top_k(scores, K)).trace(scores)
    text = traced.lower(lowering_platforms=(platform,)).as_text()
    assert text.count("chlo.top_k") == sorts
    assert ("tensor<4x16x20xf32>" in text) == (platform == "cuda")  # groups of 16
