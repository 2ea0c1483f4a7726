import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference_negatives as reference

from tron_jax import rng
from tron_jax.objectives import candidate_scores
from tron_jax.sampling import candidates as candidates_
from tron_jax.sampling import exclusion, sampler, sources
from tron_jax.sampling.sampler import DRAWN_PER

SESSIONS, ITEMS, LONGEST, SEED, STEPS = 5, 30, 12, 3, 300
NUM_UNIFORM, NUM_POPULARITY = 24, 8
exclude = jax.jit(exclusion.distinct, static_argnums=1)
# Everything that makes sense; the batch's inputs are left out for the whole batch.
COMBINATIONS = [
    (drawn_per, excluded)
    for drawn_per in DRAWN_PER
    for excluded in exclusion.EXCLUDES
    if (drawn_per, excluded) not in {("batch", "session"), ("event", "batch")}
]
# The same as parameters of tests, of which some run on a device.
ON_A_DEVICE = {("event", "session"), ("session", "session"), ("batch", "batch")}
MARKED = [
    pytest.param(*pair, marks=[pytest.mark.device] if pair in ON_A_DEVICE else [])
    for pair in COMBINATIONS
]
# In turn, what in-batch negatives are, and whether hits and the session are masked.
POOLS = dict(zip(COMBINATIONS, itertools.cycle([("inputs", True), ("labels", False)])))


@functools.cache
def constants():
    clicks = np.random.default_rng(0).geometric(0.15, 500)
    settings = reference.negatives(num_popularity=1, popularity_exponent=0.75)
    return sources.make_constants(settings, np.minimum(clicks, ITEMS), ITEMS)


def make_sampler(**changes):
    fields = {
        "num_items": ITEMS,
        "num_sessions": SESSIONS,
        "max_session_length": LONGEST,
        "num_uniform": NUM_UNIFORM,
        "num_in_batch": 4,
        "seed": SEED,
    }
    return reference.make_sampler(**(fields | changes))


def drawn_by(batch, **changes):
    sample = jax.jit(make_sampler(**changes))
    return jax.tree.map(np.asarray, sample(jnp.int32(0), batch, constants()))


def sampler_of_every_source(drawn_per, excluded):
    pool, masked = POOLS[drawn_per, excluded]
    return make_sampler(
        drawn_per=drawn_per,
        exclude=excluded,
        num_popularity=NUM_POPULARITY,
        num_in_batch=30,
        in_batch_from=pool,
        mask_session=masked,
    )


@functools.cache
def drawn_in_many_steps(drawn_per, excluded):
    """A batch and its candidates at STEPS steps; compiled once for all tests."""
    batch = reference.make_batch(2)
    sample = jax.vmap(
        sampler_of_every_source(drawn_per, excluded), in_axes=(0, None, None)
    )
    candidates = jax.jit(sample)(jnp.arange(STEPS), batch, constants())
    shape = (STEPS, num_groups(drawn_per, batch), NUM_UNIFORM + NUM_POPULARITY)
    assert candidates.drawn.shape == shape
    return batch, jax.tree.map(np.asarray, candidates)


def num_groups(drawn_per, batch):
    return {"event": len(batch.items), "session": SESSIONS, "batch": 1}[drawn_per]


def left_for(drawn_per, excluded, batch, num_items=ITEMS):
    """Of each group, the items that may be drawn for it."""
    return [
        reference.left(drawn_per, excluded, batch, group, SESSIONS, num_items)
        for group in range(num_groups(drawn_per, batch))
    ]


def at_step(candidates, step):
    """The candidates of one of many steps."""
    return jax.tree.map(lambda of_steps: of_steps[step], candidates)


def keep_of_drawn(candidates):
    """Of one step, [groups, k]."""
    return np.broadcast_to(candidates.drawn_keep, candidates.drawn.shape)


@pytest.mark.parametrize("seed", range(5))
def test_excluded_items_are_the_distinct_inputs(seed):
    items = reference.make_batch(seed).items.reshape(4, 10)
    excluded = jax.tree.map(np.asarray, exclude(items, ITEMS))
    for row, count, inputs in zip(*excluded, items, strict=True):
        expected = np.unique(inputs[inputs > 0])
        assert count == len(expected)
        np.testing.assert_array_equal(row[:count], expected)
        assert (row[count:] > ITEMS).all()


