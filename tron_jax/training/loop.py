"""The training loop: dispatches steps, logs, evaluates, saves, and stops when asked."""

from __future__ import annotations

import contextlib
import dataclasses
import signal
from collections.abc import Callable, Generator, Iterator
from typing import Any

import jax

from tron_jax.console import signals
from tron_jax.console.progress import Progress, of_training
from tron_jax.data.batches import Batches
from tron_jax.errors import UserError
from tron_jax.memory import size
from tron_jax.objectives.objective import LossTotals
from tron_jax.sharding.placement import OneDevice, Placement
from tron_jax.steps import TrainState
from tron_jax.storage.checkpoints import Checkpoints
from tron_jax.training.log_windows import Record, Recorder, TrainingPlan
from tron_jax.training.patience import Patience

# (state, step) -> lines of the log about the state, and its score: the checkpoint with
# the highest is the best
Evaluate = Callable[[TrainState, int], tuple[list[Record], float | None]]

# (state, dispatch) -> state and totals
CompiledStep = Callable[[TrainState, Any], tuple[TrainState, LossTotals]]


@contextlib.contextmanager
def asked_to_stop() -> Generator[Callable[[], int | None]]:
    """Yields a function that returns the first signal that asked to stop, or None.

    The loop asks it after each dispatch; a second SIGINT interrupts at once. Of a
    notebook SIGINT alone is handled, which is its button to stop: the others end the
    kernel, and that is not ours.
    """
    received: list[int] = []

    def handle(number: int, frame: object) -> None:
        received.append(number)
        if received.count(signal.SIGINT) > 1:
            raise KeyboardInterrupt

    asked = [signal.SIGINT] if signals.in_notebook() else signals.STOPPING
    with signals.handled(asked, handle):
        yield lambda: received[0] if received else None


@dataclasses.dataclass(frozen=True)
class Loop:
    """Trains from a step on; all it calls is pure, except log, checkpoints, patience.

    A dispatch makes one step or many, and ends at the latest where a checkpoint is due.
    The order is fixed: what needs the state of a step (its evaluation, its checkpoint)
    comes before the next dispatch, which may overwrite that state.

    Attributes:
      plan: when to log, evaluate and save.
      train_step: compiled for the shapes of ``batches``; donates the state.
      batches: of the training sessions.
      evaluate: called where the plan says so.
      checkpoints: where to save.
      info: what each checkpoint holds besides the recorder's part.
      recorder: of the log.
      progress: bar over the sessions of all epochs.
      patience: ends the run before its last step; that of the default never does.
      placement: where states lie.
    """

    plan: TrainingPlan
    train_step: CompiledStep
    batches: Batches
    evaluate: Evaluate
    checkpoints: Checkpoints
    info: Record
    recorder: Recorder
    progress: Progress
    patience: Patience = dataclasses.field(default_factory=Patience)
    placement: Placement = dataclasses.field(default_factory=OneDevice)

    def run(
        self, state: TrainState, start: int, stop: Callable[[], object]
    ) -> tuple[TrainState, int]:
        """Trains to the end of plan or patience, or until asked to stop, and saves.

        Args:
          state: at step ``start``; its buffers are donated.
          start: updates already made.
          stop: says after each dispatch whether to stop, by something true, and the
            same to all processes of the run.

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
                if self.patience.ended:
                    break
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
        if start >= self.plan.last or self.patience.ended:
            return
        step = start
        dispatch, steps = self._dispatch_at(start)
        self.recorder.restart(start)
        while step < self.plan.last:
            with jax.transfer_guard("disallow"):
                state, totals = self.train_step(state, dispatch)
            step += steps
            # While the device is busy, log what the previous dispatch completed.
            self.recorder.write_due()
            self.recorder.add(step, totals)
            if step < self.plan.last:
                dispatch, steps = self._dispatch_at(step)
            epoch = step / self.plan.steps_per_epoch
            self.progress.update(
                self.batches.sessions_before(step),
                **of_training(epoch, self.recorder.loss),
            )
            self.checkpoints.check()
            yield state, step

    def _dispatch_at(self, step: int) -> tuple[Any, int]:
        """Sends what a dispatch needs to the device; returns it and its steps."""
        until = self.plan.next_save(step)
        dispatch, steps = self.batches.dispatch_at(step, until)
        return self.placement.send(dispatch), steps

    def _complete(self, state: TrainState, step: int) -> None:
        """Logs, evaluates (where that is due) and saves a step."""
        self.recorder.write_due()
        self.recorder.write_line(step)
        self._refuse_not_finite(state, step)
        score = None
        if self.plan.evaluates(step):
            self.progress.clear()
            lines, score = self.evaluate(state, step)
            for line in lines:
                self.recorder.write(step, line)
        if self.plan.schedules(step):  # that of another last step counts for nothing
            self.patience.add(score)
        last = step == self.plan.last or self.patience.ended
        self._save(state, step, score, wait=last)
        self.recorder.restart(step)

    def _pause(self, state: TrainState, step: int) -> None:
        """Saves between two lines of the log, with the sums of the unfinished one."""
        self.recorder.write_due()
        self.recorder.settle(step)
        self._refuse_not_finite(state, step)
        self._save(state, step, None, wait=True)

    def _save(
        self, state: TrainState, step: int, score: float | None, *, wait: bool
    ) -> None:
        self.recorder.sync()
        content = self.info | self.recorder.info() | self.patience.info()
        like = self.placement.saved(self.placement.shapes(state))
        spent = self.checkpoints.save(
            step, state, content, score=score, wait=wait, like=like
        )
        self.recorder.add_saving(spent, size(state))

    def _refuse_not_finite(self, state: TrainState, step: int) -> None:
        """Raises if the state is not; the loss was that before the last update."""
        if not self.placement.all_finite(state):
            raise UserError(
                f"the state of step {step} is not finite, so it is not saved"
            )


def _last_good(checkpoints: Checkpoints) -> str:
    """Says which checkpoint to go back to."""
    with contextlib.suppress(UserError):
        checkpoints.wait()
    step = checkpoints.latest_step()
    if step is None:
        return "no checkpoint was saved yet"
    return f"the last good checkpoint is that of step {step}"
