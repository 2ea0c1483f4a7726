"""The dtype in which an encoder computes in training, and what stays float32.

Float32 in any case: parameters, their gradients, the encoder's output, and sums over a
row (LayerNorm, softmax) or over events (the gradient of a bias). With bfloat16, the
matmuls and the activations between them are bfloat16. The objective selects candidates
in the same dtype.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

COMPUTE_DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


def compute_dtype_of(name: str) -> Any:
    """Looks up a dtype.

    Args:
      name: one of ``COMPUTE_DTYPES``.

    Returns:
      The dtype.

    Raises:
      KeyError: if it is not, with the names that exist.
    """
    if name not in COMPUTE_DTYPES:
        names = ", ".join(COMPUTE_DTYPES)
        raise KeyError(f"compute_dtype {name!r} is not one of: {names}")
    return COMPUTE_DTYPES[name]


def divide(x: jax.Array, divisor: float) -> jax.Array:
    """Divides by a number that is not rounded to the array's dtype first.

    The 0.8 of a dropout of 0.2 is 0.1 % off in bfloat16, and so would all quotients be.

    Args:
      x: any shape.
      divisor: what to divide by.

    Returns:
      The same shape and dtype.
    """
    return (x / jnp.float32(divisor)).astype(x.dtype)


def _cast_all_but_bias(
    inputs: Any, kernel: Any, bias: Any, *, dtype: Any, inexact: bool = True
) -> list[Any]:
    return [jnp.asarray(inputs, dtype), jnp.asarray(kernel, dtype), bias]


class Dense(nn.Dense):
    """A dense layer whose matmul is in ``dtype`` and whose bias is added in float32.

    The gradient of the bias is then summed over the events in float32; in bfloat16,
    XLA's sum of 10,000 ones is 8,192 on a CPU.
    """

    promote_dtype: Any = _cast_all_but_bias

    def __call__(self, inputs: jax.Array) -> jax.Array:
        """[..., any] -> [..., features] of ``dtype``."""
        return super().__call__(inputs).astype(self.dtype)
