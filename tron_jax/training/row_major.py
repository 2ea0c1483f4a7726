"""Matrices of a state that lie row by row, also where a TPU would have them by columns.

A TPU keeps a matrix in tiles of 8 x 128 numbers, and XLA lays out an argument so that
least is padded: a table 200 wide by columns, since by rows it would be 256. But a step
reads and writes rows. Given the table by columns, it copies that and its moments to
rows and back, with temporaries larger than all of them; so does an evaluation, one way.
"""

from __future__ import annotations

from typing import Any

import jax
from jax.experimental.layout import Format, Layout
from jax.sharding import Sharding, SingleDeviceSharding

# Dimensions from the slowest to the fastest, by platform; others do so unasked.
ORDERS = {"tpu": (0, 1)}


def formats(state: Any) -> Any | None:
    """How the matrices of a state are to lie where it is computed.

    Args:
      state: arrays or their shapes; one that names no device is of jax's first.

    Returns:
      The tree with a ``Format`` for each matrix and None for what XLA may lay out; None
      alone where that is all.
    """
    found = jax.tree.map(_format, state)
    return found if jax.tree.leaves(found) else None


def shapes(state: Any) -> Any:
    """Shapes of a state that lies as ``formats`` says, of arrays or their shapes."""
    wanted = formats(state)
    if wanted is None:
        return state

    def of(x: Any, lies: Format | None) -> jax.ShapeDtypeStruct:
        place = getattr(x, "sharding", None) if lies is None else lies
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place)

    return jax.tree.map(of, state, wanted)


def laid_out(state: Any, wanted: Any) -> Any:
    """Lays a state out anew where it does not lie as wanted; such arrays are donated.

    Args:
      state: arrays.
      wanted: what ``formats`` returned of it.
    """
    if wanted is None:
        return state

    def of(x: Any, lies: Format | None) -> jax.Array:
        if lies is None or _order(x.format) == _order(lies):
            return x
        return jax.device_put(x, lies, donate=True)

    return jax.tree.map(of, state, wanted)


def _format(x: Any) -> Format | None:
    place = getattr(x, "sharding", None) or SingleDeviceSharding(jax.devices()[0])
    order = ORDERS.get(_platform(place))
    return Format(Layout(order), place) if order and x.ndim == 2 else None


def _platform(place: Sharding) -> str:
    return next(iter(place.device_set)).platform


def _order(lies: Format) -> tuple[int, ...] | None:
    return getattr(lies.layout, "major_to_minor", None)
