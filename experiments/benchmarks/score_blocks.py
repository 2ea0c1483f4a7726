"""The floor of whatever scores the whole catalogue: its matmuls alone."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from tron_jax.evaluation.ranking import score_block


def matmuls_alone(
    events: int, num_items: int, block: int, hidden_size: int
) -> Callable[[], jax.Array]:
    """Compiles the matmuls by which events are scored against all items.

    Args:
      events: hidden states.
      num_items: the largest item id.
      block: of either, in a matmul.
      hidden_size: of a hidden state.

    Returns:
      A call of no arguments that makes them.
    """
    key = jax.random.key(0)
    rows, hidden = jax.random.normal(key, (2, block, hidden_size))
    blocks = -(-events // block) * -(-num_items // block)

    @jax.jit
    def matmuls(rows: jax.Array, hidden: jax.Array) -> jax.Array:
        def one(i, sums):
            scores = score_block(rows + i, hidden)
            return sums + scores[0]

        return lax.fori_loop(0, blocks, one, jnp.zeros(block))

    matmuls(rows, hidden).block_until_ready()
    return lambda: matmuls(rows, hidden)
