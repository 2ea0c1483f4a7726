import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference_losses
import reference_negatives as reference
from test_steps import make_batch

from tron_jax.objectives.log_q import LOGQ, make_log_q
from tron_jax.objectives.losses import ssm
from tron_jax.sampling import sources
from tron_jax.sampling.sampler import make_sampler

ITEMS, EXPONENT = 12, 0.5
COUNTS = np.array([0, 40, 1, 1, 9, 16, 4, 100, 2, 3, 5, 8, 7])
MIXTURES = [(5, 0, 0), (0, 6, 0), (0, 0, 7), (5, 6, 0), (5, 6, 7)]
NAMES = ("num_uniform", "num_popularity", "num_in_batch")


def negatives(mixture, **more):
    counts = dict(zip(NAMES, mixture, strict=True))
    return reference.negatives(**counts, popularity_exponent=EXPONENT, **more)


def constants():
    clicks = np.repeat(np.arange(ITEMS + 1), COUNTS)
    return sources.make_constants(
        negatives((0, 1, 0)), clicks, ITEMS, also_of=["in_batch"]
    )


def correct(mode, settings, pos, neg, labels, items, columns):
    log_q = make_log_q(mode, settings, ITEMS)
    counts = constants()
    return (
        pos - log_q.of_labels(counts, labels),
        neg - log_q.of_candidates(counts, items, columns),
    )


def example(num_candidates, events=5):
    rng = np.random.default_rng(0)
    labels = jnp.asarray(rng.integers(1, ITEMS + 1, events))
    items = jnp.asarray(rng.integers(1, ITEMS + 1, (events, num_candidates)))
    pos, neg = rng.normal(size=events), rng.normal(size=(events, num_candidates))
    return jnp.asarray(pos), jnp.asarray(neg), labels, items, jnp.arange(num_candidates)


