"""What a training run logs, and when: each line sums up a window of steps."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from tron_jax.errors import UserError
from tron_jax.memory import peak_memory
from tron_jax.objectives.objective import LossTotals
from tron_jax.reporting.metrics_writer import MetricsWriter

Record = dict[str, Any]
IN_FLIGHT = 2  # dispatches that may wait for the device; more would only hold memory


class TrainingPlan(NamedTuple):
    """When things happen, in steps; step k is the state after k updates.

    Attributes:
      steps_per_epoch: batches an epoch.
      epochs: length of the run.
      log_every: steps between two lines of the log, besides those at checkpoints.
      save_every: steps between two checkpoints, besides those at an epoch's end and
        at evaluations.
      evaluate_every: epochs between two evaluations: a whole number, or a part of an
        epoch. Parts count from the epoch's beginning, in whole steps, at least 1; one
        less than half a part before the epoch's end is left to that end.
    """

    steps_per_epoch: int
    epochs: int
    log_every: int
    save_every: int
    evaluate_every: float = 1.0

    @property
    def last(self) -> int:
        """The step at which the run is complete."""
        return self.steps_per_epoch * self.epochs

    @property
    def _part(self) -> float:
        """Steps between two evaluations of the same epoch."""
        return max(1.0, self.evaluate_every * self.steps_per_epoch)

    def _ends_part(self, number: int) -> int | None:
        """The step within an epoch at which a part of it ends; None = no such part."""
        whole = math.floor(self.steps_per_epoch / self._part + 0.5)
        return round(number * self._part) if 0 < number < whole else None

    def ends_epoch(self, step: int) -> bool:
        """Whether an epoch ends."""
        return step % self.steps_per_epoch == 0

    def schedules(self, step: int) -> bool:
        """Whether an evaluation is due, however many epochs the run is to have."""
        epoch, within = divmod(step, self.steps_per_epoch)
        if within == 0:
            return epoch % max(1, int(self.evaluate_every)) == 0
        return self._ends_part(round(within / self._part)) == within

    def evaluates(self, step: int) -> bool:
        """Whether the state is evaluated: on schedule, and when the run is complete."""
        return step == self.last or self.schedules(step)

    def saves(self, step: int) -> bool:
        """Whether a checkpoint is due."""
        periodic = self.ends_epoch(step) or step % self.save_every == 0
        return periodic or self.schedules(step)

    def logs(self, step: int) -> bool:
        """Whether a line of the log ends here."""
        return self.saves(step) or step % self.log_every == 0

    def saves_after(self, step: int, most: int) -> int:
        """How many checkpoints are due after a step, counted up to ``most``."""
        due = 0
        while due < most and step < self.last:
            step, due = self.next_save(step), due + 1
        return due

    def next_save(self, step: int) -> int:
        """The first step after one at which a checkpoint is due."""
        periods = (self.save_every, self.steps_per_epoch)
        due = [(step // period + 1) * period for period in periods]
        within = step % self.steps_per_epoch
        # The part that the step lies in may end with it, and then the next one counts.
        first = int(within / self._part)
        ends = map(self._ends_part, (first, first + 1, first + 2))
        due += [step - within + end for end in ends if end is not None]
        return min(after for after in due if after > step)


@dataclasses.dataclass
class Window:
    """The steps since the last line of the log, summed on the host in their order."""

    loss: float = 0.0
    events: float = 0.0
    sessions: int = 0
    steps: int = 0
    seconds: float = 0.0


class Totals(NamedTuple):
    """Of a step, on the host; ``seconds`` is its share of the time since the last."""

    step: int
    loss: float
    events: float
    seconds: float


class Recorder:
    """Adds up the totals of steps and writes them as lines of the log.

    Totals stay on the device until a line is written, one dispatch late, so that the
    host never waits for the dispatch that it has just made. They are added up here step
    by step, in order: a resumed run divides its steps into other dispatches, and that
    must not change the rounding of the sums. A window may end within a dispatch.
    """

    def __init__(
        self,
        writer: MetricsWriter,
        plan: TrainingPlan,
        sessions_before: Callable[[int], int],
        info: Record,
    ):
        """Continues from a checkpoint.

        Args:
          writer: of the log.
          plan: when a line is due.
          sessions_before: sessions that the steps before one have begun.
          info: of the checkpoint; {} at the start of a run.
        """
        self._writer = writer
        self._plan = plan
        self._sessions_before = sessions_before
        self._window = Window(**info.get("window", {}))
        self._elapsed = time.monotonic() - info.get("elapsed", 0.0)
        self._pending: list[tuple[range, LossTotals]] = []
        self._fetched: list[Totals] = []
        self._due: list[int] = []  # steps at which windows have ended
        self._save_seconds, self._save_bytes = 0.0, 0
        self.loss: float | None = None  # of the last line
        self.restart(0)

    def restart(self, step: int) -> None:
        """Restarts the window's clock, so that what came before is not counted.

        Args:
          step: updates made by now.
        """
        self._clock = time.monotonic()
        self._added = self._settled = step  # last steps that ``add``, ``settle`` took

    def add(self, step: int, totals: LossTotals) -> None:
        """Adds the totals of a dispatch; waits if too many are not computed yet.

        Args:
          step: updates made after it.
          totals: scalars of its one step, or arrays that begin with those of its steps.
        """
        steps = range(self._added + 1, step + 1)
        self._pending.append((steps, totals))
        self._added = step
        # The line of a checkpoint is not due but written with it.
        plan = self._plan
        self._due += [s for s in steps if plan.logs(s) and not plan.saves(s)]
        if len(self._pending) > IN_FLIGHT:
            jax.block_until_ready(self._pending[-1 - IN_FLIGHT][1])

    def add_saving(self, seconds: float, num_bytes: int) -> None:
        """Adds the time spent on a save and its size, for the next line of the log."""
        self._save_seconds += seconds
        self._save_bytes += num_bytes

    def settle(self, upto: int) -> None:
        """Adds the totals of all steps up to one to the window.

        Raises:
          UserError: where a loss is not finite, naming the step.
        """
        self._fetch(upto)
        due = [totals for totals in self._fetched if totals.step <= upto]
        self._fetched = self._fetched[len(due) :]
        for step, loss, events, seconds in due:
            if not math.isfinite(loss):
                raise UserError(f"the loss of step {step} is not finite ({loss})")
            self._window.loss += loss
            self._window.events += events
            self._window.seconds += seconds
        self._window.steps += len(due)
        begun = self._sessions_before(upto) - self._sessions_before(self._settled)
        self._window.sessions += begun
        self._settled = upto

    def _fetch(self, upto: int) -> None:
        """Brings the totals of the dispatches that hold the steps up to one."""
        begun = [entry for entry in self._pending if entry[0][0] <= upto]
        self._pending = self._pending[len(begun) :]
        if not begun:
            return
        fetched = jax.device_get([totals for _, totals in begun])
        now = time.monotonic()
        share = (now - self._clock) / sum(len(steps) for steps, _ in begun)
        self._clock = now
        for (steps, _), totals in zip(begun, fetched, strict=True):
            losses, events = (np.atleast_1d(x).tolist() for x in totals)
            self._fetched += [
                Totals(*numbers, share)
                for numbers in zip(steps, losses, events, strict=False)
            ]

    def write_line(self, step: int) -> None:
        """Ends the window at a step and writes its line."""
        self.settle(step)
        window, self._window = self._window, Window()
        seconds = max(window.seconds, 1e-9)
        epochs = window.steps / self._plan.steps_per_epoch
        self.loss = window.loss / max(window.events, 1)
        peak = peak_memory()
        self.write(
            step,
            {
                "loss": self.loss,
                "sessions_per_s": window.sessions / seconds,
                "events_per_s": window.events / seconds,
                "epochs_per_hour": 3600 * epochs / seconds,
                "save_s": self._save_seconds,
                "save_gb": self._save_bytes / 1e9,
                "peak_memory_gb": (peak.device or peak.host) / 1e9,
            },
        )
        self._save_seconds, self._save_bytes = 0.0, 0

    def write_due(self) -> None:
        """Writes the lines of the windows that have ended."""
        due, self._due = self._due, []
        for step in due:
            self.write_line(step)

    def write(self, step: int, record: Record) -> None:
        """Writes a line about the state of a step."""
        epoch = step / self._plan.steps_per_epoch
        about = {"step": step, "epoch": round(epoch, 6), "time": self.elapsed()}
        self._writer.write(about | record)

    def sync(self) -> None:
        """Puts the log on disk."""
        self._writer.sync()

    def elapsed(self) -> float:
        """Returns seconds since the run was first started, without pauses."""
        return time.monotonic() - self._elapsed

    def info(self) -> Record:
        """Returns what a checkpoint must hold so that the log can continue from it."""
        return {
            "window": dataclasses.asdict(self._window),
            "elapsed": self.elapsed(),
        }
