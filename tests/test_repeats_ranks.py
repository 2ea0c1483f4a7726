"""Corrected scores: what is ranked, recommended, served and exported goes by them."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pytest
import reference_repeats
import test_evaluation as evaluated
import test_recommending as small
from test_export import rows as padded

from tron_jax.data.sessions import Sessions
from tron_jax.evaluation.evaluator import make_evaluator
from tron_jax.evaluation.queries import Queries
from tron_jax.evaluation.ranking import make_rank_step
from tron_jax.models import repeats
from tron_jax.models.encoder import Corrections
from tron_jax.models.repeats import with_repeats
from tron_jax.recommending.recommender import Model, make_recommender, recommend
from tron_jax.recommending.top_k import make_top_k_step
from tron_jax.serving import onnx_graph, stablehlo
from tron_jax.serving.engine import Engine, Query
from tron_jax.serving.scorer import Weights, make_last_queries, make_scorer

POSITIONS = ("from_start", "from_end")
NONE = np.zeros(0, np.int32)


def read_rows(table, ids, step):
    return table[ids]


def drawn_queries(draw, num_items, events, most=6):
    """Small integers, of which float32 is exact and many scores tie."""
    hidden = draw.integers(-2, 3, (events, 5)).astype(np.float32)
    items = np.zeros((events, most), np.int32)
    for row in items:
        some = min(draw.integers(0, most + 1), num_items)
        places = draw.permutation(most)[:some]
        row[places] = 1 + draw.permutation(num_items)[:some]
    added = np.where(items > 0, draw.integers(-3, 4, items.shape), 0)
    corrections = Corrections(jnp.asarray(items), jnp.asarray(added, jnp.float32))
    return Queries(jnp.asarray(hidden), corrections)


def scores_by_numpy(table, queries):
    """[events, items], each correction added by itself."""
    scores = np.asarray(queries.hidden) @ table.T
    for event, (items, added) in enumerate(zip(*queries.corrections, strict=True)):
        for item, more in zip(np.asarray(items), np.asarray(added), strict=True):
            if item > 0:
                scores[event, item] += more
    return scores


@pytest.mark.device
@pytest.mark.portable
@pytest.mark.parametrize("fixed", [False, True])
@pytest.mark.parametrize(
    ("num_items", "block"), [(5, 16), (64, 64), (150, 64), (333, 32)]
)
def test_ranks_against_numpy(num_items, block, fixed):
    draw = np.random.default_rng(num_items)
    table = draw.integers(-2, 3, (num_items + 1, 5)).astype(np.float32)
    table[num_items // 2 :] = table[1 : num_items + 2 - num_items // 2]  # duplicates
    queries = drawn_queries(draw, num_items, 3 * block)
    labels = draw.integers(1, num_items + 1, 3 * block).astype(np.int32)
    own = np.asarray(queries.corrections.items[:, 0])
    labels[::3] = np.where(own[::3] > 0, own[::3], labels[::3])
    count = 3 * block - 5
    step = make_rank_step(read_rows, num_items=num_items, block=block, fixed=fixed)
    found = np.asarray(jax.jit(step)(table, 0, queries, labels, count))[:, :count]
    scores = scores_by_numpy(table, queries)
    kinds = set()
    for event in range(count):
        of_label = scores[event, labels[event]]
        others = np.delete(np.arange(1, num_items + 1), labels[event] - 1)
        equal = others[scores[event, others] == of_label]
        higher = (scores[event, others] > of_label).sum()
        np.testing.assert_array_equal(found[:, event], [higher, len(equal)])
        ties = np.isin(equal, queries.corrections.items[event]).any()
        kinds.add((labels[event] in queries.corrections.items[event], ties))
    # A corrected item ties with a label that is corrected, and with one that is not.
    assert len(kinds) == 4


def test_no_more_scores_than_a_block_of_them_in_memory():
    block, num_items, chunk, width, most = 256, 50_000, 8192, 32, repeats.RECENT
    table = jax.ShapeDtypeStruct((num_items + 1, width), jnp.float32)
    hidden = jax.ShapeDtypeStruct((chunk, width), jnp.float32)
    labels, items, scalar = (
        jax.ShapeDtypeStruct(shape, jnp.int32)
        for shape in ((chunk,), (chunk, most), ())
    )
    added = jax.ShapeDtypeStruct((chunk, most), jnp.float32)
    queries = Queries(hidden, Corrections(items, added))
    step = make_rank_step(read_rows, num_items=num_items, block=block)
    lowered = jax.jit(step).lower(table, scalar, queries, labels, scalar)
    memory = lowered.compile().memory_analysis()
    blocks = 4 * (2 * block * block + 6 * block * width)
    assert memory.temp_size_in_bytes < blocks + 4 * 8 * chunk


def test_a_diverged_state_is_still_the_worst():
    draw = np.random.default_rng(0)
    table = draw.normal(size=(41, 5)).astype(np.float32)
    queries = drawn_queries(draw, 40, 16)
    queries = queries._replace(hidden=queries.hidden * np.nan)
    labels = queries.corrections.items.max(axis=1).clip(1)
    step = jax.jit(make_rank_step(read_rows, num_items=40, block=16))
    higher, _ = step(table, 0, queries, labels, 16)
    np.testing.assert_array_equal(higher, 39)


@pytest.mark.device
@pytest.mark.portable
@pytest.mark.parametrize("fixed", [False, True])
@pytest.mark.parametrize(
    ("num_items", "block", "k"),
    [(5, 16, 5), (64, 64, 7), (130, 64, 20), (333, 32, 1), (2000, 128, 4)],
)
def test_the_best_are_those_of_the_corrected_matrix(num_items, block, k, fixed):
    """Excluded and forbidden items stay away, however much is added to them."""
    draw = np.random.default_rng(num_items)
    table = draw.integers(-2, 3, (num_items + 1, 5)).astype(np.float32)
    queries = drawn_queries(draw, num_items, 3 * block)
    scores = scores_by_numpy(table, queries)
    count = 2 * block - 3
    step = make_top_k_step(read_rows, num_items=num_items, block=block, fixed=fixed)
    step = jax.jit(step, static_argnames="k")
    for share, most in ((1.0, 0), (0.6, 4), (0.05, 4)):
        allowed = draw.random(num_items + 1) < share
        excluded = draw.integers(0, num_items + 1, (3 * block, most)).astype(np.int32)
        if most:
            excluded[:, 0] = queries.corrections.items[:, 0]
        found, ids = step(table, 0, queries, count, allowed, excluded, k=k)
        # The identity, so that the sorted matrix is of these scores.
        one = np.eye(num_items + 1)
        expected, best = small.ranked_by_numpy(one, scores, k, allowed, excluded)
        np.testing.assert_array_equal(np.asarray(ids)[:count], expected[:count])
        np.testing.assert_array_equal(np.asarray(found)[:count], best[:count])


def with_corrections(model, scale):
    """A model's parameters with corrections that matter, and its table."""
    params, table = model
    draw = np.random.default_rng(9)
    sizes = {"recency": repeats.RECENT, "repeats": repeats.MOST + 1}
    weights = {
        name: (scale * draw.normal(size=size)).astype(np.float32)
        for name, size in sizes.items()
    }
    return {**params, repeats.PARAMS: weights}, table


