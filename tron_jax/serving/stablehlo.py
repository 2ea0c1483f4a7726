"""The serving form as StableHLO: one file for any device, sessions and lengths."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from jax import export

from tron_jax.serving.scorer import Score, Weights

PLATFORMS = ("cpu", "cuda", "tpu")


def serialize(score: Score, weights: Weights) -> bytes:
    """Exports a scorer with any number of sessions, of any length that it takes.

    Its arguments are the leaves of the weights, in the order of ``names``, then items
    [sessions, T] and lengths [sessions] int32; its results scores and items. The
    weights are no part of it, as a file of that kind ends at 2 GB.

    Args:
      score: see ``scorer.make_scorer``.
      weights: its weights, or their shapes.

    Returns:
      What ``jax.export.deserialize`` reads, in this version of JAX and those of the
      next six months.
    """
    leaves, tree = jax.tree.flatten(weights)

    def flat(leaves: list[jax.Array], items: jax.Array, lengths: jax.Array):
        return score(jax.tree.unflatten(tree, leaves), items, lengths)

    sessions, length = export.symbolic_shape("sessions, length")
    shapes = [jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in leaves]
    items = jax.ShapeDtypeStruct((sessions, length), np.int32)
    lengths = jax.ShapeDtypeStruct((sessions,), np.int32)
    exported = export.export(jax.jit(flat), platforms=PLATFORMS)(shapes, items, lengths)
    return bytes(exported.serialize())


def names(weights: Weights) -> list[str]:
    """Names each leaf of the weights, in their order: ``params/…``, then ``table``."""

    def part(key: Any) -> str:
        return str(getattr(key, "name", getattr(key, "key", key)))

    paths = [path for path, _ in jax.tree.leaves_with_path(weights)]
    return ["/".join(map(part, path)) for path in paths]
