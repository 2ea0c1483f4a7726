"""Vectors of which the direction alone counts."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

SMALLEST = 1e-12  # of a squared length: of a row of zeros the gradient is finite, too


def unit(vectors: jax.Array) -> jax.Array:
    """Vectors of length 1 in the directions of others.

    Args:
      vectors: [..., hidden].

    Returns:
      [..., hidden]; 0 of vectors of 0.
    """
    squared = jnp.sum(jnp.square(vectors), axis=-1, keepdims=True)
    return vectors * lax.rsqrt(jnp.maximum(squared, SMALLEST))
