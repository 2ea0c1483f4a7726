import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tron_jax import scoring
from tron_jax.losses import LOSSES


@pytest.mark.parametrize("seed", range(4))
def test_hardest_equals_sorting_what_is_kept(seed):
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(9, 30)).astype(np.float32)
    keep = rng.random((9, 30)) < 0.6
    masked = np.where(keep, scores, scoring.LOWEST)
    columns, kept = jax.jit(scoring.hardest, static_argnums=1)(masked, 7)
    for event in range(9):
        order = np.argsort(-scores[event], kind="stable")
        expected = [column for column in order if keep[event, column]][:7]
        np.testing.assert_array_equal(columns[event], expected)
        assert kept[event].all()


@pytest.mark.parametrize("loss", sorted(LOSSES))
def test_scores_that_are_nan_count_and_show_in_the_loss(loss):
    scores = jnp.array([[5.0, jnp.nan, 3.0, scoring.LOWEST], [1.0, 2.0, 3.0, 4.0]])
    columns, kept = scoring.hardest(scores, 3)
    neg = jnp.take_along_axis(scores, columns, axis=1)
    losses = LOSSES[loss](0.1)(jnp.ones(2), neg, kept)
    np.testing.assert_array_equal(jnp.isnan(losses), [True, False])


def test_where_too_few_are_kept_the_rest_is_marked():
    scores = jnp.array([[5.0, 4.0, 3.0, 2.0]])
    keep = jnp.array([[False, True, False, True]])
    columns, kept = scoring.hardest(jnp.where(keep, scores, scoring.LOWEST), 3)
    assert set(np.asarray(columns[0])[np.asarray(kept[0])].tolist()) == {1, 3}
    assert kept.sum() == 2
    _, none = scoring.hardest(jnp.full_like(scores, scoring.LOWEST), 2)
    assert not none.any()
