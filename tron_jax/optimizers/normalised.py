"""An item table whose rows are read as unit vectors."""

from __future__ import annotations

from typing import Any

import jax

from tron_jax.optimizers.item_table import RowOptimizer, Rows
from tron_jax.unit_vectors import unit


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
