"""The loop by itself, around a step that is made up."""

import contextlib
import dataclasses
import json
import os
import signal
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pytest

from tron_jax.console.progress import Progress
from tron_jax.data.packing import Batch, PackedBatches
from tron_jax.data.sessions import Sessions
from tron_jax.errors import UserError
from tron_jax.objectives.objective import LossTotals
from tron_jax.reporting import metrics_writer
from tron_jax.storage.checkpoints import Checkpoints
from tron_jax.training.log_windows import Recorder, TrainingPlan
from tron_jax.training.loop import Loop, asked_to_stop
from tron_jax.training.step_programs import compile_steps


class Batches:
    """Twelve sessions a step; what a dispatch is given is the step's number."""

    def dispatch_at(self, step, until):
        return np.int32(step), 1

    def sessions_before(self, step):
        return 12 * step


@jax.jit
def bump(state):
    return {"step": state["step"] + 1}


def made_up_step(losses=lambda step: 1.5 + step):
    """Counts; its totals are 3 events and 3 times the loss of the step."""

    def train_step(state, batch):
        step = int(batch) + 1
        loss = 3 * losses(step)
        return bump(state), LossTotals(np.float32(loss), np.float32(3))

    return train_step


@pytest.fixture
def make_loop(tmp_path):
    """Builds loops that write into the test's folder."""
    with contextlib.ExitStack() as stack:

        def make(plan, train_step, evaluate=None, checkpoints=None, info=None):
            writer = metrics_writer.MetricsWriter(tmp_path / "metrics.jsonl")
            return Loop(
                plan,
                train_step,
                Batches(),
                evaluate or (lambda state, step: ([], None)),
                checkpoints or Checkpoints(tmp_path / "checkpoints"),
                {"fingerprint": "abc"},
                Recorder(
                    stack.enter_context(writer),
                    plan,
                    Batches().sessions_before,
                    info or {},
                ),
                Progress("training", plan.last, unit="steps"),
            )

        yield make


def never():
    return False


def state(step=0):
    return {"step": jnp.int32(step)}


def test_plan():
    plan = TrainingPlan(steps_per_epoch=10, epochs=2, log_every=4, save_every=6)
    assert plan.last == 20
    steps = range(1, 21)
    assert [step for step in steps if plan.ends_epoch(step)] == [10, 20]
    assert [step for step in steps if plan.saves(step)] == [6, 10, 12, 18, 20]
    logs = [step for step in steps if plan.logs(step)]
    assert logs == [4, 6, 8, 10, 12, 16, 18, 20]
    rare = TrainingPlan(steps_per_epoch=10, epochs=2, log_every=1000, save_every=1000)
    assert [step for step in steps if rare.logs(step)] == [10, 20]


def test_log(tmp_path, make_loop):
    """A line ends at multiples of log_every and at checkpoints, and sums its window."""
    plan = TrainingPlan(steps_per_epoch=10, epochs=2, log_every=4, save_every=6)

    def evaluate(state, step):
        assert state["step"] == step
        return [{"split": "test", "recall@20": step / 100}], step / 100

    make_loop(plan, made_up_step(), evaluate).run(state(), 0, never)
    lines = metrics_writer.read(tmp_path / "metrics.jsonl")
    steps = [line["step"] for line in lines]
    assert steps == [4, 6, 8, 10, 10, 12, 16, 18, 20, 20]
    training_lines = [line for line in lines if "loss" in line]
    before = 0
    for line in training_lines:
        assert list(line) == [
            *("step", "epoch", "time", "loss"),
            *("sessions_per_s", "events_per_s", "epochs_per_hour"),
            *("save_s", "save_gb", "peak_memory_gb"),
        ]
        window = 1.5 + np.arange(before + 1, line["step"] + 1)
        assert line["loss"] == pytest.approx(window.mean(), rel=1e-6)
        assert line["sessions_per_s"] == pytest.approx(4 * line["events_per_s"])
        assert line["epochs_per_hour"] == pytest.approx(
            line["sessions_per_s"] / 120 * 3600
        )
        assert line["epoch"] == line["step"] / 10
        before = line["step"]
    times = [line["time"] for line in lines]
    assert times == sorted(times)
    evaluations = [line for line in lines if "split" in line]
    assert [line["recall@20"] for line in evaluations] == [0.1, 0.2]
    # Time spent saving stands in the line after; nothing was saved before the first.
    assert [line["save_s"] > 0 for line in training_lines] == [
        *(False, False, True, False, True, True, False, True)
    ]
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    assert checkpoints.best_step() == 20
    info = checkpoints.read_info(20)
    assert info["fingerprint"] == "abc"
    assert info["window"]["steps"] == 0


