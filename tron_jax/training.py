"""The training loop: dispatches steps, keeps the log, evaluates, saves, resumes."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax

from tron_jax.checkpoints import Checkpoints
from tron_jax.data.packing import Batch
from tron_jax.errors import UserError
from tron_jax.records import MetricsWriter, Progress
from tron_jax.steps import Totals, TrainState, TrainStep

Record = dict[str, Any]
# (state, step) -> lines about the state, and the score that "best" goes by
Evaluate = Callable[[TrainState, int], tuple[list[Record], float | None]]
IN_FLIGHT = 2  # steps that may wait for the device; more would only hold memory


class Plan(NamedTuple):
    """When things happen, in steps; step k is the state after k updates.

    Attributes:
      steps_per_epoch: batches an epoch.
      epochs: length of the run.
      log_every: steps between two lines of the log, besides those at checkpoints.
      save_every: steps between two checkpoints, besides those at an epoch's end.
    """

    steps_per_epoch: int
    epochs: int
    log_every: int
    save_every: int

    @property
    def last(self) -> int:
        """The step at which the run is complete."""
        return self.steps_per_epoch * self.epochs

    def ends_epoch(self, step: int) -> bool:
        """Whether the state is evaluated."""
        return step % self.steps_per_epoch == 0

    def saves(self, step: int) -> bool:
        """Whether a checkpoint is due."""
        return self.ends_epoch(step) or step % self.save_every == 0

    def logs(self, step: int) -> bool:
        """Whether a line of the log ends here."""
        return self.saves(step) or step % self.log_every == 0


@dataclasses.dataclass
class Window:
    """The steps since the last line of the log, summed on the host in their order."""

    loss: float = 0.0
    events: float = 0.0
    sessions: int = 0
    steps: int = 0
    seconds: float = 0.0


class Recorder:
    """Gathers the totals of steps and turns them into lines of the log.

    Totals stay on the device until a line is written, which happens one step late, so
    that the host never waits for a step that it has just dispatched.
    """

    def __init__(self, writer: MetricsWriter, plan: Plan, info: Record):
        """Goes on where the ``info`` of a checkpoint left off; {} at the start."""
        self._writer = writer
        self._plan = plan
        self._window = Window(**info.get("window", {}))
        self._elapsed = time.monotonic() - info.get("elapsed", 0.0)
        self._pending: list[tuple[int, Totals, int]] = []
        self._saving = 0.0
        self.loss = math.nan
        self.restart()

    def restart(self) -> None:
        """Starts the clock of the window anew: what came before is not training."""
        self._clock = time.monotonic()

    def add(self, step: int, totals: Totals, sessions: int) -> None:
        """Takes the totals of a step that has been dispatched, and bounds how many."""
        self._pending.append((step, totals, sessions))
        if len(self._pending) > IN_FLIGHT:
            jax.block_until_ready(self._pending[-1 - IN_FLIGHT][1])

    def add_saving(self, seconds: float) -> None:
        """Notes time spent saving; the next line tells it."""
        self._saving += seconds

    def settle(self, upto: int) -> None:
        """Fetches the totals of the steps up to one and sums them.

        Raises:
          UserError: where a loss is not finite, naming the step.
        """
        due = [entry for entry in self._pending if entry[0] <= upto]
        self._pending = self._pending[len(due) :]
        fetched = jax.device_get([totals for _, totals, _ in due])
        for (step, _, sessions), totals in zip(due, fetched, strict=True):
            loss, events = float(totals.loss), float(totals.events)
            if not math.isfinite(loss):
                raise UserError(f"the loss of step {step} is not finite ({loss})")
            self._window.loss += loss
            self._window.events += events
            self._window.sessions += sessions
            self._window.steps += 1
        now = time.monotonic()
        self._window.seconds += now - self._clock
        self._clock = now

    def write_line(self, step: int) -> None:
        """Ends the window at a step and writes its line."""
        self.settle(step)
        window, self._window = self._window, Window()
        seconds = max(window.seconds, 1e-9)
        epochs = window.steps / self._plan.steps_per_epoch
        self.loss = window.loss / max(window.events, 1)
        self.write(
            step,
            {
                "loss": self.loss,
                "sessions_per_s": window.sessions / seconds,
                "events_per_s": window.events / seconds,
                "epochs_per_hour": 3600 * epochs / seconds,
                "save_s": self._saving,
            },
        )
        self._saving = 0.0

    def write(self, step: int, record: Record) -> None:
        """Writes a line about the state of a step."""
        epoch = step / self._plan.steps_per_epoch
        about = {"step": step, "epoch": round(epoch, 6), "time": self.elapsed()}
        self._writer.write(about | record)

    def elapsed(self) -> float:
        """Seconds since the run was first started, pauses left out."""
        return time.monotonic() - self._elapsed

    def info(self) -> Record:
        """What a checkpoint must hold for the log to go on from it."""
        return {
            "window": dataclasses.asdict(self._window),
            "elapsed": self.elapsed(),
        }


def compile_steps(
    train_step: TrainStep, state: TrainState, batches: list[Batch]
) -> TrainStep:
    """Compiles the step for every shape of batch that a run will meet.

    Args:
      train_step: the pure step.
      state: its state, or the shapes of it; the compiled steps donate it.
      batches: one of each shape, or the shapes.

    Returns:
      The step; one of another shape is a fault.
    """
    jitted = jax.jit(train_step, donate_argnums=0)

    def compiled(batch: Batch) -> Any:
        return jitted.lower(state, batch).compile()

    with ThreadPoolExecutor(max_workers=2) as pool:
        sizes = [batch.items.size for batch in batches]
        by_size = dict(zip(sizes, pool.map(compiled, batches), strict=True))

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Totals]:
        return by_size[batch.items.size](state, batch)

    return step


@contextlib.contextmanager
def asked_to_stop() -> Iterator[Callable[[], bool]]:
    """Turns SIGTERM and SIGINT into an answer that the loop asks for after each step.

    A second SIGINT interrupts at once.
    """
    received: list[int] = []

    def handle(number: int, frame: object) -> None:
        received.append(number)
        if received.count(signal.SIGINT) > 1:
            raise KeyboardInterrupt

    before = {s: signal.signal(s, handle) for s in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def train(
    state: TrainState,
    start: int,
    *,
    plan: Plan,
    train_step: TrainStep,
    batch_at: Callable[[int], Batch],
    num_sessions_at: Callable[[int], int],
    evaluate: Evaluate,
    checkpoints: Checkpoints,
    info: Record,
    recorder: Recorder,
    progress: Progress,
    stop: Callable[[], bool],
) -> tuple[TrainState, int]:
    """Trains from a step to the end of the plan.

    The order is fixed: what belongs to the state of a step (its line in the log, its
    evaluation, its checkpoint) comes before the next step may overwrite that state.

    Args:
      state: at step ``start``; its buffers are donated.
      start: updates already made.
      plan: when to log, evaluate and save.
      train_step: compiled.
      batch_at: the batch of a step, on the host.
      num_sessions_at: how many sessions that batch holds.
      evaluate: called at the end of each epoch.
      checkpoints: where to save.
      info: what every checkpoint holds besides the recorder's part.
      recorder: of the log.
      progress: bar over the sessions of an epoch.
      stop: asked after each step; true saves and returns.

    Returns:
      The state and its step, the plan's last one unless stopped.

    Raises:
      UserError: if the loss is not finite, or a checkpoint cannot be written.
    """

    def save(step: int, score: float | None, wait: bool) -> None:
        content = info | recorder.info()
        spent = checkpoints.save(step, state, content, score=score, wait=wait)
        recorder.add_saving(spent)

    try:
        due = None  # a line whose window has ended, written once the device is busy
        batch = jax.device_put(batch_at(start)) if start < plan.last else None
        recorder.restart()
        for step in range(start + 1, plan.last + 1):
            with jax.transfer_guard("disallow"):
                state, totals = train_step(state, batch)
            if due is not None:
                recorder.write_line(due)
                due = None
            recorder.add(step, totals, num_sessions_at(step - 1))
            if step < plan.last:
                batch = jax.device_put(batch_at(step))
            within = (step - 1) % plan.steps_per_epoch + 1
            progress.update(
                within, epoch=step / plan.steps_per_epoch, loss=recorder.loss
            )
            checkpoints.check()
            if plan.saves(step):
                recorder.write_line(step)
                score = None
                if plan.ends_epoch(step):
                    progress.clear()
                    lines, score = evaluate(state, step)
                    for line in lines:
                        recorder.write(step, line)
                save(step, score, wait=step == plan.last)
                recorder.restart()
            elif plan.logs(step):
                due = step
            if stop():
                recorder.settle(step) if due is None else recorder.write_line(due)
                save(step, None, wait=True)
                return state, step
    except UserError as error:
        raise UserError(f"{error}; {_last_good(checkpoints)}") from error
    return state, max(start, plan.last)


def _last_good(checkpoints: Checkpoints) -> str:
    """Names the checkpoint to go back to."""
    with contextlib.suppress(UserError):
        checkpoints.wait()
    step = checkpoints.latest_step()
    if step is None:
        return "no checkpoint was saved yet"
    return f"the last good checkpoint is that of step {step}"
