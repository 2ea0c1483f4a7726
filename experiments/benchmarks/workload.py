"""What a benchmark measures: a config's run on its data, not trained."""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from experiments import checks
from experiments.assembly import run_parts
from experiments.assembly.settings import FULL_SOFTMAX, negative_sampling
from experiments.assembly.ways import Ways
from tron_jax import devices
from tron_jax.data.sessions import Sessions


class Workload(NamedTuple):
    """A run that is measured.

    Attributes:
      config: checked and resolved.
      parts: what the run is built of.
      splits: its data.
      num_items: the largest item id.
      fingerprint: of the data set; "" where it was not opened here.
    """

    config: ConfigDict
    parts: run_parts.RunParts
    splits: dict[str, Sessions]
    num_items: int
    fingerprint: str = ""


def open_workload(config: ConfigDict) -> Workload:
    """Opens the data that a config names and builds the parts of its run."""
    checks.check(config)
    data = run_parts.open_data(config)
    devices.check()
    run_parts.use_compilation_cache()
    splits = run_parts.splits(config, data)
    workload = build_workload(config, data.num_items, splits)
    return workload._replace(fingerprint=data.fingerprint)


def build_workload(
    config: ConfigDict,
    num_items: int,
    splits: dict[str, Sessions],
    ways: Ways | None = None,
) -> Workload:
    """Builds the parts of a run on data that are already open."""
    config = run_parts.resolve(config, num_items, train=splits["train"])
    parts = run_parts.build(config, num_items, splits["train"], ways)
    return Workload(config, parts, splits, num_items)


def dispatch_at(parts: run_parts.RunParts, step: int) -> tuple[Any, int]:
    """The batch of the dispatch that begins at a step, and its number of steps."""
    return parts.batches.dispatch_at(step, parts.batches.steps_per_epoch)


def spread(parts: run_parts.RunParts, num: int) -> list[int]:
    """The first steps of dispatches to measure, spread over an epoch."""
    # None begins within a group, or so late that the end of the epoch cuts it short.
    steps = dispatch_at(parts, 0)[1]
    last = max(0, parts.batches.steps_per_epoch // steps - 1)
    return [steps * int(dispatch) for dispatch in np.linspace(0, last, num)]


def commonest_shape(parts: run_parts.RunParts, num: int) -> list[int]:
    """The first ``num`` starts of the commonest shape among the first 64 dispatches."""
    steps = dispatch_at(parts, 0)[1]
    most = min(64 * steps, parts.batches.steps_per_epoch)
    firsts = range(0, most - steps + 1, steps)
    shapes = {step: dispatch_at(parts, step)[0].shape for step in firsts}
    [(commonest, _)] = Counter(shapes.values()).most_common(1)
    return [step for step, shape in shapes.items() if shape == commonest][:num]


def num_candidates(workload: Workload) -> int:
    """Negatives of an event before selection."""
    if workload.config.loss.name == FULL_SOFTMAX:
        return workload.num_items
    return negative_sampling(workload.config).num_candidates