@pytest.mark.portable
@pytest.mark.parametrize(("drawn_per", "excluded"), MARKED)
def test_uniform_draws_map_onto_what_is_left_in_order(drawn_per, excluded):
    """Index arithmetic against the plain list of the items that are left."""
    batch, candidates = drawn_in_many_steps(drawn_per, excluded)
    candidates = at_step(candidates, 7)
    assert keep_of_drawn(candidates)[:, :NUM_UNIFORM].all()
    left = left_for(drawn_per, excluded, batch)
    counts = np.array([[len(items)] for items in left])
    key = rng.step_key(SEED, jnp.int32(7), rng.source_stream("uniform"))
    draws = np.asarray(jax.random.randint(key, (len(left), NUM_UNIFORM), 0, counts))
    uniform = candidates.drawn[:, :NUM_UNIFORM]
    for ids, items, numbers in zip(uniform, left, draws, strict=True):
        np.testing.assert_array_equal(ids, np.array(items)[numbers])


@pytest.mark.parametrize(("drawn_per", "excluded"), MARKED)
def test_uniform_negatives_are_uniform_over_what_is_left(drawn_per, excluded):
    batch, candidates = drawn_in_many_steps(drawn_per, excluded)
    drawn = candidates.drawn[:, :, :NUM_UNIFORM]
    chi_square, freedom = 0.0, 0
    for group, left in enumerate(left_for(drawn_per, excluded, batch)):
        counts = np.bincount(drawn[:, group].ravel(), minlength=ITEMS + 1)
        assert counts[left].sum() == drawn[:, group].size
        expected = drawn[:, group].size / len(left)
        chi_square += ((counts[left] - expected) ** 2 / expected).sum()
        freedom += len(left) - 1
    assert abs(chi_square - freedom) < 4 * np.sqrt(2 * freedom)
    if len(drawn[0]) > 1:  # groups do not share
        assert (drawn[:, 0] == drawn[:, 1]).mean() < 0.1


@pytest.mark.parametrize(("drawn_per", "excluded"), MARKED)
def test_popular_negatives_that_are_left_out_do_not_count(drawn_per, excluded):
    batch, candidates = drawn_in_many_steps(drawn_per, excluded)
    left = left_for(drawn_per, excluded, batch)
    for step in range(5):
        now = at_step(candidates, step)
        keep = keep_of_drawn(now)[:, NUM_UNIFORM:]
        for ids, counts, items in zip(
            now.drawn[:, NUM_UNIFORM:], keep, left, strict=True
        ):
            np.testing.assert_array_equal(counts, np.isin(ids, items))
        assert keep.all() == (excluded == "none")


def test_popular_negatives_alone_are_drawn_by_popularity():
    """That they are the alias table's own draws: tests/test_popularity.py."""
    batch = reference.make_batch(3)
    candidates = drawn_by(batch, num_uniform=0, num_popularity=4000)
    counts = np.bincount(candidates.drawn[0], minlength=ITEMS + 1)[1:]
    popularity = constants()["popularity"]
    weights = np.exp(0.75 * popularity.log_count[1:]) * (popularity.threshold > 0)
    expected = 4000 * weights / weights.sum()
    assert not counts[expected == 0].any()
    often = expected > 5
    chi_square = ((counts - expected)[often] ** 2 / expected[often]).sum()
    assert abs(chi_square - often.sum()) < 4 * np.sqrt(2 * often.sum())


@pytest.mark.parametrize("drawn_per", ["session", "event"])
def test_where_nothing_is_left_no_uniform_negative_of_the_group_counts(drawn_per):
    batch = reference.make_batch(0, items=3)
    candidates = drawn_by(batch, drawn_per=drawn_per, exclude="session", num_items=3)
    for group, left in enumerate(left_for(drawn_per, "session", batch, 3)):
        assert candidates.drawn_keep[group, 0] == bool(left)
    assert 0 < candidates.drawn_keep.sum() < candidates.drawn_keep.size
    assert ((candidates.drawn >= 1) & (candidates.drawn <= 3)).all()


def test_where_the_batch_has_every_item_no_uniform_negative_counts():
    batch = reference.make_batch(0, items=3)
    candidates = drawn_by(batch, exclude="batch", num_items=3)
    assert not candidates.drawn_keep.any()


def test_events_of_sessions_are_the_events_of_each_session():
    batch = reference.make_batch(4)
    find = jax.jit(sampler.events_of_sessions, static_argnums=(1, 2))
    members = np.asarray(find(batch.session, SESSIONS, LONGEST))
    assert members.shape == (SESSIONS, LONGEST)
    for session in range(SESSIONS):
        events = np.flatnonzero(batch.session == session)
        np.testing.assert_array_equal(members[session, : len(events)], events)
        assert (members[session, len(events) :] == len(batch.session)).all()


without_repeats = jax.jit(candidates_.without_repeats)


