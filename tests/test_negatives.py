import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference_negatives as reference

from tron_jax import rng
from tron_jax.objectives import candidate_scores
from tron_jax.sampling import candidates as candidates_
from tron_jax.sampling import exclusion, negatives
from tron_jax.sampling.popularity import make_popularity

SESSIONS, ITEMS, LONGEST, SEED = 5, 30, 12, 3
exclude = jax.jit(exclusion.distinct, static_argnums=1)
# Everything that makes sense; the batch's inputs are left out for the whole batch.
COMBINATIONS = [
    (style, excluded)
    for style in negatives.UNIFORM_STYLES
    for excluded in negatives.EXCLUDES
    if (style, excluded) not in {("batchwise", "session"), ("eventwise", "batch")}
]


def popular_items(seed=0, items=ITEMS):
    clicks = np.random.default_rng(seed).geometric(0.15, 500)
    return make_popularity(np.minimum(clicks, items), items, 0.75)


def sampler(**changes):
    fields = reference.PLAIN | {
        "num_items": ITEMS,
        "num_sessions": SESSIONS,
        "max_session_length": LONGEST,
        "num_uniform": 24,
        "num_in_batch": 4,
        "seed": SEED,
    }
    return negatives.make_sampler(**(fields | changes))


@functools.cache
def jitted(**changes):
    return jax.jit(sampler(**changes))


def drawn_by(batch, step=0, popularity=None, **changes):
    candidates = jitted(**changes)(jnp.int32(step), batch, popularity)
    return jax.tree.map(np.asarray, candidates)


def num_groups(style, batch):
    sizes = {"eventwise": len(batch.items), "sessionwise": SESSIONS, "batchwise": 1}
    return sizes[style]


@pytest.mark.parametrize("seed", range(5))
def test_excluded_items_are_the_distinct_inputs(seed):
    items = reference.make_batch(seed).items.reshape(4, 10)
    excluded = exclude(items, ITEMS)
    for row, count, inputs in zip(*excluded, items, strict=True):
        expected = np.unique(inputs[inputs > 0])
        assert count == len(expected)
        np.testing.assert_array_equal(row[:count], expected)
        assert (np.asarray(row[count:]) > ITEMS).all()


@pytest.mark.portable
@pytest.mark.parametrize(("style", "excluded"), COMBINATIONS)
def test_uniform_draws_map_onto_what_is_left_in_order(style, excluded):
    """Index arithmetic against the plain list of the items that are left."""
    batch = reference.make_batch(1)
    candidates = drawn_by(batch, uniform_style=style, exclude=excluded)
    groups = num_groups(style, batch)
    assert candidates.drawn.shape == (groups, 24)
    assert np.broadcast_to(candidates.drawn_keep, candidates.drawn.shape).all()
    left = [
        reference.left(style, excluded, batch, group, SESSIONS, ITEMS)
        for group in range(groups)
    ]
    counts = np.array([[len(items)] for items in left])
    key = rng.step_key(SEED, jnp.int32(0), rng.UNIFORM)
    draws = np.asarray(jax.random.randint(key, (groups, 24), 0, counts))
    for drawn, items, numbers in zip(candidates.drawn, left, draws, strict=True):
        np.testing.assert_array_equal(drawn, np.array(items)[numbers])


@pytest.mark.parametrize(("style", "excluded"), COMBINATIONS)
def test_uniform_negatives_are_uniform_over_what_is_left(style, excluded):
    batch = reference.make_batch(2)
    draw = jax.vmap(
        sampler(uniform_style=style, exclude=excluded), in_axes=(0, None, None)
    )
    steps = jnp.arange(300)
    drawn = np.asarray(jax.jit(draw)(steps, batch, None).drawn)
    chi_square, freedom = 0.0, 0
    for group in range(drawn.shape[1]):
        counts = np.bincount(drawn[:, group].ravel(), minlength=ITEMS + 1)
        left = reference.left(style, excluded, batch, group, SESSIONS, ITEMS)
        assert counts[left].sum() == drawn[:, group].size
        expected = drawn[:, group].size / len(left)
        chi_square += ((counts[left] - expected) ** 2 / expected).sum()
        freedom += len(left) - 1
    assert abs(chi_square - freedom) < 4 * np.sqrt(2 * freedom)
    if len(drawn[0]) > 1:  # groups do not share
        assert (drawn[:, 0] == drawn[:, 1]).mean() < 0.1


