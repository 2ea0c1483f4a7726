"""The rows of the item table that a step reads and updates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from tron_jax.searching import searchsorted


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

    def items(self, numbers: jax.Array) -> jax.Array:
        """Item ids of row numbers [...]."""
        return numbers if self.ids is None else self.ids[numbers]

    def if_made(self, made: jax.Array, num_rows: int) -> Touched:
        """The same, or for a step that is not made, with all ids beyond the table."""
        if self.ids is None:
            return self
        return self._replace(ids=jnp.where(made, self.ids, _beyond(self.ids, num_rows)))


class RowGradient(NamedTuple):
    """A gradient by touched rows, of which a step has several that are added up.

    Attributes:
      numbers: [...] row numbers, in any order and as often as it comes; None where
        ``values`` are by all rows in order.
      values: [..., hidden].
    """

    numbers: jax.Array | None
    values: jax.Array


def touch(
    inputs: jax.Array,
    labels: jax.Array,
    drawn: jax.Array,
    num_rows: int,
    whole: bool | None,
) -> Touched:
    """Finds the distinct rows of a step.

    Args:
      inputs: [N] item ids.
      labels: [N] item ids.
      drawn: [G, k] item ids of the drawn negatives.
      num_rows: of the table, the row of padding included.
      whole: read and update the whole table in any case; None = in none, as where no
        device has the whole.

    Returns:
      The rows: as many as ids were given, or the whole table where those are no fewer
      than its rows.
    """
    all_ids = jnp.concatenate([inputs, labels, drawn.reshape(-1)])
    if whole or (whole is not None and all_ids.size >= num_rows):
        return Touched(None, inputs, labels, drawn)
    # Sorting ids alone and searching them is four times as fast as ``jnp.unique``,
    # which sorts them together with their indices.
    ordered = jnp.sort(all_ids)
    fresh = jnp.concatenate([jnp.array([True]), ordered[1:] != ordered[:-1]])
    rank = jnp.cumsum(fresh, dtype=jnp.int32) - 1
    ids = _beyond(all_ids, num_rows).at[rank].set(ordered, mode="promise_in_bounds")
    rows = searchsorted(ids, all_ids)
    rows = jnp.split(rows, [inputs.size, 2 * inputs.size])
    return Touched(ids, rows[0], rows[1], rows[2].reshape(drawn.shape))


def _beyond(ids: jax.Array, num_rows: int) -> jax.Array:
    """As many distinct ids that are in no table, ascending, as ``scatter`` promises."""
    return num_rows + jnp.arange(ids.size, dtype=ids.dtype)


def sum_rows(num_rows: int, gradients: Sequence[RowGradient]) -> jax.Array:
    """Adds up gradients by row, those of single rows in one scatter.

    Args:
      num_rows: rows of the result.
      gradients: at least one.

    Returns:
      [num_rows, hidden].
    """
    hidden, dtype = gradients[0].values.shape[-1], gradients[0].values.dtype
    of_all = [values for numbers, values in gradients if numbers is None]
    some = [(numbers, values) for numbers, values in gradients if numbers is not None]
    total = (
        sum(of_all[1:], of_all[0]) if of_all else jnp.zeros((num_rows, hidden), dtype)
    )
    if not some:
        return total
    numbers = jnp.concatenate([numbers.reshape(-1) for numbers, _ in some])
    values = jnp.concatenate([values.reshape(-1, hidden) for _, values in some])
    return total.at[numbers].add(values)
