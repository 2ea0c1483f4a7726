"""The weights of a model as its exported form has them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tron_jax.evaluation.ranking import ReadRows

ROWS = 1 << 16  # that are brought up to date together


def whole_table(
    read_rows: ReadRows, table_state: Any, step: int, num_items: int
) -> np.ndarray:
    """[num_items + 1, width] float32, every row as of a step.

    Rows that sleep are brought up to date as they are read, some at a time.

    Args:
      read_rows: of the optimizer that wrote the state.
      table_state: of the item table.
      step: updates made.
      num_items: the largest item id.
    """
    read: Callable[..., jax.Array] = jax.jit(read_rows)
    blocks = []
    for first in range(0, num_items + 1, ROWS):
        ids = jnp.minimum(first + jnp.arange(ROWS), num_items)
        rows = np.asarray(read(table_state, ids, jnp.int32(step)), np.float32)
        blocks.append(rows[: num_items + 1 - first])
    return np.concatenate(blocks)
