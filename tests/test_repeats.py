"""Corrections of a session's own items: what they are, and how they learn."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pytest
import reference_repeats
import tiny

from experiments import checks, export
from experiments.assembly import run_parts
from experiments.assembly import trained as trained_models
from tron_jax.data.packing import pack
from tron_jax.data.sessions import Sessions
from tron_jax.models import repeats
from tron_jax.models.repeats import correct, last_clicks, last_clicks_of_rows
from tron_jax.objectives.objective import StepData
from tron_jax.objectives.repeats import make_repeats_gradient
from tron_jax.objectives.selection import LOWEST
from tron_jax.optimizers.touched import touch
from tron_jax.recommending.recommender import recommend

ITEMS = 400
WEIGHTS = {
    "recency": np.random.default_rng(7).normal(size=repeats.RECENT),
    "repeats": np.random.default_rng(8).normal(size=repeats.MOST + 1),
}
PARAMS = {repeats.PARAMS: jax.tree.map(lambda x: x.astype(np.float32), WEIGHTS)}


def packed(draw, spare):
    """Sessions of 1 to 30 inputs of few items, ``spare`` inputs of padding behind."""
    counts = draw.integers(1, 31, 12)
    items = draw.integers(1, draw.integers(2, 9), counts.sum() + len(counts))
    return pack(
        items.astype(np.int32),
        np.cumsum(counts + 1) - counts - 1,
        counts,
        size=counts.sum() + spare,
        pad_session=len(counts),
        max_session_length=30,
        position="from_start",
    )


def as_items(corrections):
    """Of each line the items that are corrected, and by what."""
    found = []
    for items, added in zip(*map(np.asarray, corrections), strict=True):
        assert (added[items == 0] == 0).all()
        items, added = items[items > 0], added[items > 0]
        assert len({*items.tolist()}) == len(items)
        found.append(dict(zip(items.tolist(), added.tolist(), strict=True)))
    return found


def assert_corrected(corrections, expected):
    for found, wanted in zip(as_items(corrections), expected, strict=True):
        assert found.keys() == wanted.keys()
        for item, added in wanted.items():
            assert found[item] == pytest.approx(added, rel=1e-5, abs=1e-6)


@pytest.mark.device
@pytest.mark.portable
@pytest.mark.parametrize("spare", [0, 1, 37])
def test_what_is_corrected_in_a_stream_and_in_rows(spare):
    """A stream that is full, and such with padding behind the last session."""
    seen = set()
    for seed in range(20):
        batch = packed(np.random.default_rng([seed, spare]), spare)
        histories = reference_repeats.histories(batch)
        clicks = jax.jit(last_clicks)(batch.items, batch.session)
        wanted = [reference_repeats.last_clicks(history) for history in histories]
        np.testing.assert_array_equal(clicks, wanted)
        expected = [reference_repeats.corrections(h, WEIGHTS) for h in histories]
        assert_corrected(jax.jit(correct)(PARAMS, clicks), expected)
        # The same of rows; behind a session's last click stands what is none of its.
        rows = [history for history in histories if history]
        lengths = np.array([len(row) for row in rows], np.int32)
        padded = np.full((len(rows), lengths.max() + seed % 2), 3, np.int32)
        for line, row in zip(padded, rows, strict=True):
            line[: len(row)] = row
        of_rows = jax.jit(last_clicks_of_rows)(padded, lengths)
        np.testing.assert_array_equal(of_rows, clicks[: len(rows)])
        seen |= {len(row) - len({*row[-repeats.RECENT :]}) for row in rows}
    assert {0, 1, repeats.MOST, repeats.MOST + 1} <= seen


def test_a_stream_shorter_than_what_is_looked_back():
    items = np.array([4, 4, 2], np.int32)
    clicks = last_clicks(items, np.array([0, 0, 1], np.int32))
    np.testing.assert_array_equal(clicks[:, :3], [[4, 0, 0], [4, 4, 0], [2, 0, 0]])
    assert clicks.shape == (3, repeats.RECENT)


@pytest.mark.portable
def test_they_begin_at_nothing():
    clicks = np.array([[3, 5, 3, 0, 0, 0, 0, 0, 0, 0]])
    found = correct({repeats.PARAMS: repeats.init()}, clicks)
    np.testing.assert_array_equal(found.items[0, :4], [3, 5, 0, 0])
    assert not found.added.any()


@functools.cache
def example(whole):
    """A batch with many repeats, its hidden states, rows and candidates' scores."""
    draw = np.random.default_rng(4)
    batch = packed(draw, 9)
    batch = batch._replace(items=41 * batch.items, labels=41 * batch.labels)
    drawn = jnp.asarray(draw.integers(1, ITEMS + 1, (1, 9)), jnp.int32)
    touched = touch(batch.items, batch.labels, drawn, ITEMS + 1, whole)
    table = draw.normal(size=(ITEMS + 1, 8)).astype(np.float32)
    hidden = draw.normal(size=(len(batch.items), 8)).astype(np.float32)
    rows = jnp.asarray(table if whole else table[np.minimum(touched.ids, ITEMS)])
    scores = draw.normal(size=(len(hidden), 6)).astype(np.float32)
    keep = draw.random(scores.shape) < 0.8
    keep[::7] = False  # of some events no candidate counts
    return batch, touched, hidden, table, rows, scores, keep


