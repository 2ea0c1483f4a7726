"""Item tables that are served: float32, or in fewer bytes."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

# As trained; half of its bytes; a quarter of them.
DTYPES = ("float32", "bfloat16", "int8")
MOST = 127  # of an int8; -128 has no counterpart
ROWS = 1 << 13  # of a table in fewer bytes that are float32 at a time


class Int8Table(NamedTuple):
    """A table whose numbers are those of ``values`` times ``rows`` times ``columns``.

    The columns have a factor of their own, as the last one of GRU4Rec's table, the
    items' biases, is of another size than the rest.

    Attributes:
      values: [num_items + 1, width] int8.
      rows: [num_items + 1] float32, a factor for each row.
      columns: [width] float32, a factor for each column.
    """

    values: Any
    rows: Any
    columns: Any


# An array [num_items + 1, width] of float32 or bfloat16, or an Int8Table.
ItemTable = Any


def compacted(table: np.ndarray, dtype: str) -> ItemTable:
    """Rounds a table.

    Args:
      table: [num_items + 1, width] float32.
      dtype: one of ``DTYPES``.

    Returns:
      The nearest table of that kind, of NumPy arrays; of int8, each number is within
      half of its row's factor times its column's.
    """
    if dtype != "int8":
        return table.astype(jnp.dtype(dtype))
    columns = np.abs(table).mean(axis=0, dtype=np.float64)
    columns = np.where(columns > 0, columns, 1).astype(np.float32)
    scaled = table / columns
    rows = np.abs(scaled).max(axis=1) / MOST
    rows = np.where(rows > 0, rows, 1).astype(np.float32)
    values = np.rint(scaled / rows[:, None]).clip(-MOST, MOST).astype(np.int8)
    return Int8Table(values, rows, columns)


def read_rows(table: ItemTable, ids: jax.Array, step: Any = None) -> jax.Array:
    """The rows of some items, [..., width] float32.

    Args:
      table: of any kind.
      ids: [...] int32.
      step: not looked at; it is there to read a table as a trained one is read.
    """
    del step
    if isinstance(table, Int8Table):
        values = table.values[ids].astype(jnp.float32)
        return values * table.rows[ids][..., None] * table.columns
    return table[ids].astype(jnp.float32)


def score_items(table: ItemTable, hidden: jax.Array) -> jax.Array:
    """Scores all items.

    Args:
      table: of any kind; one in fewer bytes is unfolded a part at a time.
      hidden: [sessions, width] float32.

    Returns:
      [sessions, num_items] float32, of the items from 1 on.
    """
    length = len(jax.tree.leaves(table)[0])
    if not isinstance(table, Int8Table) and table.dtype == jnp.float32:
        return hidden @ table[1:].T
    size = min(ROWS, length - 1)

    def of_rows(part: jax.Array, scores: jax.Array) -> jax.Array:
        # The last part begins earlier, and finds some of the scores again.
        first = jnp.minimum(part * size, length - 1 - size)
        rows = read_rows(table, 1 + first + jnp.arange(size))
        return lax.dynamic_update_slice(scores, hidden @ rows.T, (0, first))

    scores = jnp.zeros((hidden.shape[0], length - 1), jnp.float32)
    return lax.fori_loop(0, -(-(length - 1) // size), of_rows, scores)
