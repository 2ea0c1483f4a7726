"""The rows of the item table that a step reads and updates."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Touched(NamedTuple):
    """Distinct item ids, and the index in them of each item of a step.

    Attributes:
      ids: [R] ascending distinct item ids, filled up with numbers beyond the table; or
        None where the step is about the whole table.
      inputs: [N] index of each input.
      labels: [N] index of each label.
      drawn: [G, k] index of each drawn negative.
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
      drawn: [G, k] item ids of the drawn negatives.
      num_rows: of the table, the row of padding included.
      whole: read and update the whole table in any case.

    Returns:
      The rows: as many as ids were given, or the whole table where those are no fewer
      than its rows.
    """
    all_ids = jnp.concatenate([inputs, labels, drawn.reshape(-1)])
    if whole or all_ids.size >= num_rows:
        return Touched(None, inputs, labels, drawn)
    # Sorting ids alone and searching them is four times as fast as ``jnp.unique``,
    # which sorts them together with their indices.
    ordered = jnp.sort(all_ids)
    fresh = jnp.concatenate([jnp.array([True]), ordered[1:] != ordered[:-1]])
    rank = jnp.cumsum(fresh, dtype=jnp.int32) - 1
    # Distinct beyond the table as well, as ``scatter`` promises to XLA.
    beyond = num_rows + jnp.arange(all_ids.size, dtype=all_ids.dtype)
    ids = beyond.at[rank].set(ordered, mode="promise_in_bounds")
    rows = jnp.searchsorted(ids, all_ids)
    rows = jnp.split(rows, [inputs.size, 2 * inputs.size])
    return Touched(ids, rows[0], rows[1], rows[2].reshape(drawn.shape))


def sum_rows(num_rows: int, *parts: tuple[jax.Array | None, jax.Array]) -> jax.Array:
    """Adds up gradients by row, in one scatter.

    Args:
      num_rows: rows of the result.
      *parts: pairs of row indices [...] and gradients [..., hidden]; or of None and
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