@pytest.mark.portable
@pytest.mark.parametrize("whole", [True, None])
@pytest.mark.parametrize("log_weight", [0.0, 1.5])
def test_the_gradient_is_that_of_the_slow_loss(whole, log_weight):
    batch, touched, hidden, table, rows, scores, keep = example(whole)
    scale = 0.1  # of corrections as large as scores
    weights = jax.tree.map(lambda x: scale * x, WEIGHTS)
    params = {
        repeats.PARAMS: jax.tree.map(lambda x: x.astype(np.float32), weights),
        "params": {"others": jnp.ones(3)},
    }
    data = StepData(jnp.int32(3), batch, None, touched, None)
    gradient = jax.jit(make_repeats_gradient(correct, log_weight, until=4))
    masked = np.where(keep, scores, LOWEST)
    found = gradient(params, data, hidden, rows, masked)
    counted = [row[kept] for row, kept in zip(scores, keep, strict=True)]

    def loss(weights):
        return reference_repeats.loss(
            weights, batch, hidden, table, counted, log_weight
        )

    h = 1e-6
    for name, values in weights.items():
        slopes = []
        for i in range(len(values)):
            move = h * np.eye(len(values))[i]
            up, down = (weights | {name: values + sign * move} for sign in (1, -1))
            slopes.append((loss(up) - loss(down)) / (2 * h))
        assert np.all(slopes)
        np.testing.assert_allclose(
            found[repeats.PARAMS][name], slopes, rtol=1e-3, atol=1e-4
        )
    assert not found["params"]["others"].any()
    later = gradient(params, data._replace(step=jnp.int32(4)), hidden, rows, masked)
    assert not any(leaf.any() for leaf in jax.tree.leaves(later))


def test_events_that_no_correction_could_save_have_no_part():
    """Also where some of their candidates do not count, which is no low score."""
    batch, touched, hidden, _, rows, scores, keep = example(True)
    high = np.where(keep, 1e4 + scores, LOWEST).astype(np.float32)
    data = StepData(jnp.int32(0), batch, None, touched, None)
    assert not keep.all(axis=1).all()
    gradient = make_repeats_gradient(correct, 0.0, until=1)
    found = gradient(PARAMS, data, hidden, rows, high)
    assert not any(leaf.any() for leaf in jax.tree.leaves(found))


EPOCH = 20  # steps


def returning(share=0.6, seed=0, count=12 * EPOCH):
    """Sessions whose next click is, as often, the one before the last once more."""
    draw = np.random.default_rng(seed)
    sessions = []
    for length in draw.integers(4, 12, count):
        clicks = []
        for _ in range(length):
            item = int(draw.integers(1, tiny.NUM_ITEMS + 1))
            while item in clicks:
                item = int(draw.integers(1, tiny.NUM_ITEMS + 1))
            back = len(clicks) > 1 and draw.random() < share
            clicks.append(clicks[-2] if back else item)
        sessions.append(clicks)
    offsets = np.cumsum([0, *map(len, sessions)]).astype(np.int32)
    ids = pa.array([str(n) for n in range(count)])
    starts = pa.nulls(count, pa.timestamp("us"))
    return Sessions(np.concatenate(sessions).astype(np.int32), offsets, ids, starts)


@functools.cache
def trained(mode, steps, **fields):
    """The state after steps on sessions that go back, and its evaluator."""
    config = tiny.config("-", mode, negatives__mask_hits=True, **fields)
    checks.check(config)
    config = run_parts.resolve(config, tiny.NUM_ITEMS)
    parts = run_parts.build(config, tiny.NUM_ITEMS, returning())
    state, step = jax.jit(parts.init)(), jax.jit(parts.train_step)
    for number in range(steps):
        dispatch, _ = parts.batches.dispatch_at(number, number + 1)
        state, totals = step(state, dispatch, parts.constants)
    return state, totals, parts


def names(tree):
    """The leaves of a tree by their paths."""
    leaves = jax.tree.leaves_with_path(tree)
    return {jax.tree_util.keystr(path): leaf for path, leaf in leaves}


def not_of_repeats(tree):
    """Those that are of no corrections."""
    key = f"['{repeats.PARAMS}']"
    return {name: leaf for name, leaf in names(tree).items() if key not in name}


COSINE = {"model__scoring": "cosine", "model__scale": 7.0}
KINDS = {
    "dense": {"mode": "dense"},
    "rows": {"mode": "rows"},
    "dense cosines": {"mode": "dense", **COSINE},
    "rows of cosines": {"mode": "rows", **COSINE},
    "sessions": {
        "mode": "rows",
        "negatives__drawn_per": "session",
        "negatives__exclude": "session",
        "loss__name": "bce",
        "loss__topk": 0,
    },
    "rounded": {"mode": "rows", "model__compute_dtype": "bfloat16"},
    "groups": {"mode": "rows", "train__steps_per_group": 4},
    "adagrad": {"mode": "rows", "optimizer__name": "adagrad"},
}


