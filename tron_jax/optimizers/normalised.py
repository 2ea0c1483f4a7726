"""An item table whose rows are read as unit vectors."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from tron_jax.optimizers.item_table import RowOptimizer, Rows

SMALLEST = 1e-12  # of a squared length: a row of zeros stays one, with a gradient of 0


def unit(vectors: jax.Array) -> jax.Array:
    """Vectors of length 1 in the directions of others.

    Args:
      vectors: [..., hidden].

    Returns:
      [..., hidden]; 0 of vectors of 0.
    """
    squared = jnp.sum(jnp.square(vectors), axis=-1, keepdims=True)
    return vectors * lax.rsqrt(jnp.maximum(squared, SMALLEST))


def normalised(item_tx: RowOptimizer) -> RowOptimizer:
    """Makes every row that is read a unit vector; the table keeps it as it is.

    Inputs and scores then know of an item's direction alone. The gradient passes
    through the division, row by row.

    Args:
      item_tx: of the table.

    Returns:
      The optimizer.
    """

    def read(state: Any, ids: jax.Array | None, step: jax.Array) -> Rows:
        rows = item_tx.read(state, ids, step)
        return Rows(unit(rows.values), (rows.values, *rows.statistics))

    def update(state: Any, ids, rows: Rows, gradients: jax.Array, step) -> Any:
        values, *statistics = rows.statistics
        _, back = jax.vjp(unit, values)
        (by_values,) = back(gradients)
        raw = Rows(values, tuple(statistics))
        return item_tx.update(state, ids, raw, by_values, step)

    return RowOptimizer(item_tx.init, read, update)
