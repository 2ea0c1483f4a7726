"""What a run computes, whatever its seed: to tell which runs differ by that alone."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import jax
from ml_collections import ConfigDict

from experiments.assembly import run_parts
from tron_jax.data.sessions import Sessions


class Program(NamedTuple):
    """What a run computes.

    Attributes:
      parameters: how many numbers are learnt.
      hash: SHA-256 of the train step as it is lowered for the largest dispatch.
    """

    parameters: int
    hash: str


def describe(
    config: ConfigDict, num_items: int, train: Sessions, parts: run_parts.RunParts
) -> Program:
    """Describes a run's program.

    Args:
      config: checked and resolved.
      num_items: the largest item id.
      train: sessions that the run trains on.
      parts: of the run.

    Returns:
      The same for runs that differ by their seed alone, on one kind of device and with
      the same packages.
    """
    # Shuffled batches have other lengths with each seed; more devices only round
    # otherwise.
    if (config.train.seed, config.train.mesh) != (0, 1):
        config = config.copy_and_resolve_references()
        config.train.seed, config.train.mesh = 0, 1
        parts = run_parts.build(config, num_items, train)
    state = jax.eval_shape(parts.init)
    largest = max(parts.batches.shapes, key=lambda dispatch: dispatch.shape)
    jitted = jax.jit(parts.train_step, donate_argnums=0)
    lowered = jitted.lower(state, largest, parts.constants)
    learnt = jax.tree.leaves((state.params, state.items.table))
    return Program(
        sum(array.size for array in learnt),
        hashlib.sha256(lowered.as_text().encode()).hexdigest(),
    )
