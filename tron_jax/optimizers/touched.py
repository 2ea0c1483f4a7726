"""The rows of the item table that a step is about."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Touched(NamedTuple):
    """Distinct item ids, and where in them the items of a step are found.

    Attributes:
      ids: [R] ascending distinct item ids, filled up with numbers beyond the table; or
        None where they are the whole table.
      inputs: [N] row of each input.
      labels: [N] row of each label.
      drawn: [G, k] row of each drawn negative.
    """

    ids: jax.Array | None
    inputs: jax.Array
    labels: jax.Array
    drawn: jax.Array


def touch(
    inputs: jax.Array, labels: jax.Array, drawn: jax.Array, num_rows: int, whole: bool
) -> Touched:
    """Finds the distinct rows of a step.

    Args:
      inputs: [N] item ids.
      labels: [N] item ids.
      drawn: [G, k] item ids, whoever they are drawn for.
      num_rows: of the table, the row of padding included.
      whole: read and update the whole table whatever the step needs.

    Returns:
      The rows; their static number is that of the ids drawn, at most num_rows.
    """
    every = jnp.concatenate([inputs, labels, drawn.reshape(-1)])
    if whole or every.size >= num_rows:
        return Touched(None, inputs, labels, drawn)
    # Sorting ids alone and searching them is four times as fast as ``jnp.unique``,
    # which sorts them together with their places.
    ordered = jnp.sort(every)
    fresh = jnp.concatenate([jnp.array([True]), ordered[1:] != ordered[:-1]])
    rank = jnp.cumsum(fresh, dtype=jnp.int32) - 1
    # Distinct beyond the table as well, which is what a scatter is promised.
    beyond = num_rows + jnp.arange(every.size, dtype=every.dtype)
    ids = beyond.at[rank].set(ordered, mode="promise_in_bounds")
    rows = jnp.searchsorted(ids, every)
    rows = jnp.split(rows, [inputs.size, 2 * inputs.size])
    return Touched(ids, rows[0], rows[1], rows[2].reshape(drawn.shape))


def sum_rows(num_rows: int, *parts: tuple[jax.Array | None, jax.Array]) -> jax.Array:
    """Adds up gradients by row, in one scatter.

    Args:
      num_rows: rows of the result.
      *parts: pairs of row numbers [...] and gradients [..., hidden]; or of None and
        gradients [num_rows, hidden] of all rows.

    Returns:
      [num_rows, hidden].
    """
    hidden, dtype = parts[0][1].shape[-1], parts[0][1].dtype
    some = [(row, gradients) for row, gradients in parts if row is not None]
    dense = [gradients for row, gradients in parts if row is None]
    total = sum(dense[1:], dense[0]) if dense else jnp.zeros((num_rows, hidden), dtype)
    if not some:
        return total
    rows = jnp.concatenate([row.reshape(-1) for row, _ in some])
    gradients = jnp.concatenate([grad.reshape(-1, hidden) for _, grad in some])
    return total.at[rows].add(gradients)
