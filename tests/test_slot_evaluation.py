"""The evaluation of an encoder that carries a state, against one session at a time."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pytest
import reference_gru4rec as reference

from tron_jax.data.sessions import Sessions
from tron_jax.evaluation import metrics, protocols
from tron_jax.evaluation.evaluator import make_slot_evaluator
from tron_jax.evaluation.histories import lay_out_for_slots
from tron_jax.models.gru4rec import GRU4RecSettings, make_gru4rec

NUM_ITEMS, HIDDEN, LONGEST, PAPER_SLOTS = 40, 8, 6, 3
ENCODER = make_gru4rec(
    GRU4RecSettings(hidden_size=HIDDEN, dropout=0.5, init="published")
)


def read_rows(table, ids, step):
    return table[ids]


@functools.cache
def evaluator(read_rows=read_rows, **options):
    options = {"num_slots": 5, "chunk_size": 40, "block": 16} | options
    return make_slot_evaluator(
        ENCODER,
        read_rows,
        num_items=NUM_ITEMS,
        max_session_length=LONGEST,
        paper_slots=PAPER_SLOTS,
        **options,
    )


@functools.cache
def model():
    draw = np.random.default_rng(0)
    params = jax.tree.map(
        lambda x: x + 0.5 * draw.normal(size=x.shape).astype(np.float32),
        jax.jit(ENCODER.init)(jax.random.key(0)),
    )
    table = draw.normal(size=(NUM_ITEMS + 1, HIDDEN + 1)).astype(np.float32)
    table[7:12] = table[20:25]  # each label among these has a tie
    return params, jnp.asarray(table)


def make_sessions(lengths, before=0, seed=0):
    draw = np.random.default_rng(seed)
    offsets = (before + np.cumsum([0, *lengths])).astype(np.int32)
    items = draw.integers(1, NUM_ITEMS + 1, offsets[-1] + 9).astype(np.int32)
    ids = pa.array([f"s{i}" for i in range(len(lengths))])
    return Sessions(items, offsets, ids, pa.nulls(len(lengths), pa.timestamp("us")))


LENGTHS = np.random.default_rng(5).integers(2, 7, 50)
LENGTHS[[2, 11, 48]] = [7, 8, 21]  # cut by none, one and 14 clicks
LENGTHS[49] = 30  # under way when the queue is empty


def columns(ranks):
    return np.stack(ranks, axis=1)


def by_hand(sessions, protocol):
    """Replays each session by itself, in the order of the split."""
    params, table = (jax.tree.map(np.float64, part) for part in model())
    clicks = [
        sessions.items[start:end]
        for start, end in zip(sessions.offsets, sessions.offsets[1:], strict=False)
    ]
    kept = clicks
    if protocol == "paper":
        kept = [items[-(LONGEST + 1) :] for items in clicks]
        counts = [len(items) - 1 for items in kept]
        steps, full = reference.slots_replayed(counts, PAPER_SLOTS)
        processed = {cell[1:] for step in steps[:full] for cell in step}
    rows = []
    for s, items in enumerate(kept):
        states = reference.hidden_states(params, table[items[:-1]])
        for i, (state, label) in enumerate(zip(states, items[1:], strict=True)):
            if protocol == "paper" and (s, i) not in processed:
                continue
            scores = (table * state).sum(1)
            others = np.sort(np.delete(scores, [0, label]))
            higher = len(others) - np.searchsorted(others, scores[label], "right")
            equal = len(others) - np.searchsorted(others, scores[label]) - higher
            event = len(clicks[s]) - len(items) + i + 1
            rows.append([s, event, label, higher, equal])
    return np.array(rows)


def summary(ranks, protocol):
    return protocols.summarise(
        ranks,
        protocol,
        split="test",
        reported=metrics.reported([], [5]),
        paper_batch_size=evaluator().encoding.paper_batch_size,
    )


@pytest.mark.device
@pytest.mark.portable
@pytest.mark.parametrize("protocol", ["exact", "paper"])
def test_ranks_against_one_session_at_a_time(protocol):
    sessions = make_sessions(LENGTHS, before=31)
    ranks = evaluator()(*model(), 0, sessions)[protocol]
    expected = by_hand(sessions, protocol)
    np.testing.assert_array_equal(columns(ranks), expected)
    assert (ranks.equal > 0).sum() > 10  # of which ties are left
    if protocol == "paper":
        # A step's events are averaged, and all steps have equally many.
        assert len(ranks.event) % PAPER_SLOTS == 0
        assert ranks.session.max() == 49
        assert len(ranks.event) < np.minimum(LENGTHS - 1, LONGEST).sum()
        found = summary(ranks, "paper")
        assert found["recall@5"] == metrics.recall(1 + ranks.higher, 5).mean()
        assert found["events"] == len(ranks.event)


@pytest.mark.parametrize("seed", range(6))
def test_paper_holds_what_the_slots_process_until_one_finds_the_queue_empty(seed):
    draw = np.random.default_rng(seed)
    lengths = draw.integers(1, [3, 30][seed % 2], draw.integers(1, 60))
    slots = int(draw.integers(1, 9))
    offsets = 17 + np.cumsum([0, *lengths])
    layout = lay_out_for_slots(offsets, max_session_length=9, paper_slots=slots)
    kept = np.minimum(lengths - 1, 9)
    real = np.flatnonzero(kept)
    steps, full = reference.slots_replayed(list(kept[real]), slots)
    processed = [real[session] for step in steps[:full] for _, session, _ in step]
    assert len(processed) == slots * full
    expected = np.bincount(processed, minlength=len(lengths))
    first, count, rank_index = layout.predictions["paper"]
    np.testing.assert_array_equal(count, expected)
    np.testing.assert_array_equal(first, lengths - kept)
    # Protocols share a rank where the history is the same, and no other.
    exact = layout.predictions["exact"]
    np.testing.assert_array_equal(exact.count, lengths - 1)
    whole = lengths - 1 <= 9
    np.testing.assert_array_equal(rank_index[whole], exact.rank_index[whole])
    cut = zip(rank_index[~whole], count[~whole], strict=True)
    written = [at + np.arange(n) for at, n in cut]
    written.append(np.arange(exact.count.sum()))
    np.testing.assert_array_equal(
        np.sort(np.concatenate(written)), np.arange(layout.num_ranks)
    )


@pytest.mark.parametrize(
    ("lengths", "paper", "exact"), [([], 0, 0), ([4, 9], 0, 11), ([4, 9, 5], 9, 15)]
)
def test_fewer_sessions_than_slots_leave_paper_not_available(lengths, paper, exact):
    """As many sessions as slots are under way together until the shortest ends."""
    ranks = evaluator()(*model(), 0, make_sessions(lengths))
    for protocol, events in (("paper", paper), ("exact", exact)):
        found = summary(ranks[protocol], protocol)
        assert (found["events"] if found else 0) == events
        assert (found is None) == (events == 0)


def test_ranks_depend_neither_on_the_offsets_nor_on_slots_and_chunks():
    whole = make_sessions(LENGTHS)
    later = Sessions(
        whole.items, whole.offsets[20:], whole.ids[20:], whole.start_time[20:]
    )
    part = evaluator(num_slots=16, chunk_size=1000, block=128)(*model(), 0, later)
    at_once = columns(evaluator()(*model(), 0, whole)["exact"])
    at_once = at_once[at_once[:, 0] >= 20]
    at_once[:, 0] -= 20
    np.testing.assert_array_equal(columns(part["exact"]), at_once)


def test_rows_are_read_as_of_the_step():
    def moving(state, ids, step):
        return state[0][ids] + step * state[1][ids]

    params, table = model()
    moves = np.random.default_rng(1).integers(-2, 3, table.shape).astype(np.float32)
    sessions = make_sessions(LENGTHS[:12])
    state = (table, jnp.asarray(moves))
    found = evaluator(moving)(params, state, 3, sessions)
    expected = evaluator()(params, table + 3 * moves, 0, sessions)
    still = evaluator()(params, table, 0, sessions)
    for protocol in ("paper", "exact"):
        columns_found = columns(found[protocol])
        np.testing.assert_array_equal(columns_found, columns(expected[protocol]))
        assert (columns_found != columns(still[protocol])).any()


def test_progress_is_reported_and_nothing_compiles_twice():
    sessions, reports = make_sessions(LENGTHS), []
    params, table = model()
    before = jax.tree.map(np.array, (params, table))
    evaluate = evaluator()
    evaluate(params, table, 0, sessions)
    steps = evaluate.encoding.encode, evaluate.rank_step
    traced = [step._cache_size() for step in steps]
    with jax.transfer_guard("disallow"):
        evaluate(params, table, 1, sessions, lambda *n: reports.append(n))
        evaluate(params, table, 2, make_sessions([5, 130]))
    assert [step._cache_size() for step in steps] == traced
    layout = evaluate.encoding.lay_out(sessions.offsets)
    assert reports[-1] == (layout.num_ranks, layout.num_ranks)
    assert layout.num_ranks > (LENGTHS - 1).sum()
    assert len(reports) > 2
    assert [done for done, _ in reports] == sorted({done for done, _ in reports})
    jax.tree.map(np.testing.assert_array_equal, before, (params, table))


def test_both_steps_lower_for_accelerators_with_a_full_float32_matmul():
    traced = evaluator().trace(*jax.eval_shape(lambda: model()))
    assert set(traced) == {"encode", "rank"}
    for step in traced.values():
        text = step.lower(lowering_platforms=("cuda", "tpu")).as_text()
        matmuls = [line for line in text.splitlines() if "stablehlo.dot" in line]
        assert matmuls
        assert all("HIGHEST, HIGHEST" in line for line in matmuls)
