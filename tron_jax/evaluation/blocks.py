"""Blocks of rows of an array, read and written by their number in a compiled loop."""

from __future__ import annotations

import jax
from jax import lax


def read_block(array: jax.Array, i: jax.Array, *, block: int) -> jax.Array:
    """Returns the rows of block ``i``."""
    return lax.dynamic_slice_in_dim(array, i * block, block)


def write_block(
    array: jax.Array, values: jax.Array, i: jax.Array, *, block: int
) -> jax.Array:
    """Returns the array with other rows in block ``i``."""
    return lax.dynamic_update_slice_in_dim(array, values, i * block, 0)
