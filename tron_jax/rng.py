"""Randomness: every key follows from (seed, step, stream) and is never stored.

Stream numbers never change meaning: a run of an older version stays repeatable.
"""

import zlib

import jax
import jax.numpy as jnp
import numpy as np

from tron_jax.jax_settings import PRNG

Seed = int | jax.Array  # an array is a scalar of uint32

INIT = 0
DROPOUT = 1
ORDER = 4

# Of the sources of negatives that have a number of their own.
SOURCE_STREAMS = {"uniform": 2, "in_batch": 3, "popularity": 5}


def source_stream(name: str) -> int:
    """The stream of a source of negatives.

    Args:
      name: of the source.

    Returns:
      Its number in ``SOURCE_STREAMS``; else one from 2^30 to 2^31 - 1 that follows from
      the name alone (its CRC-32), so that a new source needs no number and changes no
      other source's draws.
    """
    if name in SOURCE_STREAMS:
        return SOURCE_STREAMS[name]
    return 2**30 + zlib.crc32(name.encode()) % 2**30


def step_key(seed: Seed, step: jax.Array, stream: int) -> jax.Array:
    """The key of one stream at one step.

    Args:
      seed: ``train.seed``, 0 to 2^32 - 1; an array where a program serves all seeds.
      step: scalar, the number of updates made so far.
      stream: one of this module's numbers, or of ``source_stream``.

    Returns:
      A typed key of the kind ``jax_settings.PRNG``, whatever jax makes by default.
    """
    # What jax.random.key makes of a seed, but for JAX_RANDOM_SEED_OFFSET.
    bits = jnp.stack([np.uint32(0), jnp.asarray(seed, np.uint32)])
    key = jax.random.wrap_key_data(bits, impl=PRNG)
    return jax.random.fold_in(jax.random.fold_in(key, stream), step)


def host_generator(seed: int, step: int, stream: int) -> np.random.Generator:
    """The same for what is drawn on the host: a counter-based NumPy generator."""
    return np.random.Generator(np.random.Philox(key=[seed, (stream << 32) + step]))