class Watched:
    """A total on a device that notices when the host asks for it."""

    def __init__(self, step, device):
        self.step, self.device = step, device

    def __array__(self, dtype=None, copy=None):
        self.device.fetched(self.step)
        return np.float32(1)

    def __float__(self):
        self.device.fetched(self.step)
        return 1.0

    def block_until_ready(self):
        self.device.waited(self.step)
        return self


class Device:
    """Raises where the host waits for the step that it dispatched last."""

    def __init__(self, plan):
        self.plan = plan
        self.newest = 0
        self.fetches = set()
        self.waits = set()

    def train_step(self, state, batch):
        self.newest = int(batch) + 1
        return state, LossTotals(Watched(self.newest, self), Watched(self.newest, self))

    def fetched(self, step):
        if not self.plan.saves(self.newest):
            assert step < self.newest, f"step {step} was fetched while it ran"
            assert self.plan.logs(self.newest - 1), f"fetched at step {self.newest}"
        self.fetches.add(self.newest)

    def waited(self, step):
        assert step <= self.newest - 2, f"waited for {step} at {self.newest}"
        self.waits.add(step)


def test_the_host_never_waits_for_the_step_that_runs(tmp_path, make_loop):
    plan = TrainingPlan(steps_per_epoch=20, epochs=2, log_every=4, save_every=14)
    device = Device(plan)
    make_loop(plan, device.train_step).run(state(), 0, never)
    # Lines are written one step late, those at checkpoints (14, 20, 28, 40) at once.
    assert device.fetches == {5, 9, 13, 14, 17, 20, 25, 28, 33, 37, 40}
    # But it does wait for older ones, or batches would pile up before the device.
    assert {1, 2, 5, 21} <= device.waits
    lines = metrics_writer.read(tmp_path / "metrics.jsonl")
    assert [line["step"] for line in lines] == [
        4,
        8,
        12,
        14,
        16,
        20,
        24,
        28,
        32,
        36,
        40,
    ]


@pytest.mark.parametrize(
    ("bad", "last_good"),
    [(1, None), (10, 6), (12, 6), (13, 12), (18, 12)],
)
def test_a_loss_that_is_not_finite_stops_the_run(tmp_path, bad, last_good, make_loop):
    plan = TrainingPlan(steps_per_epoch=6, epochs=3, log_every=4, save_every=100)
    train_step = made_up_step(lambda step: np.nan if step == bad else 1.0)
    loop = make_loop(plan, train_step)
    with pytest.raises(UserError) as caught:
        loop.run(state(), 0, never)
    expected = "no checkpoint was saved yet"
    if last_good:
        expected = f"the last good checkpoint is that of step {last_good}"
    assert (
        str(caught.value) == f"the loss of step {bad} is not finite (nan); {expected}"
    )
    assert Checkpoints(tmp_path / "checkpoints").latest_step() == last_good
    written = [line["step"] for line in metrics_writer.read(tmp_path / "metrics.jsonl")]
    assert all(step < bad for step in written)


def test_what_is_not_finite_is_not_saved_when_asked_to_stop(tmp_path, make_loop):
    plan = TrainingPlan(steps_per_epoch=100, epochs=1, log_every=100, save_every=100)
    loop = make_loop(plan, made_up_step(lambda step: np.inf))
    with pytest.raises(UserError, match=r"step 1 is not finite \(inf\)"):
        loop.run(state(), 0, lambda: True)
    assert Checkpoints(tmp_path / "checkpoints").steps() == []


def test_a_state_that_is_not_finite_is_not_saved_though_its_loss_was(
    tmp_path, make_loop
):
    poison = jax.jit(lambda table: table * np.nan)

    def train_step(state, batch):
        table = state["table"] if int(batch) < 11 else poison(state["table"])
        return bump(state) | {"table": table}, LossTotals(np.float32(3), np.float32(3))

    plan = TrainingPlan(steps_per_epoch=6, epochs=3, log_every=4, save_every=100)
    start = state() | {"table": jnp.ones(3)}
    with pytest.raises(UserError, match=r"state of step 12 .* checkpoint is .* step 6"):
        make_loop(plan, train_step).run(start, 0, never)
    assert Checkpoints(tmp_path / "checkpoints").steps() == [6]


