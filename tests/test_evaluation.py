import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pytest
import reference

from tron_jax.data.sessions import Sessions
from tron_jax.evaluation import protocols
from tron_jax.evaluation.evaluator import make_evaluator
from tron_jax.evaluation.histories import lay_out_for_packing
from tron_jax.evaluation.metrics import reported
from tron_jax.evaluation.packed_pass import chunks_of_streams
from tron_jax.models.sasrec import SASRecSettings, make_sasrec
from tron_jax.optimizers.item_table import deferred_adam

NUM_ITEMS, WIDTH, LONGEST = 60, 16, 50
ENCODER = make_sasrec(
    SASRecSettings(
        hidden_size=WIDTH,
        num_layers=2,
        num_heads=1,
        feedforward_size=WIDTH,
        max_session_length=LONGEST,
        dropout=0.5,
    )
)


def read_rows(table, ids, step):
    return table[ids]


@functools.cache
def evaluator(read_rows=read_rows, **options):
    """One per test module: they compile once."""
    options = {"stream_size": 256, "chunk_size": 600, "block": 128} | options
    return make_evaluator(
        ENCODER,
        read_rows,
        num_items=NUM_ITEMS,
        max_session_length=LONGEST,
        position="from_start",
        **options,
    )


def numbered(position):
    """The same programs, with positions of the other kind."""
    made = evaluator()
    encoding = dataclasses.replace(made.encoding, position=position)
    return dataclasses.replace(made, encoding=encoding)


@functools.cache
def model():
    params = jax.jit(ENCODER.init)(jax.random.key(0))
    noise = np.random.default_rng(0)
    params = jax.tree.map(
        lambda x: x + 0.3 * noise.normal(size=x.shape).astype(np.float32), params
    )
    table = noise.normal(size=(NUM_ITEMS + 1, WIDTH)).astype(np.float32)
    return params, jnp.asarray(table)


def make_sessions(lengths, before=0, seed=0):
    draw = np.random.default_rng(seed)
    offsets = (before + np.cumsum([0, *lengths])).astype(np.int32)
    items = draw.integers(1, NUM_ITEMS + 1, offsets[-1] + 9).astype(np.int32)
    ids = pa.array([f"s{i}" for i in range(len(lengths))])
    return Sessions(items, offsets, ids, pa.nulls(len(lengths), pa.timestamp("us")))


def hidden_states(inputs, first_position):
    """A forward pass of one sequence, in plain NumPy."""
    params, table = model()
    position = first_position + np.arange(len(inputs))
    params = jax.tree.map(np.asarray, params)
    return reference.sasrec(params, np.asarray(table)[inputs], position)


def rank_by_hand(hidden, label):
    """Ranks by a full sort in float64: (higher, equal)."""
    scores = np.asarray(model()[1]).astype(np.float64) @ hidden
    others = np.delete(scores, [0, label])
    return (others > scores[label]).sum(), (others == scores[label]).sum()


def columns(ranks):
    return np.stack(ranks, axis=1)


def by_hand(sessions, protocol, position, batch_size=128):
    """Every prediction of a protocol, one session and one event at a time."""
    rows = []
    last = sessions.num_sessions
    if protocol == "paper":
        last = last // batch_size * batch_size
    for s in range(last):
        clicks = sessions.items[sessions.offsets[s] : sessions.offsets[s + 1]]
        skipped = max(0, len(clicks) - LONGEST - 1) if protocol == "paper" else 0
        inputs = clicks[skipped:-1]
        start = 0
        if position == "from_end" and len(inputs) <= LONGEST:
            start = LONGEST - len(inputs)
        head = hidden_states(inputs[:LONGEST], start)
        for i in range(len(inputs)):
            hidden = head[i] if i < LONGEST else None
            if hidden is None:
                hidden = hidden_states(inputs[i + 1 - LONGEST : i + 1], 0)[-1]
            event = skipped + i + 1
            rows.append([s, event, clicks[event], *rank_by_hand(hidden, clicks[event])])
    return np.array(rows)