@pytest.mark.portable
@pytest.mark.parametrize(
    ("drawn_per", "excluded"),
    [("event", "session"), ("session", "session"), ("batch", "batch")],
)
def test_a_longer_stream_leaves_the_draws_of_real_events_unchanged(drawn_per, excluded):
    short, candidates = drawn_in_many_steps(drawn_per, excluded)
    more = ((0, 16),)
    long = short._replace(
        items=np.pad(short.items, more),
        labels=np.pad(short.labels, more),
        session=np.pad(short.session, more, constant_values=SESSIONS),
    )
    sample = jax.jit(sampler_of_every_source(drawn_per, excluded))
    before = without_repeats(at_step(candidates, 2), short)
    after = without_repeats(sample(jnp.int32(2), long, constants()), long)
    real = short.weight > 0
    for name in ("drawn", "drawn_keep", "repeats"):
        a, b = getattr(before, name), getattr(after, name)
        if a is not None:
            rows = real if drawn_per == "event" else slice(None)
            np.testing.assert_array_equal(a[rows], b[: len(a)][rows])
    np.testing.assert_array_equal(before.in_batch, after.in_batch)
    np.testing.assert_array_equal(before.in_batch_keep, after.in_batch_keep)


@pytest.mark.parametrize(("drawn_per", "excluded"), COMBINATIONS)
def test_what_counts_equals_the_slow_loop(drawn_per, excluded):
    """With negatives of every source at once, before and after deduplication."""
    pool, masked = POOLS[drawn_per, excluded]
    batch, candidates = drawn_in_many_steps(drawn_per, excluded)
    candidates = at_step(candidates, 1)

    @jax.jit
    def count(candidates, batch):
        fewer = candidates_.without_repeats(candidates, batch)
        kept = functools.partial(candidate_scores.kept, batch=batch, mask_hits=masked)
        return kept(candidates), kept(fewer)

    all_kept, fewer_kept = jax.tree.map(np.asarray, count(candidates, batch))
    dropped = hit = 0
    for event in np.flatnonzero(batch.weight):
        ids, counts = reference.candidates_of(event, drawn_per, batch, candidates, pool)
        first = reference.first_only(ids, counts)
        not_hit = (np.array(ids) != batch.labels[event]) | (not masked)
        np.testing.assert_array_equal(all_kept[event], not_hit & counts)
        np.testing.assert_array_equal(fewer_kept[event], not_hit & first)
        dropped += sum(counts) - sum(first)
        hit += (counts & ~not_hit).sum()
    assert dropped > 0
    assert (hit > 0) == masked


@pytest.mark.parametrize("num_uniform", [0, 24])
def test_candidates_of_one_kind_alone_are_deduplicated(num_uniform):
    batch = reference.make_batch(7)
    sample = make_sampler(
        deduplicate=True,
        num_uniform=num_uniform,
        num_in_batch=0 if num_uniform else 20,
    )

    @jax.jit
    def find(batch):
        candidates = sample(jnp.int32(0), batch)
        keep = candidate_scores.kept(candidates, batch, mask_hits=False)
        return candidate_scores.items_of(candidates, batch), keep

    ids, keep = jax.tree.map(np.asarray, find(batch))
    for event in np.flatnonzero(batch.weight):
        kept = ids[event, keep[event]]
        assert 0 < len(kept) == len(set(kept.tolist())) < len(ids[event])


def test_hits_are_candidates_equal_to_the_label():
    shared, labels = np.array([4, 2, 9]), np.array([2, 7, 0])
    expected = [[False, True, False], [False] * 3, [False] * 3]
    np.testing.assert_array_equal(candidates_.hits(shared, labels), expected)


def test_the_streams_of_sources_never_change():
    """Nor do those of sources to come, which follow from the name."""
    assert [rng.source_stream(name) for name in sources.SOURCES] == [2, 5, 3]
    assert rng.source_stream("recent") == 1_835_227_006
    assert rng.source_stream("popular_1000") == 1_400_986_649


@pytest.mark.parametrize(
    ("field", "names"),
    [
        ("drawn_per", "event, session, batch"),
        ("exclude", "none, session, batch"),
        ("in_batch_from", "inputs, labels"),
        ("num_targets", "uniform, popularity, in_batch"),
    ],
)
def test_an_unknown_name_is_refused_with_the_list(field, names):
    with pytest.raises(KeyError, match=f"targets.*{names}"):
        make_sampler(**{field: "targets"})


def test_negatives_of_a_session_need_its_length():
    for fields in ({"drawn_per": "session"}, {"exclude": "session"}):
        with pytest.raises(ValueError, match="max_session_length"):
            make_sampler(max_session_length=None, **fields)


@pytest.mark.portable
@pytest.mark.parametrize("drawn_per", DRAWN_PER)
def test_samplers_lower_for_gpu_and_tpu(drawn_per):
    sample = make_sampler(
        drawn_per=drawn_per,
        exclude="batch" if drawn_per == "batch" else "session",
        num_popularity=4,
        in_batch_from="labels",
        deduplicate=True,
    )
    traced = jax.jit(sample).trace(jnp.int32(0), reference.make_batch(0), constants())
    assert traced.lower(lowering_platforms=("cuda", "tpu")).as_text()