@functools.cache
def of_evaluated(position):
    return make_evaluator(
        with_repeats(evaluated.ENCODER),
        read_rows,
        num_items=evaluated.NUM_ITEMS,
        max_session_length=evaluated.LONGEST,
        position=position,
        stream_size=256,
        chunk_size=600,
        block=32,
    )


@pytest.mark.device
@pytest.mark.parametrize("position", POSITIONS)
def test_both_protocols_correct_by_their_own_histories(position, monkeypatch):
    """Against one session and one event at a time; long ones in windows, too."""
    params, table = with_corrections(evaluated.model(), 0.5)
    lengths = np.random.default_rng(5).integers(2, 14, 270)
    lengths[[3, 100, 200, 269]] = [51, 52, 57, 75]
    sessions = evaluated.make_sessions(lengths, before=31)
    items = sessions.items  # half of the clicks go back to one of the twelve before
    draw = np.random.default_rng(6)
    for a, b in itertools.pairwise(sessions.offsets):
        for event in range(a + 1, b):
            if draw.random() < 0.5:
                items[event] = items[draw.integers(max(a, event - 12), event)]
    ranks = of_evaluated(position)(params, table, 0, sessions)

    def by_hand(protocol, weights):
        """``evaluated.by_hand``, which does not pass on what was clicked before."""
        seen = []

        def states(inputs, first):
            seen.append(inputs)
            return list(enumerate(hidden_states(inputs, first)))

        def rank(hidden, label):
            last, state = hidden
            clicks = seen[-1][: last + 1]
            scores = np.asarray(table).astype(np.float64) @ state
            for item, added in reference_repeats.corrections(clicks, weights).items():
                scores[item] += added
            others = np.delete(scores, [0, label])
            return (others > scores[label]).sum(), (others == scores[label]).sum()

        hidden_states = evaluated.hidden_states
        with monkeypatch.context() as patch:
            patch.setattr(evaluated, "hidden_states", states)
            patch.setattr(evaluated, "rank_by_hand", rank)
            return evaluated.by_hand(sessions, protocol, position)

    for protocol in ("exact", "paper"):
        expected = by_hand(protocol, params[repeats.PARAMS])
        evaluated.assert_same_ranks(ranks[protocol], expected)
    nothing = jax.tree.map(np.zeros_like, params[repeats.PARAMS])
    plain = by_hand("exact", nothing)
    assert (plain[:, 3] != ranks["exact"].higher).mean() > 0.3