@pytest.mark.parametrize("style", ["sessionwise", "eventwise"])
def test_where_nothing_is_left_no_uniform_negative_of_the_group_counts(style):
    batch = reference.make_batch(0, items=3)
    candidates = drawn_by(batch, uniform_style=style, exclude="session", num_items=3)
    for group in range(num_groups(style, batch)):
        left = reference.left(style, "session", batch, group, SESSIONS, 3)
        assert candidates.drawn_keep[group, 0] == bool(left)
    assert 0 < candidates.drawn_keep.sum() < candidates.drawn_keep.size
    assert ((candidates.drawn >= 1) & (candidates.drawn <= 3)).all()


def test_where_the_batch_has_every_item_no_uniform_negative_counts():
    batch = reference.make_batch(0, items=3)
    candidates = drawn_by(batch, exclude="batch", num_items=3)
    assert not candidates.drawn_keep.any()


@pytest.mark.parametrize(("style", "excluded"), COMBINATIONS)
def test_popular_negatives_that_are_left_out_do_not_count(style, excluded):
    batch = reference.make_batch(3)
    candidates = drawn_by(
        batch,
        popularity=popular_items(),
        uniform_style=style,
        exclude=excluded,
        num_popularity=8,
    )
    uniform_alone = drawn_by(batch, uniform_style=style, exclude=excluded)
    assert candidates.drawn.shape == (num_groups(style, batch), 32)
    np.testing.assert_array_equal(candidates.drawn[:, :24], uniform_alone.drawn)
    keep = np.broadcast_to(candidates.drawn_keep, candidates.drawn.shape)
    for group, (ids, counts) in enumerate(zip(candidates.drawn, keep, strict=True)):
        left = reference.left(style, excluded, batch, group, SESSIONS, ITEMS)
        np.testing.assert_array_equal(counts, np.isin(ids, left))
    assert keep.all() == (excluded == "none")


def test_popular_negatives_alone_are_drawn_by_popularity():
    """That they are the alias table's own draws: tests/test_popularity.py."""
    batch = reference.make_batch(3)
    popularity = popular_items()
    candidates = drawn_by(
        batch, popularity=popularity, num_uniform=0, num_popularity=4000
    )
    counts = np.bincount(candidates.drawn[0], minlength=ITEMS + 1)[1:]
    weights = np.exp(0.75 * popularity.log_count[1:]) * (popularity.threshold > 0)
    expected = 4000 * weights / weights.sum()
    assert not counts[expected == 0].any()
    often = expected > 5
    chi_square = ((counts - expected)[often] ** 2 / expected[often]).sum()
    assert abs(chi_square - often.sum()) < 4 * np.sqrt(2 * often.sum())


def test_members_are_the_events_of_each_session():
    batch = reference.make_batch(4)
    members = np.asarray(
        jax.jit(negatives.members, static_argnums=(1, 2))(
            batch.session, SESSIONS, LONGEST
        )
    )
    assert members.shape == (SESSIONS, LONGEST)
    for session in range(SESSIONS):
        events = np.flatnonzero(batch.session == session)
        np.testing.assert_array_equal(members[session, : len(events)], events)
        assert (members[session, len(events) :] == len(batch.session)).all()


@pytest.mark.portable
@pytest.mark.parametrize(
    ("style", "excluded"),
    [("eventwise", "session"), ("sessionwise", "session"), ("batchwise", "batch")],
)
def test_a_longer_stream_leaves_the_draws_of_real_events_unchanged(style, excluded):
    fields = {
        "uniform_style": style,
        "exclude": excluded,
        "num_uniform": 6,
        "num_popularity": 5,
        "deduplicate": True,
    }
    short = reference.make_batch(5)
    more = ((0, 16),)
    long = short._replace(
        items=np.pad(short.items, more),
        labels=np.pad(short.labels, more),
        session=np.pad(short.session, more, constant_values=SESSIONS),
    )
    before = drawn_by(short, 2, popular_items(), **fields)
    after = drawn_by(long, 2, popular_items(), **fields)
    real = short.weight > 0
    for name in ("drawn", "drawn_keep", "repeats"):
        a, b = getattr(before, name), getattr(after, name)
        if a is not None:
            rows = real if style == "eventwise" else slice(None)
            np.testing.assert_array_equal(a[rows], b[: len(a)][rows])
    np.testing.assert_array_equal(before.in_batch, after.in_batch)
    np.testing.assert_array_equal(before.in_batch_keep, after.in_batch_keep)


