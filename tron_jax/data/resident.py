"""Packed batches that the device makes itself, of clicks that it holds.

The host then sends two numbers a dispatch. The batches are those of ``packing``, number
for number.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tron_jax.data.packing import (
    Array,
    Batch,
    PackedBatches,
    Position,
    abstract_ids,
)


class Clicks(NamedTuple):
    """Training sessions, on the device.

    Attributes:
      items: [events] int32 item ids, session after session.
      starts: [sessions] int32 index in ``items`` of the first input that is kept.
      counts: [sessions] int32 inputs that are kept.
    """

    items: Array
    starts: Array
    counts: Array


class Layout(NamedTuple):
    """What a program is compiled for.

    Attributes:
      steps: T, the most steps of a dispatch.
      size: N of its batches.
      batch_size: sessions a batch.
      max_session_length: the number of positions.
      position: numbering of the positions.
    """

    steps: int
    size: int
    batch_size: int
    max_session_length: int
    position: Position


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ResidentGroup:
    """A dispatch of consecutive steps whose batches the device makes.

    Attributes:
      clicks: of all sessions.
      order: [sessions] int32 the sessions in the order of the epoch; None where that is
        their own.
      first: scalar int32, the epoch's batch to begin with.
      steps: scalar int32, how many steps are to be made.
      layout: of the batches.
    """

    clicks: Clicks
    order: Array | None
    first: Array
    steps: Array
    layout: Layout = dataclasses.field(metadata={"static": True})

    @property
    def shape(self) -> tuple[int, ...]:
        """[T, N]; a program is compiled for each."""
        return (self.layout.steps, self.layout.size)

    def batch(self, i: Array) -> Batch:
        """The batch of the dispatch's step ``i``, inside a compiled program."""
        return make_batch(self.clicks, self.order, self.first + i, self.layout)


def make_batch(
    clicks: Clicks, order: Array | None, number: Array, layout: Layout
) -> Batch:
    """Packs a batch of an epoch.

    Args:
      clicks: of all sessions.
      order: [sessions] the sessions in the order of the epoch; None for their own.
      number: scalar int32, which of the epoch's batches; one beyond the last is empty.
      layout: of the batch.

    Returns:
      The batch that ``packing.pack`` makes of the same sessions.
    """
    sessions = len(clicks.counts)
    place = number * layout.batch_size + jnp.arange(layout.batch_size, dtype=jnp.int32)
    row = jnp.minimum(place, sessions - 1)
    row = row if order is None else order[row]
    counts = jnp.where(place < sessions, clicks.counts[row], 0)
    ends = jnp.cumsum(counts, dtype=jnp.int32)
    n = jnp.arange(layout.size, dtype=jnp.int32)
    # The session of an input is the number of those that end before it: as many
    # comparisons as that takes are one operation, a binary search is a loop of them.
    session = jnp.sum(ends <= n[:, None], axis=1, dtype=jnp.int32)
    real = session < layout.batch_size
    of = jnp.minimum(session, layout.batch_size - 1)
    within = n - (ends - counts)[of]
    source = jnp.where(real, clicks.starts[row][of] + within, 0)
    if layout.position == "from_end":
        within += layout.max_session_length - counts[of]
    return Batch(
        items=jnp.where(real, clicks.items[source], 0),
        labels=jnp.where(real, clicks.items[source + 1], 0),
        session=session,
        position=jnp.where(real, within, 0),
        weight=real.astype(jnp.float32),
    )


class ResidentBatches:
    """``PackedBatches`` whose clicks lie on the device from the first dispatch on."""

    def __init__(
        self, packed: PackedBatches, send: Callable[[Any], Any] = jax.device_put
    ):
        """Nothing is sent yet.

        Args:
          packed: the batches.
          send: puts arrays of the host to where a step takes them from.
        """
        self._packed = packed
        self._send = send
        self._clicks: Clicks | None = None
        self._order: tuple[int, Any] = (-1, None)  # of which epoch

    @property
    def steps_per_epoch(self) -> int:
        """Batches an epoch, the partial one included."""
        return self._packed.steps_per_epoch

    @property
    def held(self) -> tuple[Clicks, Any]:
        """The shapes of what lies on the device: clicks, and the order of an epoch."""
        sessions = self._packed.sessions
        of_sessions = abstract_ids(sessions.num_sessions)
        events = int(sessions.offsets[-1] - sessions.offsets[0])
        clicks = Clicks(abstract_ids(events), of_sessions, of_sessions)
        return clicks, None if self._in_order else of_sessions

    @property
    def shapes(self) -> list[ResidentGroup]:
        """The shapes that ``dispatch_at`` may return."""
        number = abstract_ids()
        return [
            ResidentGroup(*self.held, number, number, self._layout(size))
            for size in self._packed.sizes
        ]

    @property
    def _in_order(self) -> bool:
        return self._packed.order == "chronological"

    def sessions_before(self, step: int) -> int:
        """Sessions that the steps before one hold, over all epochs."""
        return self._packed.sessions_before(step)

    def dispatch_at(self, step: int, until: int) -> tuple[ResidentGroup, int]:
        """As ``PackedBatches.dispatch_at``."""
        packed = self._packed
        epoch, first = divmod(step, packed.steps_per_epoch)
        steps = min(until, packed.group(step).stop) - step
        group = ResidentGroup(
            self._clicks_on_device(),
            self._order_on_device(epoch),
            np.int32(first),
            np.int32(steps),
            self._layout(packed.size(step)),
        )
        return group, steps

    def _layout(self, size: int) -> Layout:
        packed = self._packed
        return Layout(
            packed.steps_per_group,
            size,
            packed.batch_size,
            packed.max_session_length,
            packed.position,
        )

    def _clicks_on_device(self) -> Clicks:
        if self._clicks is None:
            sessions = self._packed.sessions
            first, last = int(sessions.offsets[0]), int(sessions.offsets[-1])
            starts, counts = self._packed.inputs(np.arange(sessions.num_sessions))
            numbers = ((starts - first).astype(np.int32), counts.astype(np.int32))
            clicks = Clicks(sessions.items[first:last], *numbers)
            self._clicks = self._send(clicks)
        return self._clicks

    def _order_on_device(self, epoch: int) -> Any:
        """[sessions] of the epoch; sent once for each."""
        if self._in_order:
            return None
        if self._order[0] != epoch:
            order = self._packed.permutation(epoch).astype(np.int32)
            self._order = (epoch, self._send(order))
        return self._order[1]