SASREC = with_repeats(small.SASREC)


@functools.cache
def evaluator(position):
    return make_evaluator(
        SASREC,
        read_rows,
        num_items=small.NUM_ITEMS,
        max_session_length=small.LONGEST,
        position=position,
        stream_size=96,
        chunk_size=256,
        block=64,
    )


@functools.cache
def recommender(position):
    return make_recommender(evaluator(position), read_rows)


@functools.cache
def model(position):
    return with_corrections(small.model(position), 0.3)


def clicks():
    """Items and offsets of sessions that go back to earlier items half of the time."""
    items, offsets = small.clicks(np.maximum(small.LENGTHS * 2, 2))
    draw = np.random.default_rng(6)
    for a, b in itertools.pairwise(offsets):
        for event in range(a + 1, b):
            if draw.random() < 0.5:
                items[event] = items[draw.integers(max(a, event - 12), event)]
    return items, offsets


def sessions():
    items, offsets = clicks()
    return [items[a:b] for a, b in itertools.pairwise(offsets)]


@pytest.mark.device
@pytest.mark.parametrize("position", POSITIONS)
def test_a_label_is_found_where_its_rank_says(position):
    items, offsets = clicks()
    ids = pa.nulls(len(offsets) - 1, pa.string())
    split = Sessions(items, offsets, ids, pa.nulls(len(ids), pa.timestamp("us")))
    ranks = evaluator(position)(*model(position), 0, split)["exact"]
    k = 20
    find = recommender(position)
    found = find(*model(position), 0, items, offsets, k=k, every_event=True)
    has_label = np.ones(len(items), bool)
    has_label[offsets[1:] - 1] = False
    lists = found.items[has_label]
    hit = lists == ranks.label[:, None]
    at = np.where(hit.any(1), hit.argmax(1), k)
    assert (np.minimum(ranks.higher, k) <= at).all()
    assert (at <= ranks.higher + ranks.equal).all()
    np.testing.assert_array_equal(
        hit.any(1)[ranks.equal == 0], at[ranks.equal == 0] < k
    )
    # Own items are moved, up and down.
    plain, _ = small.model(position)
    plain = {**plain, repeats.PARAMS: repeats.init()}
    table = model(position)[1]
    other = find(plain, table, 0, items, offsets, k=k, every_event=True).items
    assert (other[:, 0] != found.items[:, 0]).mean() > 0.1


@pytest.mark.parametrize("position", POSITIONS)
def test_scores_are_those_of_the_whole_matrix(position):
    """And excluded items stay away, though they are the session's own."""
    params, table = model(position)
    items, offsets = clicks()
    k = small.NUM_ITEMS
    found = recommender(position)(params, table, 0, items, offsets, k=k)
    without = {name: x for name, x in params.items() if name != repeats.PARAMS}
    plain = small.recommender(position)(without, table, 0, items, offsets, k=k)
    for row, session in enumerate(sessions()):
        scores = dict(zip(plain.items[row], plain.scores[row], strict=True))
        seen = session[-small.LONGEST :]
        by = reference_repeats.corrections(seen, params[repeats.PARAMS])
        for item, added in by.items():
            scores[item] += added
        wanted = [scores[item] for item in found.items[row]]
        np.testing.assert_allclose(found.scores[row], wanted, rtol=1e-4, atol=1e-4)
    made = Model(recommender(position), params, table, 0)
    lists = sessions()
    left = recommend(made, lists, 9, exclude=[{*one.tolist()} for one in lists])
    for one, row in zip(lists, left.items, strict=True):
        assert not np.isin(row, one).any()
    only = {int(item) for one in lists for item in one[-2:]} - {7}
    assert {*recommend(made, lists, 9, only=only).items.flat} <= only