def assert_same_ranks(ranks, expected):
    found = columns(ranks)
    np.testing.assert_array_equal(found[:, :3], expected[:, :3])
    # Another packing rounds differently: two near items may swap ranks
    assert np.abs(found[:, 3:] - expected[:, 3:]).max() <= 1
    assert (found == expected).all(axis=1).mean() > 0.99


@pytest.mark.device
@pytest.mark.parametrize("position", ["from_start", "from_end"])
def test_both_protocols_against_one_sequence_at_a_time(position):
    lengths = np.random.default_rng(5).integers(2, 14, 270)
    lengths[[3, 100, 269]] = [51, 52, 130]
    lengths[200] = 57
    sessions = make_sessions(lengths, before=31)
    ranks = numbered(position)(*model(), 0, sessions)
    assert_same_ranks(ranks["exact"], by_hand(sessions, "exact", position))
    assert_same_ranks(ranks["paper"], by_hand(sessions, "paper", position))


@pytest.mark.parametrize("position", ["from_start", "from_end"])
def test_session_of_130_clicks_against_129_forward_passes(position):
    sessions = make_sessions([130], seed=1)
    ranks = numbered(position)(*model(), 0, sessions)["exact"]
    np.testing.assert_array_equal(ranks.event, np.arange(1, 130))
    expected = []
    for i in range(129):
        # Causal: what follows an input in the stream does not change its hidden state
        history = sessions.items[max(0, i + 1 - LONGEST) : i + 1]
        expected.append(
            rank_by_hand(hidden_states(history, 0)[-1], sessions.items[i + 1])
        )
    found = np.stack([ranks.higher, ranks.equal], axis=1)
    assert (found == expected).all(axis=1).mean() > 0.98
    assert np.abs(found - expected).max() <= 1


def test_paper_leaves_out_the_last_partial_batch_and_cuts_to_the_end():
    sessions = make_sessions([2] * 127 + [130] + [3] * 5)
    ranks = evaluator()(*model(), 0, sessions)
    paper, exact = ranks["paper"], ranks["exact"]
    assert len(paper.event) == 127 + 50
    assert len(exact.event) == 127 + 129 + 10
    assert paper.session.max() == 127
    np.testing.assert_array_equal(paper.event[127:], np.arange(80, 130))
    # Short sessions share their ranks; so does, by its history, the last prediction
    np.testing.assert_array_equal(paper.higher[:127], exact.higher[:127])
    assert paper.higher[-1] == exact.higher[127 + 128]


def summary(ranks, protocol):
    return protocols.summarise(
        ranks[protocol], protocol, split="test", reported=reported([], [])
    )


def test_below_one_batch_of_sessions_paper_is_not_available():
    ranks = evaluator()(*model(), 0, make_sessions([2] * 127))
    assert len(ranks["paper"].event) == 0
    assert summary(ranks, "paper") is None
    assert summary(ranks, "exact")["events"] == 127


def test_an_empty_split_has_no_ranks():
    ranks = evaluator()(*model(), 0, make_sessions([]))
    for protocol in ("paper", "exact"):
        assert all(len(column) == 0 for column in ranks[protocol])
        assert summary(ranks, protocol) is None


@pytest.mark.portable
def test_ranks_depend_neither_on_the_offsets_nor_on_the_sizes_of_the_pass():
    lengths = np.random.default_rng(6).integers(2, 70, 60)
    whole = make_sessions(lengths)
    later = Sessions(
        whole.items, whole.offsets[20:], whole.ids[20:], whole.start_time[20:]
    )
    at_once = columns(evaluator()(*model(), 0, whole)["exact"])
    other_sizes = evaluator(chunk_size=4096, stream_size=1024)
    part = columns(other_sizes(*model(), 0, later)["exact"])
    at_once = at_once[at_once[:, 0] >= 20]
    np.testing.assert_array_equal(part[:, 0] + 20, at_once[:, 0])
    np.testing.assert_array_equal(part[:, 1:3], at_once[:, 1:3])
    assert (part[:, 3:] == at_once[:, 3:]).all(axis=1).mean() > 0.99


