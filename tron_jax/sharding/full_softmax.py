"""The softmax over all items, of which each device scores those it holds."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from tron_jax.objectives.full_softmax import BLOCK, over_blocks
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
        data: StepData, hidden: jax.Array, rows: jax.Array
    ) -> tuple[Gradients, LossTotals]:
        batch, touched = data.batch, data.touched
        assert touched.ids is not None
        table = rows[len(touched.ids) :]
        ids = shards.first() + jnp.arange(shards.rows)
        is_item = (ids > 0) & (ids <= num_items)
        label_rows = rows[touched.labels]
        total = _log_total(hidden, table, is_item, block)
        losses = total - jnp.sum(hidden * label_rows, axis=1)
        totals = LossTotals(jnp.sum(losses * batch.weight), jnp.sum(batch.weight))
        weight = (batch.weight / divisor(totals)).astype(total.dtype)[:, None]
        by_hidden, by_table = _gradient(hidden, table, is_item, total, weight, block)
        by_hidden = events.in_place(events.owners_sum(by_hidden), len(hidden))
        by_hidden -= weight * label_rows
        by_label = RowGradient(touched.labels, -weight * hidden)
        by_all = jnp.pad(by_table, ((len(touched.ids), 0), (0, 0)))
        return Gradients(by_hidden, [by_label, RowGradient(None, by_all)]), totals

    return objective


def _scores(
    hidden: jax.Array, table: jax.Array, is_item: jax.Array, start: Any, size: int
) -> jax.Array:
    """[size, N], ``LOWEST`` of rows that are no items."""
    some = lax.dynamic_slice_in_dim(table, start, size)
    counts = lax.dynamic_slice_in_dim(is_item, start, size)
    return jnp.where(counts[:, None], some @ hidden.T, LOWEST)


def _log_total(
    hidden: jax.Array, table: jax.Array, is_item: jax.Array, block: int
) -> jax.Array:
    """[N] log of the sums of exp(score) over the items of all devices."""

    def add(sums: Any, start: Any, size: int) -> Any:
        highest, total = sums
        scores = _scores(hidden, table, is_item, start, size)
        new = jnp.maximum(highest, scores.max(0))
        part = jnp.exp(scores - new).sum(0)
        return new, total * jnp.exp(highest - new) + part

    lowest = jnp.full(len(hidden), LOWEST, hidden.dtype)
    sums = (lowest, jnp.zeros_like(lowest))
    highest, total = over_blocks(add, sums, 0, len(table), block)
    of_all = lax.pmax(highest, AXIS)
    # A device without items has a sum of exp(0) for each, which the factor makes 0.
    return of_all + jnp.log(lax.psum(total * jnp.exp(highest - of_all), AXIS))


def _gradient(
    hidden: jax.Array,
    table: jax.Array,
    is_item: jax.Array,
    total: jax.Array,
    weight: jax.Array,
    block: int,
) -> tuple[jax.Array, jax.Array]:
    """[N, hidden] the share of the device's items, and [rows, hidden] by its table."""
    weighted = hidden * weight

    def add(sums: Any, start: Any, size: int) -> Any:
        by_hidden, by_table = sums
        some = lax.dynamic_slice_in_dim(table, start, size)
        shares = jnp.exp(_scores(hidden, table, is_item, start, size) - total)
        by_table = lax.dynamic_update_slice_in_dim(
            by_table, shares @ weighted, start, 0
        )
        return by_hidden + some.T @ shares, by_table

    sums = (jnp.zeros_like(hidden.T), jnp.zeros_like(table))
    by_hidden, by_table = over_blocks(add, sums, 0, len(table), block)
    return by_hidden.T * weight, by_table
