"""What the processes of a run decide together, between two dispatches."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

# A number above 0, such as that of a signal, or None
Asked = Callable[[], int | None]


def agreed(mesh: Mesh, asked: Asked) -> Asked:
    """Makes of what one process is asked what all of them answer.

    Each call dispatches the largest number that any process was asked for, behind the
    step that was dispatched last, and answers with that of the call before: nobody
    waits for the newest step, and all hear of a number after the same one.

    Args:
      mesh: of one axis, over all devices of all processes.
      asked: of one process.

    Returns:
      ``asked`` for all; every process calls it after each dispatch.
    """
    (axis,) = mesh.axis_names
    each = NamedSharding(mesh, P(axis))
    largest = jax.jit(jnp.max, out_shardings=NamedSharding(mesh, P()))
    before: list[jax.Array] = []

    def send() -> jax.Array:
        own = np.full(1, asked() or 0, np.int32)
        shape = (mesh.size,)
        return largest(jax.make_array_from_callback(shape, each, lambda _: own))

    @functools.wraps(asked)
    def answer() -> int | None:
        before.append(send())
        if len(before) < 2:
            return None
        return int(before.pop(0)) or None

    return answer
