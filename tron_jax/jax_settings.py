"""What JAX goes by, whatever the environment of a machine sets for all its programs.

A cluster's JAX_ENABLE_X64 or JAX_THREEFRY_PARTITIONABLE would change dtypes and draws,
and with them a run that resumes, without a word.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator

import jax

# Of keys (``rng`` makes them of it), and how their bits are laid out: as jax does
# unasked since 0.5, which the draws of all runs so far follow.
PRNG = "threefry2x32"
PARTITIONABLE = True


@contextlib.contextmanager
def stated() -> Generator[None]:
    """States dtypes, draws and checks for what this thread traces.

    In a context, and not once for all, since we may be guests in somebody's process.
    A thread that is started in it has to enter one of its own.
    """
    with (
        jax.enable_x64(False),
        jax.default_prng_impl(PRNG),
        jax.threefry_partitionable(PARTITIONABLE),
        jax.numpy_dtype_promotion("standard"),
        jax.numpy_rank_promotion("allow"),
        jax.disable_jit(False),
        jax.transfer_guard("allow"),  # the loop forbids where it matters
    ):
        yield


def describe() -> dict[str, str]:
    """What is stated, and what a user may set that changes bits; for a provenance."""
    flags = os.environ.get("XLA_FLAGS", "").split()
    layout = "partitionable" if PARTITIONABLE else "sequential"
    return {
        "prng": f"{PRNG}, {layout}",
        "matmul_precision": getattr(jax.config, "jax_default_matmul_precision", None)
        or "default",
        # One with a path says where to write, and what is published has no paths.
        "xla_flags": " ".join(flag for flag in flags if "/" not in flag),
    }
