import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference_losses
from jax.test_util import check_grads

from tron_jax.objectives.losses import LOSSES, LossSettings, gbce_beta, make_loss

SETTINGS = {
    "penalty": 0.1,
    "calibration": 0.75,
    "num_candidates": 9,
    "num_items": 40,
}
NAMES = sorted(LOSSES)
GOLDEN = {"ssm": "ssm", "bce": "bce", "bpr_max": "bpr_max_penalty_0p1"}


ELUS = (0.0, 0.5)


def loss_fn(name, elu=0.0):
    return make_loss(LossSettings(name, elu=elu, **SETTINGS))


@jax.jit
def losses(pos, neg, keep):
    """Of every name and ELU, compiled together."""
    return {
        name: {elu: loss_fn(name, elu)(pos, neg, keep) for elu in ELUS}
        for name in NAMES
    }


@jax.jit
def sums_and_gradients(pos, neg, keep):
    """The same as sums of events, with their gradients by pos and neg."""

    def of(name, elu):
        def total(pos, neg):
            return loss_fn(name, elu)(pos, neg, keep).sum()

        return jax.value_and_grad(total, (0, 1))(pos, neg)

    return {name: {elu: of(name, elu) for elu in ELUS} for name in NAMES}


def example(events=7, k=9, seed=0):
    rng = np.random.default_rng(seed)
    pos, neg = rng.normal(size=events), rng.normal(size=(events, k))
    keep = rng.random((events, k)) < 0.5
    keep[0], keep[1] = True, False
    return pos, neg, keep


@pytest.mark.device
@pytest.mark.portable
@pytest.mark.parametrize("suffix", ["", "_top10"])
def test_equals_the_authors_code(golden_file, suffix):
    golden = golden_file("losses.npz")
    real = golden["mask"] > 0
    with jax.enable_x64(True):
        neg = golden["neg_logits"][real]
        if suffix:
            neg = np.sort(neg, axis=1)[:, -10:]
        keep = np.ones(neg.shape, bool)
        found = losses(golden["pos_logits"][real][:, 0], neg, keep)
        for name, of_authors in GOLDEN.items():
            expected = float(golden[of_authors + suffix])
            actual = found[name][0.0].mean()
            np.testing.assert_allclose(actual, expected, rtol=1e-9, err_msg=name)


@pytest.mark.device
@pytest.mark.parametrize("elu", ELUS)
@pytest.mark.parametrize("name", NAMES)
def test_equals_the_slow_reference(name, elu):
    with jax.enable_x64(True):
        for seed in range(3):
            pos, neg, keep = example(seed=seed)
            actual = losses(pos, neg, keep)[name][elu]
            expected = reference_losses.loss(name, pos, neg, keep, SETTINGS, elu)
            np.testing.assert_allclose(actual, expected, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("name", NAMES)
def test_masked_candidates_take_no_part(name):
    pos, neg, keep = example()
    tame = sums_and_gradients(pos, neg, keep)[name][0.5]
    for other in (1e4, -1e4, 0.0):
        wild = sums_and_gradients(pos, np.where(keep, neg, other), keep)[name][0.5]
        for a, b in zip(jax.tree.leaves(tame), jax.tree.leaves(wild), strict=True):
            np.testing.assert_array_equal(a, b)
    _, (by_pos, by_neg) = tame
    assert not np.asarray(by_neg)[~keep].any()
    assert np.asarray(by_neg)[keep].all()
    assert by_pos[1] == 0
    assert np.asarray(by_pos)[keep.any(1)].all()


@pytest.mark.parametrize("name", NAMES)
def test_gradients_agree_with_differences(name):
    pos, neg, keep = example()

    @jax.jit
    def both(pos, neg):
        return [loss_fn(name, elu)(pos, neg, keep) for elu in ELUS]

    with jax.enable_x64(True):
        check_grads(both, (jnp.asarray(pos), jnp.asarray(neg)), order=1, modes=["rev"])


@pytest.mark.device
@pytest.mark.parametrize("elu", ELUS)
@pytest.mark.parametrize("name", NAMES)
def test_large_scores_stay_finite_and_nan_shows(name, elu):
    pos = np.array([-80.0, 80.0, 0.0, -1e4], np.float32)
    neg = np.array([[90.0, -90], [-90, 70], [1e4, -1e4], [1e4, 0]], np.float32)
    keep = np.ones(neg.shape, bool)

    def total(pos, neg, keep):
        return sums_and_gradients(pos, neg, keep)[name][elu]

    for some in (keep, keep & [True, False], ~keep):
        leaves = jax.tree.leaves(total(pos, neg, some))
        assert all(np.isfinite(leaf).all() for leaf in leaves)
    neg[1, 0] = np.nan
    assert np.isnan(total(pos, neg, keep)[0])
    neg[1, 0], pos[1] = 0, np.nan
    assert np.isnan(total(pos, neg, keep)[0])


def test_gbce_is_calibrated_between_bce_and_the_sampling_rate():
    assert gbce_beta(0.0, 256, 10_001) == 1
    np.testing.assert_allclose(gbce_beta(1.0, 256, 10_001), 0.0256)
    np.testing.assert_allclose(gbce_beta(0.75, 256, 10_001), 0.25 + 0.75 * 0.0256)
    assert gbce_beta(1.0, 16384, 100) == 1  # every item drawn, many times over
    assert gbce_beta(1.0, 1, 1) == 1
    with jax.enable_x64(True):
        pos, neg, _ = example(k=1)
        keep = np.ones(neg.shape, bool)
        whole = make_loss(LossSettings("bce"))(pos, neg, keep)
        settings = LossSettings("gbce", num_candidates=1, num_items=40)
        half = make_loss(settings)(pos, neg, keep)
        np.testing.assert_allclose(2 * half, whole)


def test_an_unknown_name_is_refused_with_the_list():
    with pytest.raises(KeyError, match=r"hinge.*ssm, bce, bpr_max, gbce"):
        make_loss(LossSettings("hinge"))


def test_all_lower_for_accelerators():
    pos, neg, keep = example()
    traced = sums_and_gradients.trace(np.float32(pos), np.float32(neg), keep)
    assert traced.lower(lowering_platforms=("cuda", "tpu")).as_text()
