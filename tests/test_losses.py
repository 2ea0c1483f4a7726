import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from tron_jax.losses import LOSSES

PENALTY = 0.1
NAMES = sorted(LOSSES)
GOLDEN = {"ssm": "ssm", "bce": "bce", "bpr_max": "bpr_max_penalty_0p1"}


def loss_fn(name):
    return jax.jit(LOSSES[name](PENALTY))


def example(events=7, k=9, seed=0):
    rng = np.random.default_rng(seed)
    pos, neg = rng.normal(size=events), rng.normal(size=(events, k))
    return pos, neg, rng.random((events, k)) < 0.5


@pytest.mark.portable
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("suffix", ["", "_top10"])
def test_equals_the_authors_code(golden_file, name, suffix):
    golden = golden_file("losses.npz")
    real = golden["mask"] > 0
    with jax.enable_x64(True):
        neg = golden["neg_logits"][real]
        if suffix:
            neg = np.sort(neg, axis=1)[:, -10:]
        keep = np.ones(neg.shape, bool)
        losses = loss_fn(name)(golden["pos_logits"][real][:, 0], neg, keep)
        expected = float(golden[GOLDEN[name] + suffix])
        np.testing.assert_allclose(losses.mean(), expected, rtol=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_masked_candidates_take_no_part(name):
    pos, neg, keep = example()
    keep[0] = True
    wild = np.where(keep, neg, 1e4)
    value_and_grad = jax.jit(
        jax.value_and_grad(
            lambda pos, neg, keep: LOSSES[name](PENALTY)(pos, neg, keep).sum(), (0, 1)
        )
    )
    total, (d_pos, d_neg) = value_and_grad(pos, wild, keep)
    expected = 0.0
    for event in range(len(pos)):
        only = neg[event : event + 1, keep[event]]
        value, grads = value_and_grad(
            pos[event : event + 1], only, np.ones(only.shape, bool)
        )
        expected += value
        np.testing.assert_allclose(d_pos[event], grads[0][0], rtol=2e-5, atol=1e-7)
        np.testing.assert_allclose(
            d_neg[event, keep[event]], grads[1][0], rtol=2e-5, atol=1e-7
        )
        assert not np.asarray(d_neg)[event, ~keep[event]].any()
    np.testing.assert_allclose(total, expected, rtol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_an_event_without_negatives_has_loss_and_gradient_zero(name):
    pos, neg, keep = example()
    keep[2] = False

    def event(pos, neg):
        return LOSSES[name](PENALTY)(pos, neg, keep)[2]

    value, grads = jax.jit(jax.value_and_grad(event, (0, 1)))(pos, neg)
    assert value == 0
    assert all(np.all(np.asarray(grad) == 0) for grad in grads)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_agree_with_differences(name):
    pos, neg, keep = example()
    with jax.enable_x64(True):
        check_grads(
            functools.partial(LOSSES[name](PENALTY), keep=keep),
            (jnp.asarray(pos), jnp.asarray(neg)),
            order=1,
            modes=["rev"],
        )


@pytest.mark.parametrize("name", NAMES)
def test_large_scores_stay_finite(name):
    pos = np.array([-80.0, 80.0, 0.0], np.float32)
    neg = np.array([[90.0, -90.0], [-90.0, 70.0], [1e4, -1e4]], np.float32)
    keep = np.ones(neg.shape, bool)

    def total(pos, neg):
        return LOSSES[name](0.0)(pos, neg, keep).sum()

    value, grads = jax.jit(jax.value_and_grad(total, (0, 1)))(pos, neg)
    assert np.isfinite(value)
    assert all(np.isfinite(grad).all() for grad in grads)
