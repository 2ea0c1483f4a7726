"""The softmax over all items, of which each device scores those it holds."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from tron_jax.objectives.full_softmax import BLOCK, gradient, log_sums
from tron_jax.objectives.objective import (
    Gradients,
    LossTotals,
    Objective,
    StepData,
    mean_divisor,
)
from tron_jax.objectives.selection import LOWEST
from tron_jax.optimizers.touched import RowGradient
from tron_jax.sharding.events import Events
from tron_jax.sharding.shards import AXIS, Shards


def make_full_softmax(
    *,
    num_items: int,
    shards: Shards,
    events: Events,
    block: int = BLOCK,
    mean_over: str = "events",
    batch_size: int | None = None,
) -> Objective:
    """As ``objectives.full_softmax.make_full_softmax``, within ``Shards.over``.

    The highest scores and the sums of the devices are put together, [N] numbers each;
    of the gradient by hidden states each device has what is of its own events.

    Args:
      num_items: the largest item id.
      shards: the division of the rows.
      events: the division of the events.
      block: rows that are scored at a time.
      mean_over: what the summed loss is divided by, as of ``make_objective``.
      batch_size: sessions of a batch, for ``mean_over`` = batch.

    Returns:
      The objective; its ``rows`` are those of ``rows.divided_whole``.
    """
    divisor = mean_divisor(mean_over, batch_size)

    def objective(
        data: StepData, hidden: jax.Array, rows: jax.Array, params: Any = ()
    ) -> tuple[Gradients, LossTotals]:
        del params  # it corrects nothing
        batch, touched = data.batch, data.touched
        assert touched.ids is not None
        first = len(touched.ids)  # of the device's part, behind the rows of the step

        def counted(scores: jax.Array, start: Any) -> jax.Array:
            ids = shards.first() + start - first + jnp.arange(len(scores))
            is_item = (ids > 0) & (ids <= num_items)
            return jnp.where(is_item[:, None], scores, LOWEST)

        of_part = (block, first, shards.rows, counted)
        highest, total = log_sums(hidden, rows, *of_part)
        # A device without items has a sum of exp(0) for each, of which nothing remains.
        of_all = lax.pmax(highest, AXIS)
        total = lax.psum(total * jnp.exp(highest - of_all), AXIS)
        total = of_all + jnp.log(total)
        label_rows = rows[touched.labels]
        losses = total - jnp.sum(hidden * label_rows, axis=1)
        totals = LossTotals(jnp.sum(losses * batch.weight), jnp.sum(batch.weight))
        weight = (batch.weight / divisor(totals)).astype(total.dtype)
        by_hidden, by_part = gradient(hidden, rows, total, weight, *of_part)
        by_hidden = events.in_place(events.owners_sum(by_hidden), len(hidden))
        by_hidden -= weight[:, None] * label_rows
        by_label = RowGradient(touched.labels, -weight[:, None] * hidden)
        return Gradients(by_hidden, [by_label, RowGradient(None, by_part)]), totals

    return objective
