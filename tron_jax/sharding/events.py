"""The events of a step divided among devices, each of which encodes its own."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from tron_jax.models.encoder import Encoder, StreamPart
from tron_jax.sharding.shards import AXIS


@dataclasses.dataclass(frozen=True)
class Events:
    """The division of a stream: a range of it for each device, of equal lengths.

    The last devices have padding beyond the stream. All is called within
    ``Shards.over``.

    Attributes:
      devices: over how many the stream is divided.
      unit: what the length of a range is a multiple of.
    """

    devices: int
    unit: int

    def size(self, length: int) -> int:
        """Events of each device, of a stream of some length."""
        return -(-length // (self.unit * self.devices)) * self.unit

    def padded(self, x: jax.Array, fill: Any = 0) -> jax.Array:
        """[N, …] -> [devices · size, …]."""
        room = self.size(len(x)) * self.devices - len(x)
        widths = [(0, room)] + [(0, 0)] * (x.ndim - 1)
        return jnp.pad(x, widths, constant_values=fill)

    def own(self, x: jax.Array, fill: Any = 0) -> jax.Array:
        """The device's part of an array that all have, [N, …] -> [size, …]."""
        size = self.size(len(x))
        return lax.dynamic_slice_in_dim(self.padded(x, fill), self._first(size), size)

    def everywhere(self, own: jax.Array, length: int) -> jax.Array:
        """From the parts of the devices to the whole: [size, …] -> [N, …]."""
        return lax.all_gather(own, AXIS, tiled=True)[:length]

    def owners_sum(self, x: jax.Array) -> jax.Array:
        """Adds up over the devices, each for its own part: [N, …] -> [size, …]."""
        return lax.psum_scatter(self.padded(x), AXIS, tiled=True)

    def to_owners(self, x: jax.Array) -> jax.Array:
        """What all devices have of a device's events: [N, k] -> [size, devices · k]."""
        return lax.all_to_all(
            self.padded(x), AXIS, split_axis=0, concat_axis=1, tiled=True
        )

    def in_place(self, own: jax.Array, length: int) -> jax.Array:
        """The device's part where it stands in the whole, [N, …], 0 elsewhere."""
        whole = jnp.zeros((len(own) * self.devices, *own.shape[1:]), own.dtype)
        first = self._first(len(own))
        return lax.dynamic_update_slice_in_dim(whole, own, first, 0)[:length]

    def _first(self, size: int) -> jax.Array:
        return lax.axis_index(AXIS) * size


def divided(encoder: Encoder, events: Events) -> Encoder:
    """Makes of an encoder one whose ``encode`` has each device encode its events.

    The hidden states of all are then gathered. Of a gradient by them each device takes
    that of its own events: what it has of others may be anything.

    Args:
      encoder: of a whole stream.
      events: the division, its unit that of the encoder.

    Returns:
      The encoder; what it drops is what one device would.
    """
    part = StreamPart(lambda: lax.axis_index(AXIS), lambda x: _before(x, events))

    def encode(
        params: Any,
        carry: Any,
        inputs: jax.Array,
        session: jax.Array,
        position: jax.Array,
        dropout_key: jax.Array | None = None,
    ) -> tuple[jax.Array, Any]:
        length = len(inputs)
        # Padding is of no session, nor of the one that stands before the stream.
        session, position = events.own(session, -2), events.own(position)
        carry = jax.tree.map(events.own, carry)

        def own(params: Any, inputs: jax.Array) -> tuple[jax.Array, Any]:
            return encoder.encode(
                params, carry, inputs, session, position, dropout_key, part=part
            )

        @jax.custom_vjp
        def of_all(params: Any, inputs: jax.Array) -> tuple[jax.Array, Any]:
            return forward(params, inputs)[0]

        def forward(params: Any, inputs: jax.Array) -> tuple[Any, Any]:
            hidden, back, after = jax.vjp(own, params, events.own(inputs), has_aux=True)
            whole = jax.tree.map(
                lambda x: events.everywhere(x, length), (hidden, after)
            )
            return whole, back

        def backward(back: Any, by_whole: Any) -> tuple[Any, jax.Array]:
            by_params, by_own = back(events.own(by_whole[0]))
            return lax.psum(by_params, AXIS), events.everywhere(by_own, length)

        of_all.defvjp(forward, backward)
        return of_all(params, inputs)

    return encoder._replace(encode=encode)


def _before(x: jax.Array, events: Events) -> jax.Array:
    steps = [(device, device + 1) for device in range(events.devices - 1)]
    return lax.ppermute(x[-1:], AXIS, steps)
