import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference_losses
import reference_negatives

from tron_jax.objectives.log_q import LOGQ, make_log_q
from tron_jax.objectives.losses import ssm
from tron_jax.sampling.negatives import make_sampler
from tron_jax.sampling.popularity import make_popularity

ITEMS, EXPONENT = 12, 0.5
COUNTS = np.array([0, 40, 1, 1, 9, 16, 4, 100, 2, 3, 5, 8, 7])
MIXTURES = [(5, 0, 0), (0, 6, 0), (0, 0, 7), (5, 6, 0), (5, 6, 7)]


def popularity():
    return make_popularity(np.repeat(np.arange(ITEMS + 1), COUNTS), ITEMS, EXPONENT)


def draws(num_uniform, num_popularity, num_in_batch):
    return {
        "num_uniform": num_uniform,
        "num_popularity": num_popularity,
        "num_in_batch": num_in_batch,
        "exponent": EXPONENT,
    }


def correct(mode, mixture, pos, neg, labels, items, columns):
    log_q = make_log_q(mode, num_items=ITEMS, **draws(*mixture))
    counts = popularity()
    return (
        pos - log_q.of_labels(counts, labels),
        neg - log_q.of_candidates(counts, items, columns),
    )


def example(mixture, events=5):
    rng = np.random.default_rng(0)
    k = sum(mixture)
    labels = jnp.asarray(rng.integers(1, ITEMS + 1, events))
    items = jnp.asarray(rng.integers(1, ITEMS + 1, (events, k)))
    pos, neg = jnp.asarray(rng.normal(size=events)), rng.normal(size=(events, k))
    return pos, jnp.asarray(neg), labels, items, jnp.arange(k)


@pytest.mark.portable
@pytest.mark.parametrize("mixture", MIXTURES)
@pytest.mark.parametrize("mode", sorted(set(LOGQ) - {"none"}))
def test_equals_the_closed_form(mode, mixture):
    pos, neg, labels, items, columns = example(mixture)
    log_expected = np.log(reference_losses.expected_draws(COUNTS, **draws(*mixture)))
    log_clicks = np.log(np.maximum(COUNTS, 1))
    new_pos, new_neg = jax.jit(correct, static_argnums=(0, 1))(
        mode, mixture, pos, neg, labels, items, columns
    )
    for event, label in enumerate(labels):
        expected = {"plain": log_expected[label], "corrected": 0.0}
        wanted = expected.get(mode, log_clicks[label])
        np.testing.assert_allclose(
            new_pos[event], pos[event] - wanted, rtol=1e-5, atol=1e-6
        )
        for column, item in enumerate(items[event]):
            if mode == "by_source":
                power = 1.0 if column >= mixture[0] + mixture[1] else EXPONENT
                wanted = 0.0 if column < mixture[0] else power * log_clicks[item]
            else:
                wanted = log_expected[item]
            np.testing.assert_allclose(
                new_neg[event, column],
                neg[event, column] - wanted,
                rtol=1e-5,
                atol=1e-6,
            )


def test_columns_of_each_event_say_where_its_candidates_come_from():
    mixture = (5, 6, 7)
    pos, neg, labels, items, columns = example(mixture)
    chosen = jnp.asarray(np.random.default_rng(1).integers(0, 18, (len(pos), 4)))
    _, whole = correct("by_source", mixture, pos, neg, labels, items, columns)
    _, some = correct(
        "by_source",
        mixture,
        pos,
        jnp.take_along_axis(neg, chosen, 1),
        labels,
        jnp.take_along_axis(items, chosen, 1),
        chosen,
    )
    np.testing.assert_array_equal(some, jnp.take_along_axis(whole, chosen, 1))


def test_plain_is_nothing_where_all_are_drawn_uniformly_and_needs_no_counts():
    pos, neg, labels, items, columns = example((5, 0, 0))
    keep = np.ones(neg.shape, bool)
    log_q = make_log_q("plain", num_items=ITEMS, **draws(5, 0, 0))
    new_pos = pos - log_q.of_labels(None, labels)
    new_neg = neg - log_q.of_candidates(None, items, columns)
    np.testing.assert_allclose(
        ssm(new_pos, new_neg, keep), ssm(pos, neg, keep), rtol=1e-5
    )


def published_correction(pos, neg, keep, log_q):
    """The loss as Khrylchenko et al. state it (§3.3), Q a chance among kept draws."""
    count = keep.sum(1, keepdims=True)
    negatives = jnp.where(keep, neg - log_q, -1e30)
    among = jnp.concatenate([pos[:, None], negatives - jnp.log(count)], axis=1)
    chance = jax.nn.softmax(among)[:, 0]
    return jax.lax.stop_gradient(1 - chance) * (
        jax.nn.logsumexp(negatives, axis=1) - pos
    )


def test_corrected_has_the_gradient_of_the_published_loss():
    """Which divides by the number of draws that were kept; ours by the expected one."""
    pos, neg, labels, items, columns = example((0, 9, 0))
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
        new = correct("corrected", (0, 9, 0), pos, neg, labels, items, columns)
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
            (ITEMS, 0, 0),
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
    from test_steps import make_batch

    batch = make_batch(items=ITEMS)
    mixture = (40, 60, 0)
    fields = reference_negatives.PLAIN | {
        "num_items": ITEMS,
        "num_sessions": 5,
        "num_uniform": 40,
        "num_popularity": 60,
        "num_in_batch": 0,
        "seed": 0,
    }
    sample = make_sampler(**fields)
    counts = popularity()
    steps = jnp.arange(400)
    drawn = jax.jit(jax.vmap(lambda s: sample(s, batch, counts).drawn[0]))(steps)
    score = np.random.default_rng(2).normal(size=ITEMS + 1)
    log_q = make_log_q("corrected", num_items=ITEMS, **draws(*mixture))
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
        make_log_q("soft", num_items=ITEMS, **draws(1, 0, 0))
    assert make_log_q("none", num_items=ITEMS, **draws(1, 0, 0)) is None
