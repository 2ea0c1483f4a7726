"""The compiled programs of a train step, one for each shape of dispatch."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax

from tron_jax import jax_settings
from tron_jax.data.batches import Dispatch
from tron_jax.memory import temporaries
from tron_jax.objectives.objective import LossTotals
from tron_jax.sampling.sources import NO_CONSTANTS, Constants
from tron_jax.steps import RepeatedStep, TrainState, TrainStep
from tron_jax.training import row_major

# Of XLA; it also keeps it from timing kernels to choose among them.
DETERMINISTIC: dict[str, str | bool] = {"xla_gpu_deterministic_ops": True}


@dataclasses.dataclass(frozen=True)
class StepPrograms:
    """A train step, compiled.

    Attributes:
      by_shape: the program for each shape of dispatch.
      constants: of the sources of negatives, which every step takes.
      formats: how the arrays of a state lie, see ``row_major.formats``.
    """

    by_shape: dict[tuple[int, ...], jax.stages.Compiled]
    constants: Constants
    formats: Any | None = None

    def __call__(
        self, state: TrainState, dispatch: Dispatch
    ) -> tuple[TrainState, LossTotals]:
        """Makes the step or steps of a dispatch; the state is donated."""
        # A fresh or restored one lies as XLA likes.
        state = row_major.laid_out(state, self.formats)
        return self.by_shape[dispatch.shape](state, dispatch, self.constants)

    def temporaries(self) -> int:
        """Returns the most bytes that a step holds in addition to state and batch."""
        return temporaries(self.by_shape.values())


def compile_steps(
    train_step: TrainStep | RepeatedStep,
    state: TrainState,
    dispatches: Sequence[Dispatch],
    constants: Constants = NO_CONSTANTS,
    *,
    deterministic: bool = False,
) -> StepPrograms:
    """Compiles the step for each shape of dispatch that a run will meet.

    Args:
      train_step: the pure step, or many of them in one dispatch.
      state: its state, or the shapes of it; the compiled programs donate it.
      dispatches: one of each shape, or the shapes.
      constants: of the sources of negatives.
      deterministic: whether a GPU makes the same bits of the same state and dispatch
        each time, even after the programs were compiled anew, on the same kind of GPU
        and with the same packages. XLA then leaves out kernels that add in no fixed
        order, as those of a scatter do, and takes a matmul's kernel by rule instead of
        by timing a few. Nothing changes on a CPU, which does so anyway, or a TPU. It
        covers the steps alone, not an evaluation: that reads a state and changes
        nothing, but its matmuls may differ in the last bit when compiled anew, and two
        items of all but equal scores may then swap ranks.

    Returns:
      The programs; a dispatch of another shape raises KeyError.
    """
    formats = row_major.formats(state)
    if formats is None:
        jitted = jax.jit(train_step, donate_argnums=0)
    else:
        state = row_major.shapes(state)
        jitted = jax.jit(train_step, donate_argnums=0, out_shardings=(formats, None))
    options = (
        DETERMINISTIC if deterministic and jax.default_backend() == "gpu" else None
    )

    def compiled(dispatch: Dispatch) -> Any:
        with jax_settings.stated():  # which a thread does not inherit
            return jitted.lower(state, dispatch, constants).compile(options)

    with ThreadPoolExecutor(compiled_together()) as pool:
        shapes = [dispatch.shape for dispatch in dispatches]
        by_shape = dict(zip(shapes, pool.map(compiled, dispatches), strict=True))
    return StepPrograms(by_shape, constants, formats)


def compiled_together() -> int:
    """How many programs are compiled side by side; each takes some memory."""
    return min(8, max(2, (os.cpu_count() or 1) // 2))