def test_stops_after_the_step_and_keeps_the_window(tmp_path, make_loop):
    plan = TrainingPlan(steps_per_epoch=10, epochs=1, log_every=4, save_every=6)
    answers = iter([False] * 6 + [True])
    loop = make_loop(plan, made_up_step())
    _, step = loop.run(state(), 0, lambda: next(answers))
    assert step == 7
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    assert checkpoints.steps() == [6, 7]
    window = checkpoints.read_info(7)["window"]
    assert window["steps"] == 1
    assert window["loss"] == 3 * 8.5
    lines = metrics_writer.read(tmp_path / "metrics.jsonl")
    assert [line["step"] for line in lines] == [4, 6]

    info = checkpoints.read_info(7)
    loop = make_loop(plan, made_up_step(), info=info)
    loop.run(state(7), 7, never)
    *_, eighth, tenth = metrics_writer.read(tmp_path / "metrics.jsonl")
    assert (eighth["step"], eighth["loss"]) == (8, pytest.approx((8.5 + 9.5) / 2))
    assert tenth["step"] == 10
    # Time goes on from where it stood, and the pause is not in it.
    assert eighth["time"] >= info["elapsed"]
    assert eighth["time"] < info["elapsed"] + 60


def test_a_save_that_fails_in_the_background_stops_the_run(tmp_path, make_loop):
    """Not at the next save, which may be an hour away."""
    failed_at = []

    def check():
        if failed_at:
            raise UserError("cannot write checkpoint 4: No space left on device")

    def save(step, state, info, *, score, wait, like):
        failed_at.append(step)
        return 0.0

    checkpoints = SimpleNamespace(
        save=save, check=check, wait=check, latest_step=lambda: None
    )
    plan = TrainingPlan(steps_per_epoch=100, epochs=1, log_every=100, save_every=4)
    seen = []
    step = made_up_step()

    def train_step(state, batch):
        seen.append(int(batch) + 1)
        return step(state, batch)

    loop = make_loop(plan, train_step, checkpoints=checkpoints)
    with pytest.raises(UserError, match="No space left on device; no checkpoint"):
        loop.run(state(), 0, never)
    assert seen == [1, 2, 3, 4, 5]


def test_nothing_is_left_to_do(tmp_path, make_loop):
    plan = TrainingPlan(steps_per_epoch=4, epochs=1, log_every=2, save_every=2)
    _, step = make_loop(plan, made_up_step()).run(state(4), 4, never)
    assert step == 4
    assert not (tmp_path / "checkpoints").exists()


def test_asked_to_stop():
    before = {s: signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)}
    with asked_to_stop() as stop:
        assert not stop()
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop()
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert {s: signal.getsignal(s) for s in before} == before


def shaped_batches():
    """Sessions of which the batches need several lengths of stream."""
    lengths = np.random.default_rng(0).integers(2, 40, 200)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    items = np.ones(offsets[-1], np.int32)
    sessions = Sessions(items, offsets, pa.nulls(200), pa.nulls(200))
    return PackedBatches(sessions, 8, 16, "from_start", "shuffled", 0)


def test_one_trace_per_length_of_stream(tmp_path, make_loop):
    batches = shaped_batches()
    assert len(batches.sizes) > 3
    traced = []

    def train_step(state, batch, constants):
        traced.append(batch.items.size)
        total = jnp.sum(batch.weight)
        return {"step": state["step"] + 1}, LossTotals(total, total)

    compiled = compile_steps(train_step, jax.eval_shape(state), batches.shapes)
    assert sorted(traced) == batches.sizes
    plan = TrainingPlan(batches.steps_per_epoch, 3, 10, 1000)
    loop = make_loop(plan, compiled)
    loop = dataclasses.replace(loop, batches=batches)
    met = {batches.at(step).items.size for step in range(plan.last)}
    assert len(met) > 3
    final, _ = loop.run(state(), 0, never)
    assert final["step"] == plan.last
    assert sorted(traced) == batches.sizes
    # The state is donated, never copied.
    start = jax.device_put(state())
    compiled(start, jax.device_put(batches.at(0)))
    assert start["step"].is_deleted()
    with pytest.raises(KeyError):
        compiled(state(), jax.device_put(Batch(*(x[:7] for x in batches.at(0)))))


def test_uploads_within_a_step_are_caught(tmp_path, make_loop):
    plan = TrainingPlan(steps_per_epoch=4, epochs=1, log_every=2, save_every=2)
    jitted = jax.jit(lambda x, y: x + y)

    def train_step(state, batch):
        jitted(batch, np.ones(3))
        raise AssertionError("not reached")

    with pytest.raises(Exception, match="Disallowed host-to-device transfer"):
        make_loop(plan, train_step).run(state(), 0, never)


def test_metrics_are_readable_while_the_run_goes_on(tmp_path, make_loop):
    plan = TrainingPlan(steps_per_epoch=4, epochs=1, log_every=2, save_every=100)
    seen = []

    def train_step(state, batch):
        text = (tmp_path / "metrics.jsonl").read_text()
        seen.append([json.loads(line)["step"] for line in text.splitlines()])
        return made_up_step()(state, batch)

    make_loop(plan, train_step).run(state(), 0, never)
    assert seen == [[], [], [], [2]]
