"""The candidates of a batch divided among devices, to score and to select from."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

from tron_jax.objectives import selection
from tron_jax.objectives.objective import Hardest, ScoreCandidates
from tron_jax.optimizers.touched import Touched
from tron_jax.sampling.candidates import Candidates
from tron_jax.sharding.shards import AXIS, Shards


def hardest(
    score: ScoreCandidates,
    candidates: Candidates,
    touched: Touched,
    topk: int,
    shards: Shards,
) -> Hardest:
    """Selects as ``selection.hardest`` does, each device from some of the columns.

    Every event's hardest of all are among the hardest of the devices, which are the
    only scores that travel. Which of equally high ones is selected may differ.

    Args:
      score: of candidates, see ``candidate_scores.masked_scores``.
      candidates: of a batch that shares what is drawn.
      touched: the rows of the step.
      topk: how many, at most as many as candidates.
      shards: the devices, within ``Shards.over``.

    Returns:
      As of ``selection.hardest``, the same on every device.
    """
    num_drawn, num_in_batch = candidates.drawn.shape[1], candidates.in_batch.shape[1]
    drawn, in_batch = (-(-n // shards.devices) for n in (num_drawn, num_in_batch))
    device = lax.axis_index(AXIS)

    def own(columns: jax.Array, size: int) -> jax.Array:
        """Columns of the device, of an array that ends in all of them."""
        room = size * shards.devices - columns.shape[-1]
        padded = jnp.pad(columns, [(0, 0)] * (columns.ndim - 1) + [(0, room)])
        return lax.dynamic_slice_in_dim(padded, device * size, size, -1)

    keep = candidates.drawn_keep
    if keep.shape[-1:] != (num_drawn,) and drawn * shards.devices > num_drawn:
        keep = jnp.broadcast_to(keep, (1, num_drawn))  # else padding would count
    if keep.shape[-1:] == (num_drawn,):
        keep = own(keep, drawn)
    part = candidates._replace(
        drawn=own(candidates.drawn, drawn),
        drawn_keep=keep,
        in_batch=own(candidates.in_batch, in_batch),
        in_batch_keep=own(candidates.in_batch_keep, in_batch),
    )
    some = min(topk, drawn + in_batch)
    scores = score(part, touched._replace(drawn=own(touched.drawn, drawn)), some)
    scores, columns = selection.top_k(scores, some)
    columns = jnp.minimum(columns, drawn + in_batch - 1)
    columns = jnp.where(
        columns < drawn,
        device * drawn + columns,
        num_drawn + device * in_batch + columns - drawn,
    )
    scores, columns = (
        lax.all_gather(found, AXIS, axis=1, tiled=True) for found in (scores, columns)
    )
    scores, found, keep = selection.hardest(scores, topk)
    found = jnp.minimum(found, columns.shape[1] - 1)
    return scores, jnp.take_along_axis(columns, found, axis=1), keep
