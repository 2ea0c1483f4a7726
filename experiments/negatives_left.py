"""Whether predictions have negatives at all: a small catalogue may fit into a batch."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from experiments.assembly import run_parts, settings
from tron_jax.data.batches import Batches
from tron_jax.objectives import candidate_scores
from tron_jax.sampling.sources import IN_BATCH, Constants, in_use


def warning(
    config: ConfigDict, batches: Batches, constants: Constants, num_items: int
) -> str | None:
    """Says for how many predictions of the first batch no negative is left.

    Nothing is learnt from them: there is nothing to tell their labels from.

    Args:
      config: checked and resolved.
      batches: of the run.
      constants: of the sources of negatives.
      num_items: the largest item id.

    Returns:
      The warning, or None where every prediction has a negative.
    """
    if not _possible(config, batches, num_items):
        return None
    dispatch, _ = batches.dispatch_at(0, 1)
    counted = jax.jit(_count, static_argnums=(0, 1))
    sampler = run_parts.sampler_of(config, num_items, config.train.seed)
    mask_hits = config.negatives.mask_hits
    bare, of = jax.device_get(counted(sampler, mask_hits, dispatch, constants))
    if bare == 0:
        return None
    excluded = config.negatives.exclude
    why = f"negatives.exclude={excluded} leaves too few of {num_items:,} items"
    remedy = "lower train.batch_size or raise negatives.num_in_batch"
    if excluded == "none":
        why = "the batch has no other session's clicks"
        remedy = "raise negatives.num_uniform"
    return (
        f"{bare:,} of the first batch's {of:,} predictions have no negative left, so "
        f"nothing is learnt from them: {why}; {remedy}"
    )


def _possible(config: ConfigDict, batches: Batches, num_items: int) -> bool:
    """Whether it can be at all, so that no usual run compiles anything for it."""
    if config.loss.name == settings.FULL_SOFTMAX:
        return False
    drawn = {*in_use(settings.negative_sampling(config))} - {IN_BATCH}
    if not drawn:
        return True
    # What is excluded, and the label, where that is masked too.
    most = 1 + max(shapes.shape[-1] for shapes in batches.shapes)
    return config.negatives.exclude != "none" and num_items <= most


def _count(
    sampler: Any, mask_hits: bool, dispatch: Any, constants: Constants
) -> tuple[jax.Array, jax.Array]:
    """How many predictions of a dispatch's first step are bare, and how many count."""
    batch = dispatch.batch(0) if hasattr(dispatch, "batch") else dispatch
    candidates = sampler(jnp.int32(0), batch, constants)
    keep = candidate_scores.kept(candidates, batch, mask_hits=mask_hits)
    counts = batch.weight > 0
    bare = counts & ~keep.any(axis=1)
    return bare.sum(dtype=jnp.int32), counts.sum(dtype=jnp.int32)