@pytest.mark.portable
@pytest.mark.parametrize("mixture", MIXTURES)
@pytest.mark.parametrize("mode", sorted(set(LOGQ) - {"none"}))
def test_equals_the_closed_form(mode, mixture):
    pos, neg, labels, items, columns = example(sum(mixture))
    new_pos, new_neg = jax.jit(
        lambda *scored: correct(mode, negatives(mixture), *scored)
    )(pos, neg, labels, items, columns)
    draws = dict(zip(NAMES, mixture, strict=True))
    log_expected = np.log(
        reference_losses.expected_draws(COUNTS, **draws, exponent=EXPONENT)
    )
    log_clicks = np.log(np.maximum(COUNTS, 1))
    of_label = {"plain": log_expected, "corrected": np.zeros(ITEMS + 1)}
    of_item = log_expected[items]
    if mode == "by_source":
        powers = np.repeat([0.0, EXPONENT, 1.0], mixture)
        of_item = powers * log_clicks[items]
    wanted = pos - of_label.get(mode, log_clicks)[labels], neg - of_item
    np.testing.assert_allclose(new_pos, wanted[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(new_neg, wanted[1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("mode", ["plain", "by_source"])
def test_a_source_of_ones_own_has_columns_before_the_in_batch_ones(mode, monkeypatch):
    """It draws the first three items alike, and by_source its power is 2."""
    first_three = sources.Source(
        draw=lambda key, shape, *_: (jax.random.randint(key, shape, 1, 4), True),
        log_expected=lambda items, count, *_: jnp.where(
            items <= 3, jnp.log(count / 3), -50.0
        ),
        click_power=lambda settings: 2.0,
    )
    monkeypatch.setitem(sources.SOURCES, "first_three", first_three)
    settings = reference.negatives(num_uniform=2, num_in_batch=3, num_first_three=4)
    pos, neg, labels, items, columns = example(9)
    scored = jax.jit(lambda *scored: correct(mode, settings, *scored))
    _, new = scored(pos, neg, labels, items, columns)
    clicks = np.maximum(COUNTS, 1)
    expected = 2 / ITEMS + 3 * clicks / COUNTS.sum()
    expected[1:4] += 4 / 3
    taken_off = np.log(expected)[items]
    if mode == "by_source":
        taken_off = np.repeat([0, 2, 1], [2, 4, 3]) * np.log(clicks)[items]
    np.testing.assert_allclose(new, neg - taken_off, rtol=1e-5, atol=1e-6)


def test_columns_of_each_event_say_where_its_candidates_come_from():
    mixture = negatives((5, 6, 7))
    pos, neg, labels, items, columns = example(18)
    chosen = np.random.default_rng(1).integers(0, 18, (len(pos), 4))
    scored = jax.jit(lambda *scored: correct("by_source", mixture, *scored))
    _, whole = scored(pos, neg, labels, items, columns)
    some_neg, some_items = (
        np.take_along_axis(np.asarray(x), chosen, 1) for x in (neg, items)
    )
    _, some = scored(pos, some_neg, labels, some_items, chosen)
    np.testing.assert_array_equal(
        some, np.take_along_axis(np.asarray(whole), chosen, 1)
    )


def test_plain_is_nothing_where_all_are_drawn_uniformly_and_needs_no_counts():
    pos, neg, labels, items, columns = example(5)
    keep = np.ones(neg.shape, bool)
    log_q = make_log_q("plain", negatives((5, 0, 0)), ITEMS)
    new_pos = pos - log_q.of_labels({}, labels)
    new_neg = neg - log_q.of_candidates({}, items, columns)
    np.testing.assert_allclose(
        ssm(new_pos, new_neg, keep), ssm(pos, neg, keep), rtol=1e-5
    )


def published_correction(pos, neg, keep, log_q):
    """The loss as Khrylchenko et al. state it (§3.3), Q a chance among kept draws."""
    count = keep.sum(1, keepdims=True)
    kept = jnp.where(keep, neg - log_q, -1e30)
    among = jnp.concatenate([pos[:, None], kept - jnp.log(count)], axis=1)
    chance = jax.nn.softmax(among)[:, 0]
    return jax.lax.stop_gradient(1 - chance) * (jax.nn.logsumexp(kept, axis=1) - pos)


def test_corrected_has_the_gradient_of_the_published_loss():
    """Which divides by the number of draws that were kept; ours by the expected one."""
    pos, neg, labels, items, columns = example(9)
    keep = items != labels[:, None]
    powers = np.sqrt(COUNTS[1:])
    chances = jnp.asarray(np.append(np.nan, powers / powers.sum()), jnp.float32)
    # Q' and the expected number of kept draws; the two factors cancel out.
    rest = 1 - chances[labels][:, None]
    log_chance = jnp.log(chances[items] / rest)
    surprise = jnp.log(keep.sum(1, keepdims=True) / (9 * rest))

    @jax.jit
    def published(pos, neg):
        return published_correction(pos, neg + surprise, keep, log_chance).sum()

    @jax.jit
    def ours(pos, neg):
        new = correct(
            "corrected", negatives((0, 9, 0)), pos, neg, labels, items, columns
        )
        return ssm(*new, keep).sum()

    actual = jax.grad(ours, (0, 1))(pos, neg)
    expected = jax.grad(published, (0, 1))(pos, neg)
    for a, b in zip(actual, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-7)


def test_corrected_with_every_item_once_is_the_full_softmax():
    events = 6
    rng = np.random.default_rng(0)
    hidden, table = rng.normal(size=(events, 4)), rng.normal(size=(ITEMS + 1, 4))
    labels = rng.integers(1, ITEMS + 1, events)
    items = jnp.broadcast_to(jnp.arange(1, ITEMS + 1), (events, ITEMS))
    total, by_hidden, by_table = reference_losses.full_softmax(
        hidden, table, labels, np.ones(events), 1
    )

    @jax.jit
    def sampled(hidden, table):
        pos = jnp.sum(hidden * table[labels], axis=1)
        new = correct(
            "corrected",
            negatives((ITEMS, 0, 0)),
            pos,
            hidden @ table[1:].T,
            labels,
            items,
            jnp.arange(ITEMS),
        )
        return ssm(*new, items != labels[:, None]).sum()

    with jax.enable_x64(True):
        value, grads = jax.value_and_grad(sampled, (0, 1))(
            jnp.asarray(hidden), jnp.asarray(table)
        )
    np.testing.assert_allclose(value, total, rtol=1e-9)
    np.testing.assert_allclose(grads[0], by_hidden, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(grads[1], by_table, rtol=1e-9, atol=1e-12)


def test_items_are_drawn_as_often_as_q_says():
    """The sampler itself against Q: without bias, the sum over all items is met."""
    batch = make_batch(items=ITEMS)
    mixture = negatives((40, 60, 0))
    sample = make_sampler(
        mixture, num_items=ITEMS, num_sessions=5, max_session_length=None, seed=0
    )
    counts = constants()
    steps = jnp.arange(400)
    drawn = jax.jit(jax.vmap(lambda s: sample(s, batch, counts).drawn[0]))(steps)
    score = np.random.default_rng(2).normal(size=ITEMS + 1)
    log_q = make_log_q("corrected", mixture, ITEMS)
    corrected = jnp.asarray(score)[drawn] - log_q.of_candidates(
        counts, drawn, jnp.arange(100)
    )
    estimates = np.exp(np.float64(corrected)).sum(1)
    error = estimates.std() / np.sqrt(len(steps))
    truth = np.exp(score[1:]).sum()
    assert abs(estimates.mean() - truth) < 4 * error
    assert error < 0.02 * truth


def test_an_unknown_name_is_refused_with_the_list():
    with pytest.raises(KeyError, match=r"soft.*none, plain, corrected, by_source"):
        make_log_q("soft", negatives((1, 0, 0)), ITEMS)
    assert make_log_q("none", negatives((1, 0, 0)), ITEMS) is None
