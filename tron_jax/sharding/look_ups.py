"""What is known of every item, of which each device of a mesh has a part."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import PartitionSpec as P

from tron_jax.sampling.popularity import ClickCounts, Popularity
from tron_jax.sampling.sources import Constants
from tron_jax.sharding.shards import AXIS, Shards


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["parts"],
    meta_fields=["size", "shards"],
)
@dataclasses.dataclass(frozen=True)
class Divided:
    """An array that is indexed as if each device had it whole; within ``Shards.over``.

    Attributes:
      parts: [shards.all_rows] elements, within ``over`` the device's [shards.rows].
      size: how many there are.
      shards: the division.
    """

    parts: Any
    size: int
    shards: Shards

    def __getitem__(self, ids: jax.Array) -> jax.Array:
        """Returns elements [...] of ids [...], the same on every device."""
        own = jnp.clip(ids - self.shards.first(), 0, self.shards.rows - 1)
        return lax.psum(jnp.where(self.shards.holds(ids), self.parts[own], 0), AXIS)


def divide(constants: Constants, shards: Shards) -> Constants:
    """Divides the arrays of ``Popularity`` and ``ClickCounts`` like the item table.

    Args:
      constants: of the sources of negatives, as NumPy arrays. Of other sources, whose
        use of theirs is not known, each device has all.
      shards: the division of the table.
    """

    def of_array(x: Any) -> Any:
        if not np.ndim(x):
            return x
        padded = np.pad(x, (0, shards.all_rows - len(x)))
        return Divided(padded, len(x), shards)

    def of_source(known: Any) -> Any:
        counts = isinstance(known, Popularity | ClickCounts)
        return type(known)(*map(of_array, known)) if counts else known

    return {name: of_source(known) for name, known in constants.items()}


def specs(constants: Constants) -> Any:
    """The partition of each array, divided or not."""

    def of(x: Any) -> Any:
        return dataclasses.replace(x, parts=P(AXIS)) if is_divided(x) else P()

    return jax.tree.map(of, constants, is_leaf=is_divided)


def is_divided(x: Any) -> bool:
    """Whether devices share an array."""
    return isinstance(x, Divided)


def whole(constants: Constants) -> Constants:
    """The constants as one device has them."""
    return jax.tree.map(
        lambda x: x.parts[: x.size] if is_divided(x) else x,
        constants,
        is_leaf=is_divided,
    )