@pytest.mark.parametrize("kind", KINDS)
def test_all_else_learns_as_if_nothing_were_corrected(kind):
    """Bit for bit: parameters, item table and the moments of both."""
    fields = {"steps": EPOCH + 4, **KINDS[kind]}
    state, totals, _ = trained(model__repeats=True, **fields)
    plain, of_plain, _ = trained(**fields)
    assert repeats.PARAMS not in plain.params
    tiny.assert_same_bits(not_of_repeats(state), not_of_repeats(plain))
    tiny.assert_same_bits(totals, of_plain)
    learnt = state.params[repeats.PARAMS]
    assert all(np.isfinite(leaf).all() and leaf.any() for leaf in learnt.values())


def test_they_learn_from_the_first_epoch_alone():
    """By Adagrad, which moves nothing of what has no gradient."""
    fields = {"model__repeats": True, "optimizer__name": "adagrad"}
    states = (
        trained("rows", steps, **fields)[0] for steps in (EPOCH - 1, EPOCH, EPOCH + 4)
    )
    before, at_end, later = (state.params[repeats.PARAMS] for state in states)
    tiny.assert_same_bits(at_end, later)
    assert (before["recency"] != at_end["recency"]).any()


def test_they_move_to_where_sessions_go_back():
    """To the click before the last, hardly ever to the last or to older ones."""
    fields = {"model__repeats": True, "optimizer__learning_rate": 0.01}
    state, _, _ = trained("dense", 60, **fields)
    learnt = jax.tree.map(np.asarray, state.params[repeats.PARAMS])
    recency = learnt["recency"]
    assert recency.argmax() == 1
    assert recency[1] > 0.05
    assert (recency[[0, 2, 3]] < 0).all()
    other, _, parts = trained("dense", 60, optimizer__learning_rate=0.01)
    held_out = returning(seed=1)
    means = []
    for params in (state.params, other.params | {repeats.PARAMS: repeats.init()}):
        _, _, parts = trained("dense", 60, **fields)
        ranks = parts.evaluator(params, state.items, 60, held_out)["exact"]
        means.append((ranks.higher < 5).mean())
    assert means[0] > means[1] + 0.3


def test_what_is_not_corrected_is_refused_in_one_line(tmp_path, train):
    gru4rec = {
        "model__name": "gru4rec",
        "model__position": "from_start",
        "negatives__exclude": "none",
    }
    softmax = {
        "loss__name": "full_softmax",
        "loss__topk": 0,
        "negatives__num_uniform": 0,
        "negatives__num_in_batch": 0,
        "negatives__exclude": "none",
        "negatives__mask_hits": False,
    }
    for fields, words in (
        (gru4rec, ("model.repeats is True with model.name=gru4rec", "False")),
        (softmax, ("model.repeats is set with loss.name=full_softmax", "=false")),
    ):
        outcome = train(tmp_path / "run", model__repeats=True, **fields)
        tiny.assert_refused(outcome, *words)
    assert not (tmp_path / "run").exists()


def test_a_run_that_is_cut_ends_as_an_unbroken_one(tmp_path, tiny_runs, train):
    whole, cut = tiny_runs("repeats"), tmp_path / "cut"
    assert train(cut, "repeats", train__epochs=1)[0] == 0
    status, out, err = train(cut, "repeats")
    assert (status, err) == (0, "")
    assert "resuming at step 25" in out
    tiny.assert_same_run(cut, whole)
    learnt = tiny.saved(whole)[0].params[repeats.PARAMS]
    assert all(leaf.any() for leaf in learnt.values())
    outcome = train(cut, "rows")
    tiny.assert_refused(outcome, "trained with model.repeats=True, not False")


def test_an_export_recommends_as_its_run_does(tmp_path, tiny_runs, capfd):
    pytest.importorskip("safetensors")
    out = tmp_path / "model"
    argv = [f"--workdir={tiny_runs('repeats')}", f"--out={out}", "--table=bfloat16"]
    assert export.main(["export", *argv]) == 0
    capfd.readouterr()
    of_run, of_export = (
        trained_models.load(place).model for place in (tiny_runs("repeats"), out)
    )
    tiny.assert_same_bits(of_run.params, of_export.params)
    assert of_export.params[repeats.PARAMS]["recency"].any()
    sessions = [[5, 9, 5], [7], [200, 3, 200, 3]]
    both = [recommend(model, sessions, 20) for model in (of_run, of_export)]
    # Of a table that is rounded to 2^-9; the corrections are not.
    np.testing.assert_allclose(both[0].scores, both[1].scores, rtol=0.02, atol=0.02)
    text = (out / "MODEL_CARD.md").read_text()
    assert "corrected" in text
