"""What is recommended is what ranks first, by the same scores."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pytest

from tron_jax.data.sessions import Sessions
from tron_jax.evaluation.evaluator import make_evaluator, make_slot_evaluator
from tron_jax.evaluation.queries import plain
from tron_jax.models.gru4rec import GRU4RecSettings, make_gru4rec
from tron_jax.models.sasrec import SASRecSettings, make_sasrec
from tron_jax.optimizers.item_table import deferred_adam
from tron_jax.recommending import exclusions
from tron_jax.recommending.exclusions import Ragged
from tron_jax.recommending.recommender import Model, make_recommender, recommend
from tron_jax.recommending.top_k import make_top_k_step

NUM_ITEMS, WIDTH, LONGEST = 300, 16, 10
SASREC = make_sasrec(
    SASRecSettings(
        hidden_size=WIDTH,
        num_layers=1,
        num_heads=1,
        feedforward_size=WIDTH,
        max_session_length=LONGEST,
        dropout=0.5,
    )
)
GRU4REC = make_gru4rec(
    GRU4RecSettings(hidden_size=WIDTH, dropout=0.5, init="published")
)
KINDS = ("from_start", "from_end", "slots")


def read_rows(table, ids, step):
    return table[ids]


@functools.cache
def evaluator(kind, read_rows=read_rows):
    if kind == "slots":
        return make_slot_evaluator(
            GRU4REC,
            read_rows,
            num_items=NUM_ITEMS,
            max_session_length=LONGEST,
            num_slots=5,
            chunk_size=160,
            block=64,
        )
    return make_evaluator(
        SASREC,
        read_rows,
        num_items=NUM_ITEMS,
        max_session_length=LONGEST,
        position=kind,
        stream_size=96,
        chunk_size=256,
        block=64,
    )


@functools.cache
def recommender(kind, read_rows=read_rows):
    return make_recommender(evaluator(kind, read_rows), read_rows)


@functools.cache
def model(kind):
    draw = np.random.default_rng(0)
    encoder, width = (GRU4REC, WIDTH + 1) if kind == "slots" else (SASREC, WIDTH)
    params = jax.tree.map(
        lambda x: x + 0.2 * draw.normal(size=x.shape).astype(np.float32),
        jax.jit(encoder.init)(jax.random.key(0)),
    )
    table = draw.normal(size=(NUM_ITEMS + 1, width)).astype(np.float32)
    table[70:80] = table[200:210]  # items that tie
    return params, jnp.asarray(table)


LENGTHS = np.random.default_rng(5).integers(1, 8, 90)
LENGTHS[[3, 40, 89]] = [LONGEST, LONGEST + 1, 4 * LONGEST]


def clicks(lengths=LENGTHS, before=0):
    """Items, and where sessions begin; those before belong to nobody."""
    draw = np.random.default_rng(1)
    offsets = (before + np.cumsum([0, *lengths])).astype(np.int32)
    return draw.integers(1, NUM_ITEMS + 1, offsets[-1]).astype(np.int32), offsets


def ranked_by_numpy(table, hidden, k, allowed, excluded):
    """The whole matrix of scores, sorted: by score, then by id."""
    scores = (hidden @ table.T).astype(np.float64)
    scores[:, ~allowed] = -np.inf
    scores[:, 0] = -np.inf
    for row, ids in enumerate(excluded):
        scores[row, ids] = -np.inf
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    best = np.take_along_axis(scores, order, 1)
    return np.where(np.isfinite(best), order, 0), best


@pytest.mark.device
@pytest.mark.portable
@pytest.mark.parametrize("fixed", [False, True])
@pytest.mark.parametrize(
    ("num_items", "block", "k"),
    [(5, 16, 5), (64, 64, 7), (130, 64, 20), (333, 32, 1), (2000, 128, 4)],
)
def test_the_best_of_the_whole_matrix_are_found(num_items, block, k, fixed):
    draw = np.random.default_rng(num_items)
    # Small integers: exact in float32, with many ties
    table = draw.integers(-2, 3, (num_items + 1, 6)).astype(np.float32)
    hidden = draw.integers(-2, 3, (3 * block, 6)).astype(np.float32)
    count = 2 * block - 3
    step = jax.jit(
        make_top_k_step(read_rows, num_items=num_items, block=block, fixed=fixed),
        static_argnames="k",
    )
    for share, most in ((1.0, 0), (0.6, 4), (0.05, 4)):
        allowed = draw.random(num_items + 1) < share
        excluded = draw.integers(0, num_items + 1, (len(hidden), most)).astype(np.int32)
        scores, ids = step(table, 0, plain(hidden), count, allowed, excluded, k=k)
        expected = ranked_by_numpy(table, hidden, k, allowed, excluded)
        np.testing.assert_array_equal(np.asarray(ids)[:count], expected[0][:count])
        np.testing.assert_array_equal(np.asarray(scores)[:count], expected[1][:count])


@pytest.mark.device
@pytest.mark.parametrize("kind", KINDS)
def test_a_label_is_found_where_its_rank_says(kind):
    """Over all events of an evaluation, those of long sessions too."""
    items, offsets = clicks(np.maximum(LENGTHS, 2))
    ids = pa.nulls(len(offsets) - 1, pa.string())
    sessions = Sessions(items, offsets, ids, pa.nulls(len(ids), pa.timestamp("us")))
    ranks = evaluator(kind)(*model(kind), 0, sessions)["exact"]
    k = 20
    found = recommender(kind)(*model(kind), 0, items, offsets, k=k, every_event=True)
    assert found.items.shape == (len(items), k)
    has_label = np.ones(len(items), bool)
    has_label[offsets[1:] - 1] = False
    lists = found.items[has_label]
    assert len(lists) == len(ranks.label)
    hit = lists == ranks.label[:, None]
    at = np.where(hit.any(1), hit.argmax(1), k)
    assert (np.minimum(ranks.higher, k) <= at).all()
    assert (at <= ranks.higher + ranks.equal).all()
    alone = ranks.equal == 0
    np.testing.assert_array_equal(at[alone], np.minimum(ranks.higher, k)[alone])
    assert 0 < hit.any(1).mean() < 1
    assert 0 < alone.mean() < 1


@pytest.mark.parametrize("kind", KINDS)
def test_after_the_last_click_it_is_the_same(kind):
    items, offsets = clicks()
    call = functools.partial(recommender(kind), *model(kind), 0, k=5)
    every = call(items, offsets, every_event=True)
    last = call(items, offsets)
    np.testing.assert_array_equal(last.items, every.items[offsets[1:] - 1])
    np.testing.assert_allclose(
        last.scores, every.scores[offsets[1:] - 1], rtol=1e-5, atol=1e-5
    )
    # A session of many, or alone, or one that stands behind clicks of nobody
    for number in (0, 40, 89):
        session = items[offsets[number] : offsets[number + 1]]
        alone = call(session, np.array([0, len(session)]))
        np.testing.assert_array_equal(alone.items[0], last.items[number])
    shifted_items, shifted = clicks(before=7)
    moved = call(shifted_items, shifted)
    expected = call(shifted_items[7:], shifted - 7)
    np.testing.assert_array_equal(moved.items, expected.items)


@pytest.mark.parametrize("kind", ["from_start", "slots"])
def test_every_event_is_a_session_that_ends_there(kind):
    items, offsets = clicks()
    call = functools.partial(recommender(kind), *model(kind), 0, k=5)
    every = call(items, offsets, every_event=True)
    for number in (0, 40, 89):
        start, end = offsets[number], offsets[number + 1]
        for event in range(start, end):
            prefix = items[start : event + 1]
            alone = call(prefix, np.array([0, len(prefix)]))
            np.testing.assert_array_equal(alone.items[0], every.items[event])


@pytest.mark.parametrize(("of_chunk", "of_block"), [(256, 4096), (4, 8), (5, 4096)])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_excluded_is_passed_over(kind, of_chunk, of_block, monkeypatch):
    monkeypatch.setattr(exclusions, "MOST_OF_CHUNK", of_chunk)
    monkeypatch.setattr(exclusions, "MOST_OF_BLOCK", of_block)
    items, offsets = clicks()
    call = functools.partial(recommender(kind), *model(kind), 0, items, offsets)
    whole = call(k=NUM_ITEMS).items
    draw = np.random.default_rng(2)
    excluded = [
        draw.choice(np.arange(1, NUM_ITEMS + 1), size, replace=False)
        for size in draw.integers(0, 12, len(offsets) - 1)
    ]
    excluded[4] = np.arange(3, NUM_ITEMS + 1)  # more than a chunk has room for
    excluded[5] = np.arange(1, NUM_ITEMS + 1)  # everything
    assert len(excluded[4]) > of_chunk
    flat = np.concatenate(excluded).astype(np.int32)
    bounds = np.cumsum([0, *map(len, excluded)])
    allowed = draw.random(NUM_ITEMS + 1) < 0.5
    found = call(k=9, allowed=allowed, excluded=Ragged(flat, bounds[:-1], bounds[1:]))
    for row, (ids, without) in enumerate(zip(whole, excluded, strict=True)):
        left = [i for i in ids if allowed[i] and i not in set(without)][:9]
        expected = left + [0] * (9 - len(left))
        np.testing.assert_array_equal(found.items[row], expected)
        assert np.isneginf(found.scores[row][len(left) :]).all()


def test_sleeping_rows_are_brought_up_to_date():
    """A row that no step has touched for long is not what it was then."""
    item_tx = deferred_adam(lambda step: 0.01)
    params, table = model("from_start")
    state = item_tx.init(table)
    ids = jnp.arange(NUM_ITEMS + 1)
    gradients = jax.random.normal(jax.random.key(1), table.shape)
    rows = item_tx.read(state, ids, jnp.int32(0))
    state = item_tx.update(state, ids, rows, gradients, jnp.int32(0))

    def read(table_state, ids, step):
        return item_tx.read(table_state, ids, step).values

    items, offsets = clicks()
    asleep = recommender("from_start", read)(params, state, 30, items, offsets, k=5)
    awake = read(state, ids, jnp.int32(30))
    expected = recommender("from_start")(params, awake, 0, items, offsets, k=5)
    np.testing.assert_array_equal(asleep.items, expected.items)
    stale = recommender("from_start")(params, state.table, 0, items, offsets, k=5)
    assert (stale.items != expected.items).any()


def test_a_model_that_diverged_says_so():
    params, table = model("slots")
    items, offsets = clicks()
    found = recommender("slots")(params, table * np.nan, 0, items, offsets, k=5)
    assert np.isnan(found.scores).all()


@pytest.mark.parametrize("kind", ["from_start", "slots"])
def test_both_steps_lower_for_accelerators_with_a_full_float32_matmul(kind):
    shapes = jax.eval_shape(lambda: model(kind))
    for excluded in (0, 8):
        traced = recommender(kind).trace(*shapes, k=20, excluded=excluded)
        assert set(traced) == {"encode", "top_k"}
        for step in traced.values():
            text = step.lower(lowering_platforms=("cuda", "tpu")).as_text()
            products = [x for x in text.splitlines() if "stablehlo.dot_general" in x]
            assert products
            assert all("HIGHEST" in product for product in products)


def test_sessions_as_lists():
    made = Model(recommender("from_start"), *model("from_start"), 0)
    items, offsets = clicks()
    sessions = [items[a:b].tolist() for a, b in itertools.pairwise(offsets)]
    found = recommend(made, sessions, 4)
    expected = recommender("from_start")(*model("from_start"), 0, items, offsets, k=4)
    np.testing.assert_array_equal(found.items, expected.items)
    best = found.items[:, 0].tolist()
    without = recommend(made, sessions, 3, exclude=[[item] for item in best])
    np.testing.assert_array_equal(without.items, expected.items[:, 1:])
    some = {5, 17, 250}
    for only in (some, np.array(list(some))):
        assert set(recommend(made, sessions, 2, only=only).items.flat) <= some


def test_no_sessions_have_no_lists():
    made = Model(recommender("from_start"), *model("from_start"), 0)
    assert recommend(made, [], 4).items.shape == (0, 4)


@pytest.mark.parametrize("options", [{"only": [-1, 3]}, {"exclude": [[1], [2]]}])
def test_ids_that_are_none_are_refused(options):
    made = Model(recommender("from_start"), *model("from_start"), 0)
    with pytest.raises(ValueError, match=next(iter(options))):
        recommend(made, [[1]], 4, **options)


def test_a_mask_of_all_items_is_no_list_of_some():
    made = Model(recommender("from_start"), *model("from_start"), 0)
    with pytest.raises(ValueError, match="no whole number"):
        recommend(made, [[1]], 4, only=np.ones(NUM_ITEMS + 1, bool))


def test_a_whole_number_may_be_a_float():
    made = Model(recommender("from_start"), *model("from_start"), 0)
    expected, actual = (recommend(made, [[one, 2]], 4) for one in (1, 1.0))
    np.testing.assert_array_equal(actual.items, expected.items)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (([[1], []],), "no clicks"),
        (([[NUM_ITEMS + 1]],), "not 1.."),
        (([[0]],), "not 1.."),
        (([[2**32 + 1]],), "not 1.."),  # 1, were it cut to 32 bits
        (([[1.5]],), "no whole number"),
        (([[np.nan]],), "no whole number"),
        (([[np.inf]],), "no whole number"),
        (([[10**400]],), "no whole number"),
        (([[True]],), "no whole number"),
        (([["1", "2"]],), "no whole number"),
        ((["12"],), "no whole number"),
        (([[1]], 0), "k is 0"),
        (([[1]], NUM_ITEMS + 1), "k is"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments, expected):
    made = Model(recommender("from_start"), *model("from_start"), 0)
    with pytest.raises(ValueError, match=expected):
        recommend(made, *arguments)
