"""What a train step would take on devices that are not there: arithmetic on paper.

Nothing here is measured. The rates of the devices are their makers'; the shares of them
that are reached, and what an operation costs before it does anything, are assumed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

# Shares of the rates that are assumed to be reached.
OF_MATMUL, OF_MEMORY, OF_LINK = 0.3, 0.6, 0.6
OPERATIONS = 500  # a step; the program of a CPU has about as many fusions
HOP = 1e-6  # seconds from a device to the next, assumed


class Rates(NamedTuple):
    """A kind of device, as its maker describes it.

    Attributes:
      name: of the device.
      matmul: FLOP/s of the matmuls that JAX makes of float32 there unasked.
      memory: bytes/s to and from its memory.
      link: bytes/s that it receives in a ring.
      room: bytes of its memory.
      lanes: to a multiple of which it pads the rows of a table.
      begin: seconds that an operation costs at least, assumed.
      begin_collective: seconds that a collective costs at least, assumed.
      most: devices that are linked so.
      hops: by devices, how often what one of them sends is passed on until all have it.
    """

    name: str
    matmul: float
    memory: float
    link: float
    room: float
    lanes: int
    begin: float
    begin_collective: float
    most: int
    hops: Callable[[int], float]


H100 = Rates(
    "H100 SXM",
    matmul=495e12,
    memory=3.35e12,
    link=450e9,
    room=80e9,
    lanes=1,
    begin=2e-6,
    begin_collective=15e-6,
    most=8,
    hops=lambda devices: devices - 1,
)
V5P = Rates(
    "TPU v5p",
    matmul=459e12,
    memory=2.765e12,
    link=200e9,
    room=95 * 2**30,
    lanes=128,
    begin=1e-6,
    begin_collective=5e-6,
    most=6144,
    hops=lambda devices: 3 * (devices ** (1 / 3) - 1),
)
# A ring over D devices sends of what a collective gives, in bytes, this many times.
RING = {
    "all-reduce": lambda devices: 2 * (devices - 1) / devices,
    "all-gather": lambda devices: (devices - 1) / devices,
    "all-to-all": lambda devices: (devices - 1) / devices,
    "reduce-scatter": lambda devices: devices - 1,
    "collective-permute": lambda devices: 1,
}


class Step(NamedTuple):
    """A compiled step, of each of D devices.

    Attributes:
      devices: D.
      inputs: N of the step, padding included.
      drawn: candidates that the batch shares.
      width: of the item table.
      state: bytes of table, moments and encoder.
      temporaries: bytes beside them.
      flops: by XLA's count.
      received: bytes of what the collectives of each kind give.
      calls: how many of each kind there are.
    """

    devices: int
    inputs: int
    drawn: int
    width: int
    state: int
    temporaries: int
    flops: float
    received: dict[str, int]
    calls: dict[str, int]


class Seconds(NamedTuple):
    """Where the time of a step would go; nothing is assumed to overlap."""

    matmul: float
    memory: float
    network: float
    begin: float

    @property
    def all(self) -> float:
        """Of the step."""
        return sum(self)


def seconds(step: Step, rates: Rates) -> Seconds:
    """The time of a step on paper."""
    kinds = step.received.items()
    sent = sum(RING[kind](step.devices) * received for kind, received in kinds)
    waiting = rates.begin_collective + HOP * rates.hops(step.devices)
    return Seconds(
        step.flops / (OF_MATMUL * rates.matmul),
        moved(step) / (OF_MEMORY * rates.memory),
        sent / (OF_LINK * rates.link) + sum(step.calls.values()) * waiting,
        OPERATIONS * rates.begin,
    )


def moved(step: Step) -> float:
    """Bytes to and from the memory of a device, counted by hand.

    The rows of a step (of its inputs, its labels and what is drawn) ten times: table
    and two moments read and written, the gradient added up and read. The scores of its
    candidates, and of its events by those of the batch, five times: written, selected
    from, and in the gradient written and read twice. Sixty times the hidden states of
    its events, forwards and backwards through two layers. Where that is less than twice
    the temporaries, those: what is held has been written and is read.
    """
    own = step.inputs / step.devices
    rows = (2 * step.inputs + step.drawn) * step.width
    scores = step.inputs * step.drawn / step.devices + own * step.inputs
    counted = 4.0 * (10 * rows + 5 * scores + 60 * own * step.width)
    return max(counted, 2.0 * step.temporaries)


def needed(step: Step, rates: Rates) -> float:
    """Bytes of a device's memory, the rows padded as it pads them."""
    padded = math.ceil(step.width / rates.lanes) * rates.lanes / step.width
    return step.state * padded + step.temporaries
