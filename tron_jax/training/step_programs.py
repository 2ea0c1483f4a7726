"""The compiled programs of a train step, one for each shape of dispatch."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax

from tron_jax.data.batches import Dispatch
from tron_jax.memory import temporaries
from tron_jax.objectives.objective import LossTotals
from tron_jax.sampling.sources import NO_CONSTANTS, Constants
from tron_jax.steps import RepeatedStep, TrainState, TrainStep


@dataclasses.dataclass(frozen=True)
class StepPrograms:
    """A train step, compiled.

    Attributes:
      by_shape: the program for each shape of dispatch.
      constants: of the sources of negatives, which every step takes.
    """

    by_shape: dict[tuple[int, ...], jax.stages.Compiled]
    constants: Constants

    def __call__(
        self, state: TrainState, dispatch: Dispatch
    ) -> tuple[TrainState, LossTotals]:
        """Makes the step or steps of a dispatch; the state is donated."""
        return self.by_shape[dispatch.shape](state, dispatch, self.constants)

    def temporaries(self) -> int:
        """Returns the most bytes that a step holds in addition to state and batch."""
        return temporaries(self.by_shape.values())


def compile_steps(
    train_step: TrainStep | RepeatedStep,
    state: TrainState,
    dispatches: Sequence[Dispatch],
    constants: Constants = NO_CONSTANTS,
) -> StepPrograms:
    """Compiles the step for each shape of dispatch that a run will meet.

    Args:
      train_step: the pure step, or many of them in one dispatch.
      state: its state, or the shapes of it; the compiled programs donate it.
      dispatches: one of each shape, or the shapes.
      constants: of the sources of negatives.

    Returns:
      The programs; a dispatch of another shape raises KeyError.
    """
    jitted = jax.jit(train_step, donate_argnums=0)

    def compiled(dispatch: Dispatch) -> Any:
        return jitted.lower(state, dispatch, constants).compile()

    with ThreadPoolExecutor(max_workers=2) as pool:
        shapes = [dispatch.shape for dispatch in dispatches]
        by_shape = dict(zip(shapes, pool.map(compiled, dispatches), strict=True))
    return StepPrograms(by_shape, constants)
