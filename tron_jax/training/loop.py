"""The training loop: dispatches steps, keeps the log, evaluates, saves, resumes."""

from __future__ import annotations

import contextlib
import dataclasses
import signal
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax

from tron_jax.console.progress import Progress, of_training
from tron_jax.data.batches import Batches
from tron_jax.data.packing import Batch
from tron_jax.data.slots import StackedBatches
from tron_jax.errors import UserError
from tron_jax.memory import size, temporaries
from tron_jax.objectives.objective import LossTotals
from tron_jax.sampling.popularity import Popularity
from tron_jax.steps import RepeatedStep, TrainState, TrainStep
from tron_jax.storage.array_files import all_finite
from tron_jax.storage.checkpoints import Checkpoints
from tron_jax.training.log_windows import Record, Recorder, TrainingPlan

# (state, step) -> lines about the state, and the score that "best" goes by
Evaluate = Callable[[TrainState, int], tuple[list[Record], float | None]]

# (state, batch or chunk of them) -> state and totals
CompiledStep = Callable[[TrainState, Any], tuple[TrainState, LossTotals]]


@dataclasses.dataclass(frozen=True)
class StepPrograms:
    """A compiled step.

    Attributes:
      by_shape: of batch.
      more: what the step takes besides state and batch.
    """

    by_shape: dict[tuple[int, ...], jax.stages.Compiled]
    more: tuple[Popularity, ...]

    def __call__(
        self, state: TrainState, batch: Batch | StackedBatches
    ) -> tuple[TrainState, LossTotals]:
        """Makes the step; the state is donated."""
        return self.by_shape[shape_of(batch)](state, batch, *self.more)

    def temporaries(self) -> int:
        """Returns the most bytes that a step holds beside state and batch."""
        return temporaries(self.by_shape.values())


def compile_steps(
    train_step: TrainStep | RepeatedStep,
    state: TrainState,
    batches: Sequence[Batch | StackedBatches],
    popularity: Popularity | None = None,
) -> StepPrograms:
    """Compiles the step for every shape of batch, or chunk, that a run will meet.

    Args:
      train_step: the pure step, or many in one dispatch.
      state: its state, or the shapes of it; the compiled steps donate it.
      batches: one of each shape, or the shapes.
      popularity: of the items, where the step asks for it.

    Returns:
      The step; one of another shape is a fault.
    """
    jitted = jax.jit(train_step, donate_argnums=0)
    more = () if popularity is None else (popularity,)

    def compiled(batch: Batch | StackedBatches) -> Any:
        return jitted.lower(state, batch, *more).compile()

    with ThreadPoolExecutor(max_workers=2) as pool:
        shapes = map(shape_of, batches)
        by_shape = dict(zip(shapes, pool.map(compiled, batches), strict=True))
    return StepPrograms(by_shape, more)


def shape_of(batch: Batch | StackedBatches) -> tuple[int, ...]:
    """What tells the programs of a step apart: the shape of a batch's arrays."""
    return jax.tree.leaves(batch)[0].shape


@contextlib.contextmanager
def asked_to_stop() -> Generator[Callable[[], bool]]:
    """Turns SIGTERM and SIGINT into an answer that the loop asks for after a dispatch.

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


@dataclasses.dataclass(frozen=True)
class Loop:
    """Trains from a step on; what it calls is pure but for the log and checkpoints.

    A dispatch makes one step or many, and ends where anything is due. The order is
    fixed: what belongs to the state of a step (its line in the log, its evaluation, its
    checkpoint) comes before the next dispatch may overwrite that state.

    Attributes:
      plan: when to log, evaluate and save.
      train_step: compiled for the shapes of ``batches``; donates the state.
      batches: of the training sessions.
      evaluate: called at the end of each epoch.
      checkpoints: where to save.
      info: what every checkpoint holds besides the recorder's part.
      recorder: of the log.
      progress: bar over the sessions of all epochs.
    """

    plan: TrainingPlan
    train_step: CompiledStep
    batches: Batches
    evaluate: Evaluate
    checkpoints: Checkpoints
    info: Record
    recorder: Recorder
    progress: Progress

    def run(
        self, state: TrainState, start: int, stop: Callable[[], bool]
    ) -> tuple[TrainState, int]:
        """Trains to the end of the plan, or until asked to stop, and saves.

        Args:
          state: at step ``start``; its buffers are donated.
          start: updates already made.
          stop: asked after each dispatch.

        Returns:
          The state and its step.

        Raises:
          UserError: if the loss is not finite, or a checkpoint cannot be written.
        """
        now, step = state, start
        try:
            for now, step in self._updates(state, start):
                if self.plan.saves(step):
                    self._complete(now, step)
                elif self.plan.logs(step):
                    self.recorder.due = step
                if stop():
                    self._pause(now, step)
                    break
        except UserError as error:
            raise UserError(f"{error}; {_last_good(self.checkpoints)}") from error
        return now, step

    def _updates(
        self, state: TrainState, start: int
    ) -> Iterator[tuple[TrainState, int]]:
        """Yields the state after each dispatch, valid until the next, and its step."""
        if start >= self.plan.last:
            return
        step, before = start, self.batches.sessions_before(start)
        batch, steps = self._take(start)
        self.recorder.restart(start)
        while step < self.plan.last:
            with jax.transfer_guard("disallow"):
                state, totals = self.train_step(state, batch)
            step += steps
            # The device is busy now: time to write what the dispatch before has ended.
            self.recorder.write_due()
            done = self.batches.sessions_before(step)
            self.recorder.add(step, totals, done - before)
            before = done
            if step < self.plan.last:
                batch, steps = self._take(step)
            epoch = step / self.plan.steps_per_epoch
            self.progress.update(done, **of_training(epoch, self.recorder.loss))
            self.checkpoints.check()
            yield state, step

    def _take(self, step: int) -> tuple[Any, int]:
        """What to dispatch at a step, on its way to the device, and its steps."""
        batch, steps = self.batches.take(step, self.plan.next_due(step))
        return jax.device_put(batch), steps

    def _complete(self, state: TrainState, step: int) -> None:
        """Log, evaluation and checkpoint of a step at which one is due."""
        self.recorder.write_line(step)
        _refuse_not_finite(state, step)
        score = None
        if self.plan.ends_epoch(step):
            self.progress.clear()
            lines, score = self.evaluate(state, step)
            for line in lines:
                self.recorder.write(step, line)
        self._save(state, step, score, wait=step == self.plan.last)
        self.recorder.restart(step)

    def _pause(self, state: TrainState, step: int) -> None:
        """Saves between two lines of the log, with what the open window holds."""
        self.recorder.write_due()
        self.recorder.settle(step)
        _refuse_not_finite(state, step)
        self._save(state, step, None, wait=True)

    def _save(
        self, state: TrainState, step: int, score: float | None, *, wait: bool
    ) -> None:
        self.recorder.sync()
        content = self.info | self.recorder.info()
        spent = self.checkpoints.save(step, state, content, score=score, wait=wait)
        self.recorder.add_saving(spent, size(state))


_all_finite = jax.jit(all_finite)


def _refuse_not_finite(state: TrainState, step: int) -> None:
    """Checks the state itself: its loss was that of the state before the update."""
    if not _all_finite(state):
        raise UserError(f"the state of step {step} is not finite, so it is not saved")


def _last_good(checkpoints: Checkpoints) -> str:
    """Names the checkpoint to go back to."""
    with contextlib.suppress(UserError):
        checkpoints.wait()
    step = checkpoints.latest_step()
    if step is None:
        return "no checkpoint was saved yet"
    return f"the last good checkpoint is that of step {step}"
