"""The softmax over all items as an objective, in blocks of the item table."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from tron_jax.objectives.objective import (
    Gradients,
    LossTotals,
    Objective,
    StepData,
    mean_divisor,
)
from tron_jax.optimizers.touched import RowGradient

BLOCK = 1024  # items; on a CPU 256 to 4,096 differ by a tenth, this one is the fastest


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def log_total(hidden: jax.Array, rows: jax.Array, block: int = BLOCK) -> jax.Array:
    """Sums exp(score) over all items, block by block, with a running highest score.

    Its gradient computes the scores of a block anew, which costs one more matmul than
    keeping all of them would, an array of events times items.

    Args:
      hidden: [N, hidden] of each event.
      rows: [num_items + 1, hidden] item table; row 0 is padding and no item.
      block: items that are scored at a time.

    Returns:
      [N] log of the sums.
    """
    highest, total = log_sums(hidden, rows, block, 1, len(rows) - 1)
    return highest + jnp.log(total)


def _forward(hidden: jax.Array, rows: jax.Array, block: int) -> tuple[jax.Array, Any]:
    total = log_total(hidden, rows, block)
    return total, (hidden, rows, total)


def _backward(block: int, saved: Any, weight: jax.Array) -> tuple[jax.Array, jax.Array]:
    hidden, rows, total = saved
    return gradient(hidden, rows, total, weight, block, 1, len(rows) - 1)


log_total.defvjp(_forward, _backward)


# (scores [size, N], number of their first row) -> scores, those that count
Counted = Callable[[jax.Array, Any], jax.Array]


def _all_count(scores: jax.Array, start: Any) -> jax.Array:
    return scores


def log_sums(
    hidden: jax.Array,
    rows: jax.Array,
    block: int,
    first: int,
    count: int,
    counted: Counted = _all_count,
) -> tuple[jax.Array, jax.Array]:
    """Sums exp(score - highest score) over some rows.

    Args:
      hidden: [N, hidden] of each event.
      rows: [R, hidden].
      block: rows that are scored at a time.
      first: the first row.
      count: of rows.
      counted: gives rows that are no items a score of which nothing remains.

    Returns:
      [N] highest scores, and sums.
    """

    def add(sums: Any, start: Any, size: int) -> Any:
        highest, total = sums
        # [items, N]: in this layout all matmuls of both passes run without a copy.
        scores = counted(_some(rows, start, size) @ hidden.T, start)
        new = jnp.maximum(highest, scores.max(0))
        part = jnp.exp(scores - new).sum(0)
        return new, total * jnp.exp(highest - new) + part

    lowest = jnp.full(len(hidden), jnp.finfo(hidden.dtype).min)
    sums = (lowest, jnp.zeros_like(lowest))
    return _over_blocks(add, sums, first, count, block)


def gradient(
    hidden: jax.Array,
    rows: jax.Array,
    total: jax.Array,
    weight: jax.Array,
    block: int,
    first: int,
    count: int,
    counted: Counted = _all_count,
) -> tuple[jax.Array, jax.Array]:
    """Shares of the softmax times what was scored, as ``log_sums`` goes through it.

    Args:
      hidden: [N, hidden] of each event.
      rows: [R, hidden].
      total: [N] log of the sums of exp(score).
      weight: [N] of the events.
      block: see ``log_sums``, as are those that follow.
      first: the first row.
      count: of rows.
      counted: of scores.

    Returns:
      [N, hidden] and [R, hidden], 0 of other rows.
    """
    weighted = hidden * weight[:, None]

    def add(sums: Any, start: Any, size: int) -> Any:
        by_hidden, by_rows = sums
        some = _some(rows, start, size)
        shares = jnp.exp(counted(some @ hidden.T, start) - total)
        part = shares @ weighted
        by_rows = lax.dynamic_update_slice_in_dim(by_rows, part, start, 0)
        return by_hidden + some.T @ shares, by_rows

    sums = (jnp.zeros_like(hidden.T), jnp.zeros_like(rows))
    by_hidden, by_rows = _over_blocks(add, sums, first, count, block)
    return by_hidden.T * weight[:, None], by_rows


def _some(rows: jax.Array, start: Any, size: int) -> jax.Array:
    return lax.dynamic_slice_in_dim(rows, start, size)


def _over_blocks(
    add: Callable[[Any, Any, int], Any], sums: Any, first: int, count: int, block: int
) -> Any:
    """Calls add(sums, first row of a block, its static size) over ``count`` rows."""
    whole, rest = divmod(count, block)
    if whole:
        sums = lax.fori_loop(
            0, whole, lambda i, sums: add(sums, first + i * block, block), sums
        )
    return add(sums, first + whole * block, rest) if rest else sums


def make_full_softmax(
    *,
    num_items: int,
    block: int = BLOCK,
    mean_over: str = "events",
    batch_size: int | None = None,
) -> Objective:
    """Cross entropy of the label among all items, without sampling.

    No array of events times items is made: a first pass over the blocks sums up, a
    second one computes their scores again and the gradient from them.

    Args:
      num_items: the largest item id.
      block: items that are scored at a time.
      mean_over: what the summed loss is divided by, as of ``make_objective``.
      batch_size: sessions of a batch, for ``mean_over`` = batch.

    Returns:
      The objective. Its ``rows`` must be the whole table (``touched.ids`` None); it
      uses no candidates.

    Source: ours, the baseline of all sampled losses.
    """
    divisor = mean_divisor(mean_over, batch_size)

    def objective(
        data: StepData, hidden: jax.Array, rows: jax.Array, params: Any = ()
    ) -> tuple[Gradients, LossTotals]:
        del params  # it corrects nothing
        batch, touched = data.batch, data.touched
        assert touched.ids is None, "full softmax is over the whole table"
        assert len(rows) == num_items + 1
        label_rows = rows[touched.labels]
        total, backward = jax.vjp(lambda h, r: log_total(h, r, block), hidden, rows)
        losses = total - jnp.sum(hidden * label_rows, axis=1)
        totals = LossTotals(jnp.sum(losses * batch.weight), jnp.sum(batch.weight))
        weight = (batch.weight / divisor(totals)).astype(total.dtype)
        by_hidden, by_rows = backward(weight)
        by_hidden -= weight[:, None] * label_rows
        by_label = RowGradient(touched.labels, -weight[:, None] * hidden)
        return Gradients(by_hidden, [by_label, RowGradient(None, by_rows)]), totals

    return objective
