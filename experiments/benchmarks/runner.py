"""What a benchmark measures: the parts of a config's run, and its compiled step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from experiments import checks
from experiments.assembly import run_parts
from experiments.assembly.settings import FULL_SOFTMAX, negative_sampling
from experiments.benchmarks.timing import timed
from tron_jax.data.sessions import Sessions
from tron_jax.steps import TrainState
from tron_jax.training.loop import StepPrograms, compile_steps, shape_of


class Run(NamedTuple):
    """A run that is not trained.

    Attributes:
      config: checked and resolved.
      parts: what it is built of.
      splits: its data.
      num_items: the largest item id.
    """

    config: ConfigDict
    parts: run_parts.RunParts
    splits: dict[str, Sessions]
    num_items: int


def open_run(config: ConfigDict) -> Run:
    """Opens the data that a config names and builds its parts."""
    checks.check(config)
    data = run_parts.open_data(config)
    run_parts.use_compilation_cache()
    splits = run_parts.splits(config, data)
    return build(config, data.num_items, splits)


def build(config: ConfigDict, num_items: int, splits: dict[str, Sessions]) -> Run:
    """The same for data that are open."""
    config = run_parts.resolve(config, num_items)
    parts = run_parts.build(config, num_items, splits["train"])
    return Run(config, parts, splits, num_items)


def take(parts: run_parts.RunParts, step: int) -> tuple[Any, int]:
    """What a dispatch trains on from a step on, and how many steps it makes."""
    return parts.batches.take(step, parts.batches.steps_per_epoch)


def spread(parts: run_parts.RunParts, num: int) -> list[int]:
    """Steps to measure at, spread over an epoch."""
    most = parts.batches.steps_per_epoch
    full = max(0, most - take(parts, 0)[1])  # where a dispatch is not cut short
    return [int(step) for step in np.linspace(0, full, num)]


def commonest_shape(parts: run_parts.RunParts, num: int) -> list[int]:
    """The first ``num`` steps of the shape that most of an epoch's first 64 have."""
    most = min(64, parts.batches.steps_per_epoch)
    shapes = {step: shape_of(take(parts, step)[0]) for step in range(most)}
    [(commonest, _)] = Counter(shapes.values()).most_common(1)
    return [step for step, shape in shapes.items() if shape == commonest][:num]


def compile_step(parts: run_parts.RunParts, steps: Iterable[int]) -> StepPrograms:
    """Compiles the train step for the shapes that some steps have."""
    return compile_steps(
        parts.train_step,
        jax.eval_shape(parts.init),
        _one_of_each_shape(parts, steps),
        jax.device_put(parts.constants),
    )


def _one_of_each_shape(parts: run_parts.RunParts, steps: Iterable[int]) -> list[Any]:
    batches = [take(parts, step)[0] for step in steps]
    return list({shape_of(batch): batch for batch in batches}.values())


class Dispatch(NamedTuple):
    """A dispatch that was timed.

    Attributes:
      seconds: of all of it, data loading included.
      made: steps that it made.
      shape: of its batch.
    """

    seconds: float
    made: int
    shape: tuple[int, ...]


class Runner:
    """Makes the steps of a run wherever it is told to, one state after another."""

    def __init__(
        self,
        parts: run_parts.RunParts,
        step: StepPrograms,
        state: TrainState,
        at: Iterable[int],
    ):
        """Makes a step of each shape, so that what is measured finds memory in place.

        Args:
          parts: of the run.
          step: compiled for the shapes at ``at``.
          state: to begin with; donated.
          at: the steps that will be timed.
        """
        self.parts, self.step, self.state = parts, step, state
        for batch in _one_of_each_shape(parts, at):
            self.state, _ = step(self.state, jax.device_put(batch))
        jax.block_until_ready(self.state)

    def time(self, start: int) -> Dispatch:
        """Makes the dispatch of a step."""

        def one() -> tuple[Any, Any, int]:
            batch, made = take(self.parts, start)
            state, _ = self.step(self.state, jax.device_put(batch))
            return state, batch, made

        seconds, (self.state, batch, made) = timed(one)
        return Dispatch(seconds, made, shape_of(batch))


def make_runner(run: Run, num: int) -> tuple[Runner, list[int]]:
    """What makes a run's steps, ready, and ``num`` of them, spread over an epoch."""
    at = spread(run.parts, num)
    step = compile_step(run.parts, at)
    return Runner(run.parts, step, jax.jit(run.parts.init)(), at), at


def num_candidates(run: Run) -> int:
    """Negatives of an event before selection."""
    if run.config.loss.name == FULL_SOFTMAX:
        return run.num_items
    return negative_sampling(run.config).num_candidates