def test_rows_asleep_are_evaluated_as_of_now_and_left_as_they_are():
    params, table = model()
    adam = deferred_adam(lambda step: 1e-2)

    def awake(state, ids, step):
        return adam.read(state, ids, step).values

    state, read, update = adam.init(table), jax.jit(adam.read), jax.jit(adam.update)
    noise = np.random.default_rng(7).normal(size=(2, *table.shape))
    for step, gradients in enumerate(noise.astype(np.float32)):
        ids = jnp.arange(step, NUM_ITEMS, 3)
        rows = read(state, ids, jnp.int32(step))
        state = update(state, ids, rows, gradients[ids], jnp.int32(step))
    before = jax.tree.map(np.array, (params, state))
    sessions = make_sessions([9] * 40)
    found = evaluator(read_rows=awake)(params, state, 40, sessions)["exact"]
    dense = read(state, jnp.arange(NUM_ITEMS + 1), jnp.int32(40)).values
    expected = evaluator()(params, dense, 0, sessions)["exact"]
    assert (columns(found) == columns(expected)).all(axis=1).mean() > 0.98
    asleep = evaluator()(params, state.table, 0, sessions)["exact"]
    assert (columns(found) == columns(asleep)).all(axis=1).mean() < 0.9
    jax.tree.map(np.testing.assert_array_equal, before, (params, state))


@pytest.mark.device
def test_progress_is_reported_and_nothing_compiles_twice():
    sessions, reports = make_sessions([12] * 150), []
    evaluate = evaluator()
    evaluate(*model(), 0, sessions)
    traced = evaluate.encoding.encode._cache_size(), evaluate.rank_step._cache_size()
    with jax.transfer_guard("disallow"):
        evaluate(
            *model(),
            jax.device_put(np.int32(1)),
            sessions,
            lambda *n: reports.append(n),
        )
        evaluate(*model(), 2, make_sessions([5, 130]))
    assert (
        evaluate.encoding.encode._cache_size(),
        evaluate.rank_step._cache_size(),
    ) == traced
    assert reports[-1] == (1650, 1650)
    assert len(reports) > 2
    assert [done for done, _ in reports] == sorted({done for done, _ in reports})


def test_chunks_hold_every_sequence_once_and_fit():
    lengths = np.random.default_rng(8).integers(1, 140, 300)
    offsets = 17 + np.cumsum([0, *lengths])
    layout = lay_out_for_packing(offsets, max_session_length=LONGEST)
    dealt = list(chunks_of_streams(layout.sequences, 128, 640))
    for chunk in dealt:
        assert all(stream.count.sum() <= 128 for stream in chunk)
        before_last = sum(stream.scored.sum() for stream in chunk[:-1])
        assert before_last + 128 <= 640
    for i, column in enumerate(layout.sequences):
        joined = np.concatenate([stream[i] for chunk in dealt for stream in chunk])
        np.testing.assert_array_equal(joined, column)
    _, _, scored, rank_index = layout.sequences
    written = [at + np.arange(n) for at, n in zip(rank_index, scored, strict=True)]
    np.testing.assert_array_equal(
        np.sort(np.concatenate(written)), np.arange(layout.num_ranks)
    )


def test_both_steps_lower_for_accelerators_with_a_full_float32_matmul():
    traced = evaluator().trace(*jax.eval_shape(lambda: model()))
    assert set(traced) == {"encode", "rank"}
    for name, step in traced.items():
        text = step.lower(lowering_platforms=("cuda", "tpu")).as_text()
        matmuls = [line for line in text.splitlines() if "stablehlo.dot" in line]
        assert matmuls
        if name == "rank":
            assert all("HIGHEST, HIGHEST" in line for line in matmuls)
