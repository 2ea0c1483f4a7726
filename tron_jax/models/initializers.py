"""How first parameters are drawn; of large tables, without holding them twice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

BLOCK = 1 << 16  # rows


def uniform(bound: float) -> nn.initializers.Initializer:
    """Draws from the uniform distribution over ± a bound.

    Args:
      bound: the largest absolute value.

    Returns:
      A Flax initializer, ``(key, shape, dtype) -> array``.
    """

    def init(key, shape, dtype=jnp.float32, **_: Any) -> jax.Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return init


class Part(NamedTuple):
    """A range of the rows of a table: the first, perhaps a tracer, and how many."""

    first: jax.Array | int
    count: int


def draw_in_blocks(
    draw: Callable[[jax.Array, int], jax.Array],
    key: jax.Array,
    num_rows: int,
    block: int = BLOCK,
    part: Part | None = None,
) -> jax.Array:
    """Draws a table a block of rows at a time.

    A generator needs temporaries as large as what it draws: 4.3 GB for a table of 1.4
    (1.8 million items, hidden 200). A table of at most one block is drawn with ``key``
    itself, a larger one with a key for each block.

    Args:
      draw: ``(key, rows) -> [rows, width]``.
      key: of the draws.
      num_rows: of the table.
      block: rows drawn at a time; another number gives another table.
      part: the rows that are wanted; None = all.

    Returns:
      [num_rows, width], or [part.count, width], 0 beyond the table.
    """
    if part is not None:
        return _draw_part(draw, key, num_rows, block, part)
    if num_rows <= block:
        return draw(key, num_rows)
    whole_blocks = num_rows // block

    def fill(table: jax.Array, index: jax.Array | int, rows: int) -> jax.Array:
        values = draw(jax.random.fold_in(key, index), rows)
        return lax.dynamic_update_slice_in_dim(table, values, index * block, 0)

    row = jax.eval_shape(lambda: draw(key, 1))
    table = jnp.zeros((num_rows, row.shape[1]), row.dtype)
    table = lax.fori_loop(0, whole_blocks, lambda i, t: fill(t, i, block), table)
    rest = num_rows - whole_blocks * block
    return fill(table, whole_blocks, rest) if rest else table


def _draw_part(
    draw: Callable[[jax.Array, int], jax.Array],
    key: jax.Array,
    num_rows: int,
    block: int,
    part: Part,
) -> jax.Array:
    """The same bits as those rows of the whole table, which is not drawn."""
    first, count = part
    ids = first + jnp.arange(count)
    if num_rows <= block:
        return draw(key, num_rows).at[ids].get(mode="fill", fill_value=0)
    before = first // block

    def fill(index: jax.Array, rows: jax.Array) -> jax.Array:
        # The table's last block is shorter, but its rows are the first of a whole one.
        values = draw(jax.random.fold_in(key, before + index), block)
        return lax.dynamic_update_slice_in_dim(rows, values, index * block, 0)

    row = jax.eval_shape(lambda: draw(key, 1))
    blocks = 1 + -(-count // block)
    rows = jnp.zeros((blocks * block, row.shape[1]), row.dtype)
    rows = lax.fori_loop(0, blocks, fill, rows)
    rows = lax.dynamic_slice_in_dim(rows, first - before * block, count)
    return jnp.where(ids[:, None] < num_rows, rows, 0)
