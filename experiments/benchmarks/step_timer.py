"""Times the train steps of a workload, one dispatch at a time."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import jax

from experiments.assembly import run_parts
from experiments.benchmarks.timing import timed
from experiments.benchmarks.workload import Workload, dispatch_at, spread
from tron_jax.steps import TrainState
from tron_jax.training.step_programs import StepPrograms, compile_steps


class TimedDispatch(NamedTuple):
    """A dispatch that was timed.

    Attributes:
      seconds: of all of it, data loading included.
      steps: how many it made.
      shape: of its batch.
    """

    seconds: float
    steps: int
    shape: tuple[int, ...]


class StepTimer:
    """Makes the dispatch at any step on demand; the state goes from one to the next."""

    def __init__(
        self,
        parts: run_parts.RunParts,
        programs: StepPrograms,
        state: TrainState,
        starts: Iterable[int],
    ):
        """Makes a dispatch of each shape, so that timed ones allocate no new memory.

        Args:
          parts: of the run.
          programs: compiled for the shapes at ``starts``.
          state: to begin with; donated.
          starts: first steps of the dispatches that will be timed.
        """
        self.parts, self.programs, self.state = parts, programs, state
        for batch in _one_of_each_shape(parts, starts):
            self.state, _ = programs(self.state, jax.device_put(batch))
        jax.block_until_ready(self.state)

    def time(self, start: int) -> TimedDispatch:
        """Makes and times the dispatch that begins at a step."""

        def dispatch() -> tuple[Any, Any, int]:
            batch, steps = dispatch_at(self.parts, start)
            state, _ = self.programs(self.state, jax.device_put(batch))
            return state, batch, steps

        seconds, (self.state, batch, steps) = timed(dispatch)
        return TimedDispatch(seconds, steps, batch.shape)


def make_step_timer(workload: Workload, num: int) -> tuple[StepTimer, list[int]]:
    """Compiles a workload's step.

    Args:
      workload: what to measure.
      num: dispatches to measure.

    Returns:
      The timer, and the first steps of ``num`` dispatches, spread over an epoch.
    """
    starts = spread(workload.parts, num)
    programs = compile_step(workload.parts, starts)
    state = jax.jit(workload.parts.init)()
    return StepTimer(workload.parts, programs, state, starts), starts


def compile_step(parts: run_parts.RunParts, starts: Iterable[int]) -> StepPrograms:
    """Compiles the train step for the shapes of the dispatches at some steps."""
    return compile_steps(
        parts.train_step,
        jax.eval_shape(parts.init),
        _one_of_each_shape(parts, starts),
        jax.device_put(parts.constants),
    )


def _one_of_each_shape(parts: run_parts.RunParts, starts: Iterable[int]) -> list[Any]:
    batches = [dispatch_at(parts, step)[0] for step in starts]
    return list({batch.shape: batch for batch in batches}.values())
