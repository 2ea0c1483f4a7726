"""How the rows of the item table lie on the devices of a mesh with one axis.

What runs on a mesh is written as what one of its devices does (``jax.shard_map``): the
item table with all that its optimizer keeps of it is divided by rows, a range of them
for each device, and everything else is the same on every device.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

AXIS = "items"


@dataclasses.dataclass(frozen=True)
class Shards:
    """The division of a table.

    Attributes:
      mesh: of one axis, ``AXIS``.
      num_rows: of the table, as it is saved; the last devices hold rows of 0 beyond.
    """

    mesh: Mesh
    num_rows: int

    @property
    def devices(self) -> int:
        """Over how many devices the rows are divided."""
        return self.mesh.size

    @property
    def rows(self) -> int:
        """Rows that each device holds."""
        return -(-self.num_rows // self.devices)

    @property
    def all_rows(self) -> int:
        """Rows that all devices hold together, those beyond the table included."""
        return self.rows * self.devices

    def first(self) -> jax.Array:
        """The first row of the device that asks; within ``over`` alone."""
        return lax.axis_index(AXIS) * self.rows

    def own(self, ids: jax.Array) -> jax.Array:
        """Where rows of the table lie on the device that asks; within ``over`` alone.

        Args:
          ids: [n] row numbers.

        Returns:
          [n] row numbers of the device. Rows that it does not hold are beyond its own,
          on either side, so that what ascends goes on to ascend.
        """
        own = ids - self.first()
        return jnp.where(own < 0, own - self.rows, own)

    def holds(self, ids: jax.Array) -> jax.Array:
        """Whether the device that asks holds rows of the table; within ``over``."""
        own = ids - self.first()
        return (own >= 0) & (own < self.rows)

    def specs(self, items: Any) -> Any:
        """How the state of the item table is divided.

        Args:
          items: its arrays as one device would hold them, or their shapes.

        Returns:
          The tree with a partition for each array.
        """
        return jax.tree.map(
            lambda x: P(AXIS) if x.shape[:1] == (self.num_rows,) else P(), items
        )

    def over(
        self, function: Callable[..., Any], takes: Sequence[Any], gives: Any
    ) -> Callable[..., Any]:
        """Runs a function of one device on all of them.

        Args:
          function: what each device does with its part of the arguments.
          takes: the partition of each argument, ``P()`` for what all devices have.
          gives: the partition of what is returned.
        """
        return jax.shard_map(
            function,
            mesh=self.mesh,
            in_specs=tuple(takes),
            out_specs=gives,
            check_vma=False,
        )

    def placed(self, specs: Any) -> Any:
        """From partitions to where arrays lie."""
        place = functools.partial(NamedSharding, self.mesh)
        return jax.tree.map(place, specs, is_leaf=lambda x: isinstance(x, P))


def over_devices(
    count: int, num_rows: int, devices: Sequence[jax.Device] | None = None
) -> Shards:
    """Divides a table over the first devices there are.

    Args:
      count: of devices, at most as many as there are.
      num_rows: of the table.
      devices: those there are; None = all that jax sees.
    """
    first = np.array((devices or jax.devices())[:count])
    return Shards(Mesh(first, (AXIS,)), num_rows)