def assert_alike(found, expected):
    """Lists agree, but for neighbours whose scores differ by rounding alone."""
    items, scores = (
        zip(*parts, strict=True) for parts in zip(found, expected, strict=True)
    )
    for one, wanted in scores:
        np.testing.assert_allclose(one, wanted, rtol=1e-4, atol=1e-4)
    differ = [(one != wanted).mean() for one, wanted in items]
    assert np.mean(differ) < 0.02


def last_queries(position):
    return make_last_queries(
        SASREC, max_session_length=small.LONGEST, position=position
    )


@pytest.mark.portable
@pytest.mark.parametrize("position", POSITIONS)
def test_the_engine_has_the_lists_of_the_recommender(position):
    engine = Engine(
        last_queries(position),
        read_rows,
        *model(position),
        0,
        num_items=small.NUM_ITEMS,
        longest=small.LONGEST,
        k=12,
    )
    allowed = engine.allow(np.ones(small.NUM_ITEMS + 1, bool))
    made, asked = Model(recommender(position), *model(position), 0), sessions()
    exclude = [np.unique(one[::3]) for one in asked]
    only = np.unique(np.concatenate([one[-3:] for one in asked])).astype(np.int32)
    for options, some in (({}, None), ({"only": only.tolist()}, only)):
        expected = recommend(made, asked, 12, exclude=exclude, **options)
        found = []
        for first in range(0, len(asked), 32):
            part = slice(first, first + 32)
            pairs = zip(asked[part], exclude[part], strict=True)
            found += engine([Query(one, 12, x, some) for one, x in pairs], allowed)
        assert_alike(tuple(zip(*found, strict=True)), expected)


def called(call):
    """Items and scores after all sessions, asked for by some at a time."""
    cut = [one[-small.LONGEST :] for one in sessions()]
    found = [call(*padded(some)) for some in (cut[:1], cut[1:20], cut[20:])]
    scores, items = (np.concatenate(part) for part in zip(*found, strict=True))
    return items, scores


@pytest.mark.portable
@pytest.mark.parametrize("position", POSITIONS)
def test_what_is_exported_has_the_lists_of_the_recommender(position, tmp_path):
    """As StableHLO; and as ONNX, where that is installed."""
    weights = Weights(*jax.tree.map(np.asarray, model(position)))
    expected = recommender(position)(*model(position), 0, *clicks(), k=12)
    score = make_scorer(last_queries(position), k=12)
    program = jax.export.deserialize(bytearray(stablehlo.serialize(score, weights)))
    leaves = jax.tree.leaves(weights)
    assert_alike(called(lambda *rows: program.call(leaves, *rows)), expected)
    runtime = pytest.importorskip("onnxruntime")
    path = tmp_path / "model.onnx"
    onnx_graph.save(
        path,
        weights,
        model="sasrec",
        num_heads=1,
        k=12,
        max_session_length=small.LONGEST,
        position=position,
    )
    session = runtime.InferenceSession(path)

    def call(items, lengths):
        inputs = {"items": items, "lengths": lengths}
        return session.run(["scores", "best"], inputs)

    assert_alike(called(call), expected)
    # Sessions of one click, in rows shorter than what is looked back.
    one = np.array([[5], [200]], np.int32)
    lengths = np.ones(2, np.int32)
    wanted = program.call(leaves, one, lengths)
    for found, of_program in zip(call(one, lengths), wanted, strict=True):
        np.testing.assert_allclose(found, of_program, rtol=1e-4, atol=1e-4)


@pytest.mark.portable
def test_all_steps_lower_for_accelerators_with_a_full_float32_matmul():
    shapes = jax.eval_shape(lambda: model("from_start"))
    traced = evaluator("from_start").trace(*shapes)
    for excluded in (0, 8):
        of_lists = recommender("from_start").trace(*shapes, k=20, excluded=excluded)
        traced[f"top_k of {excluded}"] = of_lists["top_k"]
    for name, step in traced.items():
        text = step.lower(lowering_platforms=("cuda", "tpu")).as_text()
        products = [x for x in text.splitlines() if "stablehlo.dot_general" in x]
        assert products
        assert all("HIGHEST" in product for product in products), name
        assert ("scatter" in text) or name == "encode"
