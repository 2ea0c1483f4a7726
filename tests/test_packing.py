import numpy as np
import pyarrow as pa
import pytest
import reference

from tron_jax.data.packing import (
    PackedBatches,
    block_size,
    bucket_sizes,
    pack,
)
from tron_jax.data.sessions import Sessions, select

LIMIT = 6


def make_sessions(seed=0, count=50, longest=15):
    rng = np.random.default_rng(seed)
    clicks = [rng.integers(1, 99, rng.integers(2, longest)) for _ in range(count)]
    offsets = np.cumsum([0, *(len(c) for c in clicks)]).astype(np.int32)
    sessions = Sessions(
        np.concatenate(clicks).astype(np.int32),
        offsets,
        pa.array(range(count)),
        pa.nulls(count, pa.timestamp("us")),
    )
    return sessions, clicks


def make_batches(sessions, **changes):
    settings = {
        "batch_size": 8,
        "max_session_length": LIMIT,
        "position": "from_start",
        "order": "chronological",
        "seed": 3,
    }
    return PackedBatches(sessions, **(settings | changes))


@pytest.mark.parametrize("position", ["from_start", "from_end"])
@pytest.mark.parametrize("order", ["chronological", "shuffled"])
def test_batches_equal_the_plain_loop(position, order):
    sessions, clicks = make_sessions()
    batches = make_batches(sessions, position=position, order=order)
    assert batches.steps_per_epoch == 7
    for step in range(14):
        batch, rows = batches.at(step), batches.rows(step)
        assert len(rows) == (8 if step % 7 < 6 else 2)
        assert batches.sessions_before(step + 1) == (
            batches.sessions_before(step) + len(rows)
        )
        expected = reference.packed(
            clicks, rows, max_session_length=LIMIT, position=position
        )
        real = batch.weight == 1
        assert real.sum() == len(expected[0])
        assert batch.items.size in batches.sizes
        columns = (batch.items, batch.labels, batch.session, batch.position)
        for actual, wanted in zip(columns, expected, strict=True):
            np.testing.assert_array_equal(actual[real], wanted)
        padding = (batch.items, batch.labels, batch.position, batch.weight)
        assert not any(column[~real].any() for column in padding)
        assert (batch.session[~real] == 8).all()


def test_each_epoch_holds_every_session_once_and_shuffles_anew():
    sessions, _ = make_sessions()
    batches = make_batches(sessions, order="shuffled")
    epochs = [
        np.concatenate([batches.rows(epoch * 7 + i) for i in range(7)])
        for epoch in range(2)
    ]
    for epoch in epochs:
        np.testing.assert_array_equal(np.sort(epoch), np.arange(50))
    assert (epochs[0] != epochs[1]).any()
    again = make_batches(sessions, order="shuffled")
    np.testing.assert_array_equal(again.rows(9), batches.rows(9))
    other = make_batches(sessions, order="shuffled", seed=4)
    assert (other.rows(9) != batches.rows(9)).any()


def test_chronological_order_is_that_of_the_data():
    sessions, _ = make_sessions()
    np.testing.assert_array_equal(make_batches(sessions).rows(8), np.arange(8, 16))


def test_a_slice_of_sessions_packs_like_the_sessions_themselves():
    sessions, _ = make_sessions()
    whole = make_batches(sessions)
    part = make_batches(select(sessions, 8, 50))
    for a, b in zip(whole.at(1), part.at(0), strict=True):
        np.testing.assert_array_equal(a[: len(b)], b[: len(a)])


def test_a_dispatch_is_one_batch_of_a_known_shape():
    batches = make_batches(make_sessions()[0])
    assert [shape.items.shape for shape in batches.shapes] == [
        (size,) for size in batches.sizes
    ]
    batch, steps = batches.dispatch_at(9, 100)
    assert steps == 1
    shape = next(s for s in batches.shapes if s.items.shape == batch.items.shape)
    for column, again, like in zip(batch, batches.at(9), shape, strict=True):
        np.testing.assert_array_equal(column, again)
        assert (column.shape, column.dtype) == (like.shape, like.dtype)


def test_batches_are_fresh_arrays():
    batches = make_batches(make_sessions()[0])
    for a, b in zip(batches.at(0), batches.at(0), strict=True):
        assert not np.shares_memory(a, b)
        assert not np.shares_memory(a, batches.sessions.items)


@pytest.mark.parametrize("order", ["chronological", "shuffled"])
@pytest.mark.parametrize("longest", [4, 60])
@pytest.mark.parametrize(("group", "most"), [(1, 8), (2, 3)])
def test_sizes_are_few_and_hold_every_batch(order, longest, group, most):
    sessions, _ = make_sessions(count=700, longest=longest)
    batches = make_batches(
        sessions, order=order, max_session_length=40, steps_per_group=group
    )
    sizes = batches.sizes
    assert len(sizes) <= most
    assert all(size % block_size(40) == 0 for size in sizes)
    assert sizes == sorted(set(sizes))
    for step in range(batches.steps_per_epoch * 3):
        batches.at(step)  # raises if no size holds it


@pytest.mark.parametrize("seed", range(5))
def test_sizes_pad_least_among_all_choices(seed):
    """Against trying every subset."""
    import itertools

    rng = np.random.default_rng(seed)
    needed = rng.integers(1, 180, 40)
    candidates = np.unique(-(-needed // 16) * 16)

    def padding(sizes):
        sizes = np.array(sizes)
        return (sizes[np.searchsorted(sizes, needed)] - needed).sum()

    best = min(
        padding((*chosen, candidates[-1]))
        for chosen in itertools.combinations(candidates[:-1], 3)
    )
    sizes = bucket_sizes(needed, 16, most=4)
    assert len(sizes) == 4
    assert padding(sizes) == best


def test_sequences_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="do not fit"):
        pack(
            np.arange(10),
            np.array([0]),
            np.array([5]),
            size=4,
            pad_session=1,
            max_session_length=8,
            position="from_start",
        )
