"""Binary search, by what costs the device least."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax


def searchsorted(
    ascending: jax.Array, values: jax.Array, side: str = "left"
) -> jax.Array:
    """Finds where values would be inserted, as ``jnp.searchsorted``.

    Args:
      ascending: [n] numbers.
      values: [...] numbers.
      side: ``left`` or ``right`` of equal ones.

    Returns:
      [...] int32.
    """

    def by(method: str) -> jax.Array:
        return jnp.searchsorted(ascending, values, side=side, method=method)

    # The loop costs a CPU least. On an accelerator each of its rounds would be several
    # operations of next to nothing; unrolled, all are one.
    return lax.platform_dependent(
        cpu=lambda: by("scan"), default=lambda: by("scan_unrolled")
    )
