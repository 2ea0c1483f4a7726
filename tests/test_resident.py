"""Groups of packed batches, and those that the device makes itself."""

import jax
import numpy as np
import pytest
import tiny
from test_packing import LIMIT, make_batches, make_sessions

from tron_jax.data.packing import PackedBatches, abstract_batch
from tron_jax.data.resident import Layout, ResidentBatches, make_batch
from tron_jax.data.sessions import select

ORDERS = ("chronological", "shuffled")
GROUP, EPOCH = 3, 7  # steps; the last group of an epoch has one


def grouped(order="chronological", *, count=50, longest=15, **changes) -> PackedBatches:
    sessions, _ = make_sessions(count=count, longest=longest)
    return make_batches(sessions, order=order, steps_per_group=GROUP, **changes)


def on_host(dispatch, steps):
    """The batches of a dispatch, made by a compiled program."""
    make = jax.jit(lambda dispatch, i: dispatch.batch(i))
    return [jax.device_get(make(dispatch, i)) for i in range(steps)]


@pytest.mark.portable
@pytest.mark.parametrize("position", ["from_start", "from_end"])
@pytest.mark.parametrize(
    "order", ["chronological", pytest.param("shuffled", marks=pytest.mark.device)]
)
def test_the_device_makes_the_batches_of_the_host(order, position):
    batches = grouped(order, position=position)
    resident = ResidentBatches(batches)
    assert resident.steps_per_epoch == EPOCH
    assert resident.sessions_before(12) == batches.sessions_before(12)
    step, seen = 0, set()
    while step < 2 * EPOCH:
        dispatch, steps = resident.dispatch_at(step, 2 * EPOCH)
        for i, batch in enumerate(on_host(dispatch, steps)):
            tiny.assert_same_bits(batch, batches.at(step + i))
            seen.add(step + i)
        step += steps
    assert seen == set(range(2 * EPOCH))


def test_a_batch_beyond_the_epoch_is_empty():
    resident = ResidentBatches(grouped())
    dispatch, steps = resident.dispatch_at(EPOCH - 1, 2 * EPOCH)
    assert steps == 1
    _, empty, _ = on_host(dispatch, 3)
    assert not any(np.any(x) for x in (empty.items, empty.labels, empty.weight))
    assert (empty.session == 8).all()


def test_of_some_sessions_only_their_clicks_are_sent():
    sessions, _ = make_sessions()
    part = make_batches(select(sessions, 8, 40), steps_per_group=GROUP)
    dispatch, steps = ResidentBatches(part).dispatch_at(0, 3)
    assert len(dispatch.clicks.items) == sessions.offsets[40] - sessions.offsets[8]
    for i, batch in enumerate(on_host(dispatch, steps)):
        tiny.assert_same_bits(batch, part.at(i))


@pytest.mark.parametrize("order", ORDERS)
def test_dispatches_are_of_the_shapes_that_are_compiled(order):
    packed = grouped(order)
    for batches in (packed, ResidentBatches(packed)):
        shapes = {dispatch.shape: dispatch for dispatch in batches.shapes}
        assert sorted(shapes) == [(GROUP, size) for size in packed.sizes]
        for step in range(2 * EPOCH):
            dispatch, _ = batches.dispatch_at(step, 2 * EPOCH)
            like = shapes[dispatch.shape]
            assert jax.tree.structure(dispatch) == jax.tree.structure(like)
            for a, b in zip(*map(jax.tree.leaves, (dispatch, like)), strict=True):
                assert (a.shape, a.dtype) == (b.shape, b.dtype)


def test_clicks_are_sent_once_and_an_order_once_an_epoch():
    resident = ResidentBatches(grouped("shuffled"))
    first, second, other = (
        resident.dispatch_at(step, 2 * EPOCH)[0] for step in (0, 3, EPOCH)
    )
    assert first.clicks is second.clicks is other.clicks
    assert first.order is second.order
    assert (np.sort(other.order) == np.arange(50)).all()
    assert (other.order != first.order).any()
    number = 2 * np.dtype(np.int32).itemsize
    held = sum(x.nbytes for x in jax.tree.leaves(first)) - number
    assert sum(x.size * 4 for x in jax.tree.leaves(resident.held)) == held


@pytest.mark.parametrize("order", ORDERS)
def test_a_length_follows_from_the_group_alone(order):
    """Wherever a dispatch begins, and however soon it must end."""
    batches = grouped(order, count=700, longest=60, max_session_length=40)
    alone = make_batches(batches.sessions, order=order, max_session_length=40)
    epoch, met = batches.steps_per_epoch, set()
    assert batches.sizes[-1] == alone.sizes[-1]
    for step in range(2 * epoch):
        group = batches.group(step)
        assert step in group
        assert len(group) <= GROUP
        assert group.start % epoch % GROUP == 0
        assert group.start // epoch == (group.stop - 1) // epoch
        counts = [batches.inputs(batches.rows(s))[1].sum() for s in group]
        fits = [size for size in batches.sizes if size >= max(counts)]
        assert batches.size(step) == fits[0]
        met.add(fits[0])
        for until in (step + 1, step + 2, step + 100):
            dispatch, steps = batches.dispatch_at(step, until)
            assert steps == min(until, group.stop) - step
            assert dispatch.shape == (GROUP, fits[0])
            assert dispatch.steps == steps
    assert len(met) > 1


def test_stacked_batches_are_those_of_the_steps():
    batches = grouped()
    dispatch, steps = batches.dispatch_at(4, 6)
    assert steps == 2
    for i in range(2):
        tiny.assert_same_bits(dispatch.batch(i), batches.at(4 + i))
    assert not any(np.any(column[2]) for column in dispatch.batches)


def test_groups_of_one_are_batches():
    batches = make_batches(make_sessions()[0])
    batch, steps = batches.dispatch_at(3, 10)
    assert (steps, batch.shape) == (1, (batches.size(3),))


@pytest.mark.portable
def test_makes_batches_without_a_loop_on_accelerators():
    """A binary search there would be a loop of small kernels."""
    resident = ResidentBatches(grouped("shuffled"))
    layout = Layout(GROUP, 48, 8, LIMIT, "from_end")
    program = jax.jit(make_batch, static_argnums=3)
    traced = program.trace(*resident.held, np.int32(0), layout)
    text = traced.lower(lowering_platforms=("cuda", "tpu")).as_text()
    assert "stablehlo.while" not in text
    batch = jax.eval_shape(lambda *x: make_batch(*x, layout), *resident.held, 0)
    for a, b in zip(batch, abstract_batch(48), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
