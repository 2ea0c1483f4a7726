"""Where the state of a run lies: on one device, or on the devices of a mesh."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import PartitionSpec as P

from tron_jax.hosts.agreement import Asked, agreed
from tron_jax.sharding import look_ups
from tron_jax.sharding.shards import AXIS, Shards
from tron_jax.steps import TrainState
from tron_jax.storage.array_files import all_finite


class OneDevice:
    """All on the device that jax takes unasked: nothing is moved."""

    def shapes(self, state: TrainState) -> TrainState:
        """The shapes of the arrays that the train step is compiled for."""
        return state

    def send(self, tree: Any) -> Any:
        """Puts what the host has made where a step takes it from."""
        return jax.device_put(tree)

    def saved(self, state: TrainState) -> TrainState:
        """The arrays, or the shapes, of a state as a checkpoint has them."""
        return state

    def restored(self, state: TrainState) -> TrainState:
        """Puts what a checkpoint had where training takes it from."""
        return state

    def all_finite(self, state: TrainState) -> jax.Array:
        """Whether all floats of a state are finite, a scalar."""
        return _all_finite(state)

    def agreed(self, asked: Asked) -> Asked:
        """Makes of what each process is asked what all of them answer."""
        return asked


_all_finite = jax.jit(all_finite)


@dataclasses.dataclass(frozen=True)
class OnMesh:
    """The item table divided over the devices of a mesh, all else on each of them.

    A checkpoint has the table as one device has it, without rows beyond its last, so
    that it can be restored to any number of them; each process writes and reads the
    rows of its devices.

    Attributes:
      shards: the division.
      specs: the partition of each array of a state.
    """

    shards: Shards
    specs: TrainState

    def shapes(self, state: TrainState) -> TrainState:
        """See ``OneDevice.shapes``."""

        def of(x: Any, place: Any) -> jax.ShapeDtypeStruct:
            return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place)

        return jax.tree.map(of, state, self.shards.placed(self.specs))

    def send(self, tree: Any) -> Any:
        """See ``OneDevice.send``."""
        places = self.shards.placed(look_ups.specs(tree))
        if not self.shards.mesh.is_multi_process:
            return jax.device_put(tree, places)
        # Every process has the same, which device_put would compare each time.
        return jax.tree.map(_own_part, tree, places)

    def saved(self, state: TrainState) -> TrainState:
        """See ``OneDevice.saved``; arrays of the host, of one process."""
        return jax.tree.map(self._whole, state, self.specs)

    def restored(self, state: TrainState) -> TrainState:
        """See ``OneDevice.restored``."""

        def divided(x: Any, spec: P, place: Any) -> jax.Array:
            if spec == P():
                return jax.device_put(x, place)
            rows = np.asarray(x)
            shape = (self.shards.all_rows, *rows.shape[1:])

            def part(index: Any) -> np.ndarray:
                own = rows[index[0]]
                room = [(0, self.shards.rows - len(own))] + [(0, 0)] * (rows.ndim - 1)
                return np.pad(own, room)

            return jax.make_array_from_callback(shape, place, part)

        return jax.tree.map(divided, state, self.specs, self.shards.placed(self.specs))

    def all_finite(self, state: TrainState) -> jax.Array:
        """See ``OneDevice.all_finite``."""
        return self._all_finite(state)

    def agreed(self, asked: Asked) -> Asked:
        """See ``OneDevice.agreed``."""
        mesh = self.shards.mesh
        return agreed(mesh, asked) if mesh.is_multi_process else asked

    @functools.cached_property
    def _all_finite(self) -> jax.stages.Wrapped:

        def own(state: TrainState) -> jax.Array:
            return lax.pmin(all_finite(state).astype(jnp.int32), AXIS) > 0

        return jax.jit(self.shards.over(own, [self.specs], P()))

    def _whole(self, x: Any, spec: P) -> Any:
        divided = spec != P()
        shape = (self.shards.num_rows, *x.shape[1:]) if divided else x.shape
        if isinstance(x, jax.ShapeDtypeStruct):
            return jax.ShapeDtypeStruct(shape, x.dtype)
        if not divided:
            return np.array(x)
        whole = np.empty(shape, x.dtype)
        for shard in x.addressable_shards:
            rows = shard.index[0]
            whole[rows] = np.asarray(shard.data)[: len(whole[rows])]
        return whole


def _own_part(x: Any, place: jax.sharding.Sharding) -> jax.Array:
    if isinstance(x, jax.Array) and x.sharding.is_equivalent_to(place, x.ndim):
        return x  # such as all clicks, which are sent once
    content = np.asarray(x)
    return jax.make_array_from_callback(content.shape, place, content.__getitem__)


Placement = OneDevice | OnMesh
