"""What a benchmark measures: the parts of a config's run, and its compiled step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from experiments import checks, runs
from tron_jax.data.sessions import Sessions
from tron_jax.sampling.popularity import Popularity
from tron_jax.steps import TrainState


class Run(NamedTuple):
    """A run that is not trained.

    Attributes:
      config: checked and resolved.
      parts: what it is built of.
      splits: its data.
      num_items: the largest item id.
    """

    config: ConfigDict
    parts: runs.Parts
    splits: dict[str, Sessions]
    num_items: int


class Step(NamedTuple):
    """The compiled train step of each shape of batch; donates the state.

    Attributes:
      parts: of the run.
      compiled: by the shape of a batch.
      more: what it takes besides state and batch, on the device.
    """

    parts: runs.Parts
    compiled: dict[tuple[int, ...], jax.stages.Compiled]
    more: tuple[Popularity, ...]

    def __call__(self, state: TrainState, batch: Any) -> tuple[TrainState, Any]:
        return self.compiled[shape_of(batch)](state, batch, *self.more)


def open_run(config: ConfigDict) -> Run:
    """Opens the data that a config names and builds its parts."""
    checks.check(config)
    data = runs.open_data(config)
    runs.use_compilation_cache()
    splits = runs.splits(config, data)
    return build(config, data.num_items, splits)


def build(config: ConfigDict, num_items: int, splits: dict[str, Sessions]) -> Run:
    """The same for data that are open."""
    config = runs.resolve(config, num_items)
    parts = runs.build(config, num_items, splits["train"])
    return Run(config, parts, splits, num_items)


def shape_of(batch: Any) -> tuple[int, ...]:
    return np.shape(jax.tree.leaves(batch)[0])


def take(parts: runs.Parts, step: int) -> tuple[Any, int]:
    """What a dispatch trains on from a step on, and how many steps it makes."""
    return parts.batches.take(step, parts.batches.steps_per_epoch)


def spread(parts: runs.Parts, num: int) -> list[int]:
    """Steps to measure at, spread over an epoch."""
    most = parts.batches.steps_per_epoch
    full = max(0, most - take(parts, 0)[1])  # where a dispatch is not cut short
    return [int(step) for step in np.linspace(0, full, num)]


def compile_step(parts: runs.Parts, steps: Iterable[int]) -> Step:
    """Compiles the train step for the shapes that some steps have."""
    state = jax.eval_shape(parts.init)
    jitted = jax.jit(parts.train_step, donate_argnums=0)
    popularity = jax.device_put(parts.popularity)
    more = () if popularity is None else (popularity,)
    compiled: dict[tuple[int, ...], jax.stages.Compiled] = {}
    for step in steps:
        batch, _ = take(parts, step)
        shape = shape_of(batch)
        if shape not in compiled:
            compiled[shape] = jitted.lower(state, batch, *more).compile()
    return Step(parts, compiled, more)


def commonest_shape(parts: runs.Parts, num: int) -> list[int]:
    """The first ``num`` steps of the shape that most of an epoch's first 64 have."""
    most = min(64, parts.batches.steps_per_epoch)
    shapes = {step: shape_of(take(parts, step)[0]) for step in range(most)}
    [(commonest, _)] = Counter(shapes.values()).most_common(1)
    return [step for step, shape in shapes.items() if shape == commonest][:num]


def warm(step: Step, state: TrainState, steps: Iterable[int]) -> TrainState:
    """Makes a step of each shape, so that what is measured finds memory in place."""
    seen = set()
    for at in steps:
        batch, _ = take(step.parts, at)
        if shape_of(batch) not in seen:
            seen.add(shape_of(batch))
            state, _ = step(state, jax.device_put(batch))
    return jax.block_until_ready(state)


def num_candidates(run: Run) -> int:
    """Negatives of an event before selection."""
    negatives = run.config.negatives
    if run.config.loss.name == "full_softmax":
        return run.num_items
    drawn = negatives.num_uniform + negatives.num_popularity
    return drawn + negatives.num_in_batch