@pytest.mark.parametrize(("pool", "masked"), [("inputs", True), ("labels", False)])
@pytest.mark.parametrize(("style", "excluded"), COMBINATIONS)
def test_what_counts_equals_the_slow_loop(style, excluded, pool, masked):
    """Of every kind at once; hits and the session are masked, or neither."""
    batch = reference.make_batch(6, items=14)
    sample = sampler(
        num_items=14,
        uniform_style=style,
        exclude=excluded,
        num_uniform=6,
        num_popularity=6,
        num_in_batch=30,
        in_batch_from=pool,
        mask_session=masked,
    )

    @jax.jit
    def count(batch, popularity):
        every = sample(jnp.int32(1), batch, popularity)
        fewer = candidates_.without_repeats(every, batch)
        kept = functools.partial(candidate_scores.kept, batch=batch, mask_hits=masked)
        return every, kept(every), kept(fewer)

    every, all_kept, fewer_kept = jax.tree.map(
        np.asarray, count(batch, popular_items(items=14))
    )
    dropped = 0
    for event in np.flatnonzero(batch.weight):
        ids, counts = reference.candidates_of(event, style, batch, every, pool)
        first = reference.first_only(ids, counts)
        not_hit = (np.array(ids) != batch.labels[event]) | (not masked)
        np.testing.assert_array_equal(all_kept[event], not_hit & counts)
        np.testing.assert_array_equal(fewer_kept[event], not_hit & first)
        dropped += sum(counts) - sum(first)
    assert dropped > 0


@pytest.mark.parametrize("num_uniform", [0, 24])
def test_candidates_of_one_kind_alone_are_deduplicated(num_uniform):
    batch = reference.make_batch(7)
    alone = {"num_uniform": num_uniform, "num_in_batch": 0 if num_uniform else 20}
    candidates = drawn_by(batch, deduplicate=True, **alone)
    keep = np.asarray(candidate_scores.kept(candidates, batch, mask_hits=False))
    ids = np.asarray(candidate_scores.items_of(candidates, batch))
    for event in np.flatnonzero(batch.weight):
        kept = ids[event, keep[event]]
        assert 0 < len(kept) == len(set(kept.tolist())) < len(ids[event])


def test_hits_are_candidates_equal_to_the_label():
    shared, labels = np.array([4, 2, 9]), np.array([2, 7, 0])
    expected = [[False, True, False], [False] * 3, [False] * 3]
    np.testing.assert_array_equal(candidates_.hits(shared, labels), expected)


@pytest.mark.parametrize(
    ("field", "names"),
    [
        ("uniform_style", "eventwise, sessionwise, batchwise"),
        ("exclude", "none, session, batch"),
        ("in_batch_from", "inputs, labels"),
    ],
)
def test_an_unknown_name_is_refused_with_the_list(field, names):
    with pytest.raises(KeyError, match=f"targets.*{names}"):
        sampler(**{field: "targets"})


def test_negatives_of_a_session_need_its_length():
    for fields in ({"uniform_style": "sessionwise"}, {"exclude": "session"}):
        with pytest.raises(ValueError, match="max_session_length"):
            sampler(max_session_length=None, **fields)


@pytest.mark.portable
@pytest.mark.parametrize("style", negatives.UNIFORM_STYLES)
def test_samplers_lower_for_gpu_and_tpu(style):
    sample = sampler(
        uniform_style=style,
        exclude="batch" if style == "batchwise" else "session",
        num_popularity=4,
        in_batch_from="labels",
        deduplicate=True,
    )
    traced = jax.jit(sample).trace(
        jnp.int32(0), reference.make_batch(0), popular_items()
    )
    assert traced.lower(lowering_platforms=("cuda", "tpu")).as_text()
