"""Dropout whose random numbers are cheap."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax

from tron_jax.models.encoder import StreamPart
from tron_jax.models.precision import divide


def _mix(word: jax.Array) -> jax.Array:
    """Permutes the numbers of uint32 so that each bit of one affects all bits."""
    word ^= word >> 16
    word *= jnp.uint32(0x85EBCA6B)
    word ^= word >> 13
    word *= jnp.uint32(0xC2B2AE35)
    return word ^ (word >> 16)


def random_words(
    key: jax.Array, shape: tuple[int, ...], part: StreamPart | None = None
) -> jax.Array:
    """Hashes the index of each element with a key.

    ``jax.random.bits`` is better than dropout needs: on a CPU it took a twentieth of a
    step, and most of the time to compile one.

    Args:
      key: of ``jax.random``.
      shape: of the result, at most 2^32 elements.
      part: the elements are those of one part of a longer first axis; None = all.

    Returns:
      uint32; each depends on the element's index in row-major order, so a longer first
      axis changes none of them.

    Source: the finaliser of MurmurHash3, once for each word of the key.
    """
    size = int(np.prod(shape))
    words = lax.iota(jnp.uint32, size).reshape(shape)
    if part is not None:
        words += part.number().astype(jnp.uint32) * jnp.uint32(size)
    for word in jax.random.key_data(key):  # two, of the default kind of key
        words = _mix(words ^ word)
    return words


class Dropout(nn.Module):
    """Drops elements with a probability."""

    rate: float
    part: StreamPart | None = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Any shape -> the same; unchanged unless training."""
        if not train or self.rate == 0:
            return x
        words = random_words(self.make_rng("dropout"), x.shape, self.part)
        keep = words >= np.uint32(self.rate * 2**32)
        return jnp.where(keep, divide(x, 1 - self.rate), 0)
