"""The compiled programs of a train step, one for each shape of batch."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax

from tron_jax.data.packing import Batch
from tron_jax.data.slots import StackedBatches
from tron_jax.memory import temporaries
from tron_jax.objectives.objective import LossTotals
from tron_jax.sampling.sources import NO_CONSTANTS, Constants
from tron_jax.steps import RepeatedStep, TrainState, TrainStep

# Of XLA; it also keeps it from timing kernels to choose among them.
DETERMINISTIC: dict[str, str | bool] = {"xla_gpu_deterministic_ops": True}


@dataclasses.dataclass(frozen=True)
class StepPrograms:
    """A train step, compiled.

    Attributes:
      by_shape: the program for each shape of batch.
      constants: of the sources of negatives, which every step takes.
    """

    by_shape: dict[tuple[int, ...], jax.stages.Compiled]
    constants: Constants

    def __call__(
        self, state: TrainState, batch: Batch | StackedBatches
    ) -> tuple[TrainState, LossTotals]:
        """Makes the step or steps of a batch; the state is donated."""
        return self.by_shape[shape_of(batch)](state, batch, self.constants)

    def temporaries(self) -> int:
        """Returns the most bytes that a step holds in addition to state and batch."""
        return temporaries(self.by_shape.values())


def compile_steps(
    train_step: TrainStep | RepeatedStep,
    state: TrainState,
    batches: Sequence[Batch | StackedBatches],
    constants: Constants = NO_CONSTANTS,
    *,
    deterministic: bool = False,
) -> StepPrograms:
    """Compiles the step for each shape of batch that a run will meet.

    Args:
      train_step: the pure step, or many of them in one dispatch.
      state: its state, or the shapes of it; the compiled programs donate it.
      batches: one batch of each shape, or the shapes.
      constants: of the sources of negatives.
      deterministic: whether a GPU makes the same bits of the same state and batch each
        time, even after the programs were compiled anew, on the same kind of GPU and
        with the same packages. XLA then leaves out kernels that add in no fixed order,
        as those of a scatter do, and takes a matmul's kernel by rule instead of by
        timing a few. Nothing changes on a CPU, which does so anyway, or a TPU. It
        covers the steps alone, not an evaluation: that reads a state and changes
        nothing, but its matmuls may differ in the last bit when compiled anew, and two
        items of all but equal scores may then swap ranks.

    Returns:
      The programs; a batch of another shape raises KeyError.
    """
    jitted = jax.jit(train_step, donate_argnums=0)
    options = (
        DETERMINISTIC if deterministic and jax.default_backend() == "gpu" else None
    )

    def compiled(batch: Batch | StackedBatches) -> Any:
        return jitted.lower(state, batch, constants).compile(options)

    with ThreadPoolExecutor(max_workers=2) as pool:
        shapes = map(shape_of, batches)
        by_shape = dict(zip(shapes, pool.map(compiled, batches), strict=True))
    return StepPrograms(by_shape, constants)


def shape_of(batch: Batch | StackedBatches) -> tuple[int, ...]:
    """Returns the shape of a batch's arrays, for which a program is compiled."""
    return jax.tree.leaves(batch)[0].shape
