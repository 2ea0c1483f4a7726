"""The loop where a dispatch makes many steps."""

import dataclasses
import itertools
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pytest
import tiny
from conftest import signal_at

from tron_jax.console.progress import Progress
from tron_jax.data.sessions import Sessions
from tron_jax.data.slots import SlotBatches
from tron_jax.errors import UserError
from tron_jax.objectives.objective import LossTotals
from tron_jax.reporting import metrics_writer
from tron_jax.steps import TrainState, repeat
from tron_jax.storage.checkpoints import Checkpoints
from tron_jax.training.log_windows import Recorder, TrainingPlan
from tron_jax.training.loop import Loop, asked_to_stop
from tron_jax.training.step_programs import compile_steps

EPOCHS, LOG_EVERY, SAVE_EVERY = 2, 10, 17


def make_batches(steps_per_call):
    lengths = np.random.default_rng(0).integers(2, 12, 40)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    items = (1 + np.arange(offsets[-1]) % 99).astype(np.int32)
    sessions = Sessions(items, offsets, pa.nulls(40), pa.nulls(40))
    return SlotBatches(sessions, 8, 6, steps_per_call)


def train_step(state, batch, bad):
    """Weights that mix up all they have seen; a loss that no two steps share.

    Sums of such losses depend on the order of adding in their last bits. What a step is
    given besides is the one whose loss is not finite.
    """
    step = state.step + 1
    seen = jnp.sum(batch.weight * jnp.sin(batch.items + 0.1 * step))
    params = 0.9 * state.params + seen
    carry = jnp.where(batch.position == 0, 0.0, state.carry) + batch.items
    loss = jnp.abs(params) + 1e-3 * jnp.sum(carry)
    loss = jnp.where(step == bad, jnp.nan, loss)
    totals = LossTotals(loss, jnp.sum(batch.weight))
    return TrainState(step, params, (), (), carry), totals


def first_state():
    return TrainState(jnp.int32(0), jnp.float32(0), (), (), jnp.zeros(8))


PROGRAMS = {}


def program(batches, bad):
    """Compiled once for each length of chunk."""
    steps = batches.steps_per_call
    if steps not in PROGRAMS:
        state = jax.eval_shape(first_state)
        PROGRAMS[steps] = compile_steps(
            repeat(train_step), state, batches.shapes, jnp.int32(0)
        )
    return dataclasses.replace(PROGRAMS[steps], constants=jnp.int32(bad))


def train(workdir, steps_per_call, stop=lambda: False, bad=0, **plan):
    """Starts or resumes a run; returns its state and step."""
    batches = make_batches(steps_per_call)
    settings = {"log_every": LOG_EVERY, "save_every": SAVE_EVERY} | plan
    plan = TrainingPlan(batches.steps_per_epoch, EPOCHS, **settings)
    with (
        Checkpoints(workdir / "checkpoints") as checkpoints,
        metrics_writer.MetricsWriter(workdir / "metrics.jsonl") as writer,
    ):
        restored = checkpoints.restore_newest(jax.eval_shape(first_state))
        start, state, info = restored or (0, first_state(), {})
        recorder = Recorder(writer, plan, batches.sessions_before, info)
        progress = Progress("training", 80, unit="sessions")
        loop = Loop(
            plan,
            program(batches, bad),
            batches,
            lambda state, step: ([{"evaluated": float(state.params)}], None),
            checkpoints,
            {},
            recorder,
            progress,
        )
        return loop.run(state, start, stop)


def stops_after(dispatches):
    answers = itertools.chain([False] * (dispatches - 1), itertools.repeat(True))
    return lambda: next(answers)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("unbroken")
    state, _ = train(workdir, 100)
    return jax.device_get(state), tiny.lines(workdir)


def test_lines_are_written_where_they_are_due(unbroken):
    state, lines = unbroken
    epoch = make_batches(1).steps_per_epoch
    assert (state.step, epoch) == (2 * epoch, 24)  # what the steps below rest on
    logged = [line["step"] for line in lines if "loss" in line]
    assert logged == [10, 17, 20, 24, 30, 34, 40, 48]
    assert [line["step"] for line in lines if "evaluated" in line] == [24, 48]


@pytest.mark.parametrize("steps_per_call", [1, 4, 7])
def test_the_length_of_a_dispatch_does_not_show(tmp_path, unbroken, steps_per_call):
    state, _ = train(tmp_path, steps_per_call)
    tiny.assert_same_bits(jax.device_get(state), unbroken[0])
    assert tiny.lines(tmp_path) == unbroken[1]


@pytest.mark.parametrize("stops", [(1,), (2, 5, 1), (9, 1, 1), (1,) * 20])
def test_stopped_within_a_chunk_and_resumed(tmp_path, unbroken, stops):
    """Stopped where dispatches of 4 steps end, resumed by such of 7 and of 100."""
    step = 0
    for dispatches in stops:
        _, step = train(tmp_path, 4 if step % 2 == 0 else 7, stops_after(dispatches))
    state, step = train(tmp_path, 100)
    assert step == 48
    tiny.assert_same_bits(jax.device_get(state), unbroken[0])
    assert tiny.lines(tmp_path) == unbroken[1]


def test_a_stop_saves_the_step_that_was_reached(tmp_path, monkeypatch):
    signal_at(monkeypatch, signal.SIGTERM, 12)
    with asked_to_stop() as stop:
        _, step = train(tmp_path, 4, stop)
    assert step == 12
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    assert checkpoints.steps() == [12]
    window = checkpoints.read_info(12)["window"]
    assert (window["steps"], window["events"]) == (2, 16)
    assert [line["step"] for line in tiny.lines(tmp_path)] == [10]


@pytest.mark.parametrize("bad", [1, 6, 13, 24])
def test_a_loss_that_is_not_finite_names_its_step(tmp_path, bad):
    with pytest.raises(UserError, match=rf"loss of step {bad} is not finite \(nan\)"):
        train(tmp_path, 100, bad=bad)
    assert all(line["step"] < bad for line in tiny.lines(tmp_path))


def test_the_next_checkpoint_that_is_due():
    plan = TrainingPlan(steps_per_epoch=10, epochs=2, log_every=4, save_every=7)
    due = [plan.next_save(step) for step in range(20)]
    rest = [range(step + 1, 21) for step in range(20)]
    assert due == [min(s for s in steps if plan.saves(s)) for steps in rest]


def test_sessions_and_events_of_a_line(tmp_path):
    """A line's rates are over the same seconds, so their ratio is of its steps."""
    train(tmp_path, 6, log_every=1000, save_every=1000)
    lines = [
        line
        for line in metrics_writer.read(tmp_path / "metrics.jsonl")
        if "loss" in line
    ]
    events = make_batches(1).counts.sum()
    for line in lines:
        assert line["events_per_s"] / line["sessions_per_s"] == pytest.approx(
            events / 40
        )
        assert line["sessions_per_s"] == pytest.approx(
            40 * line["epochs_per_hour"] / 3600
        )
    assert len(lines) == 2
