"""Session-parallel batches, against a plain loop."""

import itertools

import jax
import numpy as np
import pyarrow as pa
import pytest
import reference_slots

from tron_jax.data.sessions import Sessions, select
from tron_jax.data.slots import SlotBatches, lookup, make_schedule

LIMIT = 6


def make_sessions(seed=0, count=40, longest=12):
    rng = np.random.default_rng(seed)
    clicks = [rng.integers(1, 99, rng.integers(2, longest)) for _ in range(count)]
    offsets = np.cumsum([0, *(len(c) for c in clicks)]).astype(np.int32)
    items = np.concatenate(clicks).astype(np.int32)
    return Sessions(items, offsets, pa.nulls(count), pa.nulls(count)), clicks


def make_batches(sessions, batch_size=8, steps_per_call=7):
    return SlotBatches(sessions, batch_size, LIMIT, steps_per_call)


def plain_epoch(clicks, num_slots):
    """[steps, slots] items, labels, session, position and weight, one by one."""
    cut = [list(c[-(LIMIT + 1) :]) for c in clicks]
    rows = []
    for step in reference_slots.steps([len(c) - 1 for c in cut], num_slots):
        row = []
        for slot, busy in enumerate(step):
            if busy is None:
                row.append((0, 0, num_slots, 0, 0))
            else:
                session, i = busy
                row.append((cut[session][i], cut[session][i + 1], slot, i, 1))
        rows.append(row)
    return np.moveaxis(np.array(rows), 2, 0)


def joined(batches, start, untils):
    """Batches of consecutive dispatches, joined; each ends before its ``until``."""
    parts = []
    for until in untils:
        chunk, steps = batches.dispatch_at(start, until)
        assert 1 <= steps <= until - start
        assert chunk.steps == steps
        parts.append([column[:steps] for column in chunk.batches])
        start += steps
    return [np.concatenate(columns) for columns in zip(*parts, strict=True)], start


@pytest.mark.parametrize("seed", range(60))
def test_schedule_equals_the_plain_loop(seed):
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, rng.integers(2, 12), rng.integers(1, 40))
    num_slots = int(rng.integers(1, 12))  # more than sessions at times
    plain = list(reference_slots.steps(counts, num_slots))
    schedule = make_schedule(counts, num_slots)
    assert schedule.steps == len(plain)
    sessions, within = lookup(schedule, counts, 0, len(plain))
    wanted = [[busy or (-1, 0) for busy in step] for step in plain]
    np.testing.assert_array_equal(np.stack([sessions, within], axis=2), wanted)
    for step, slots in enumerate(plain):
        for slot, busy in enumerate(slots):
            if busy is not None and busy[1] == 0:
                assert (schedule.slot[busy[0]], schedule.first[busy[0]]) == (slot, step)
    # Any stretch of it is looked up alike; beyond its end there is nothing.
    start = int(rng.integers(len(plain)))
    part = lookup(schedule, counts, start, len(plain))
    rest = len(plain) - start
    for of_part, whole in zip(part, (sessions, within), strict=True):
        np.testing.assert_array_equal(of_part[:rest], whole[start:])
    assert (part[0][rest:] == -1).all()
    assert not part[1][rest:].any()


def test_schedules_at_the_edges():
    nothing = make_schedule(np.zeros(0, np.int64), 3)
    assert nothing.steps == 0
    assert (lookup(nothing, np.zeros(0, np.int64), 0, 2)[0] == -1).all()
    with pytest.raises(ValueError, match="without inputs"):
        make_schedule(np.array([2, 0, 1]), 3)


@pytest.mark.parametrize(("count", "batch_size"), [(40, 8), (5, 8), (8, 8), (9, 1)])
def test_an_epoch_equals_the_plain_loop(count, batch_size):
    sessions, clicks = make_sessions(count=count)
    batches = make_batches(sessions, batch_size)
    wanted = plain_epoch(clicks, batch_size)
    steps = batches.steps_per_epoch
    assert steps == wanted.shape[1]
    weight = wanted[4]
    assert weight.sum() == sum(min(len(c) - 1, LIMIT) for c in clicks)
    assert weight.any(1).all()
    # Whole chunks, and the second epoch as the first.
    start = 0
    for _ in range(2):
        actual, start = joined(batches, start, [10**9] * -(-steps // 7))
        for column, of_all in zip(actual, wanted, strict=True):
            np.testing.assert_array_equal(column, of_all)
    assert start == 2 * steps


@pytest.mark.parametrize("seed", range(5))
def test_any_stretch_of_steps_is_that_of_the_epoch(seed):
    sessions, clicks = make_sessions(seed)
    batches = make_batches(sessions)
    wanted = plain_epoch(clicks, 8)
    steps = batches.steps_per_epoch
    rng = np.random.default_rng(seed)
    for _ in range(10):
        at = int(rng.integers(steps))
        until = at + int(rng.integers(1, 12))
        start = steps * int(rng.integers(3))
        chunk, number = batches.dispatch_at(start + at, start + until)
        assert number == min(7, until - at, steps - at)
        padding = (0, 0, 8, 0, 0)
        for column, of_all, fill in zip(chunk.batches, wanted, padding, strict=True):
            np.testing.assert_array_equal(column[:number], of_all[at : at + number])
            assert (column[number:] == fill).all()


def test_sessions_before_counts_those_begun():
    sessions, clicks = make_sessions()
    batches = make_batches(sessions)
    _, _, _, position, weight = plain_epoch(clicks, 8)
    begun = np.cumsum([0, *((position == 0) & (weight == 1)).sum(1)])
    steps = batches.steps_per_epoch
    wanted = [*begun[:-1], *(40 + begun)]
    assert [batches.sessions_before(s) for s in range(2 * steps + 1)] == wanted
    assert batches.sessions_before(2 * steps) == 80


def test_shapes_are_those_of_every_chunk():
    batches = make_batches(make_sessions()[0])
    (shape,) = batches.shapes
    for step, until in itertools.product((0, 3, batches.steps_per_epoch - 1), (1, 50)):
        chunk, _ = batches.dispatch_at(step, step + until)
        jax.tree.map(
            lambda x, like: np.testing.assert_equal(
                (x.shape, x.dtype), (like.shape, like.dtype)
            ),
            chunk,
            shape,
        )
    one, other = batches.dispatch_at(0, 50)[0], batches.dispatch_at(0, 50)[0]
    for a, b in zip(one.batches, other.batches, strict=True):
        assert not np.shares_memory(a, b)


def test_a_slice_of_sessions_has_batches_of_its_own():
    sessions, clicks = make_sessions()
    batches = make_batches(select(sessions, 11, 37))
    wanted = plain_epoch(clicks[11:37], 8)
    actual, _ = joined(batches, 0, [7])
    for column, of_all in zip(actual, wanted, strict=True):
        np.testing.assert_array_equal(column, of_all[:7])
