"""Session-parallel batches: each slot has one event a step, session after session."""

from __future__ import annotations

import dataclasses
import functools
from heapq import heapreplace
from typing import NamedTuple

import numpy as np

from tron_jax.data.packing import (
    Batch,
    StackedBatches,
    abstract_batch,
    abstract_ids,
)
from tron_jax.data.sessions import Sessions

_CHUNK = 1 << 16  # sessions turned into Python's own numbers together


class Schedule(NamedTuple):
    """Which slot a session is in, and when.

    Attributes:
      slot: [sessions] int32.
      first: [sessions] int64 step of the session's first input; never falls.
      steps: until the last session is finished.
      num_slots: number of slots.
      order: [sessions] int32 sessions by slot, and within a slot by step.
      keys: [sessions] int64 ``slot * steps + first`` of each of those, ascending.
    """

    slot: np.ndarray
    first: np.ndarray
    steps: int
    num_slots: int
    order: np.ndarray
    keys: np.ndarray


def make_schedule(counts: np.ndarray, num_slots: int) -> Schedule:
    """Gives each session, in order, to the slot that is free first.

    Of several free slots the lowest gets the next session. At the end, when no session
    is left, free slots stay idle until the last session is finished.

    Args:
      counts: [sessions] inputs of each session, at least 1.
      num_slots: how many sessions run at a time.

    Returns:
      The schedule.

    Raises:
      ValueError: if a session has no input.

    Source: Hidasi et al., ICLR 2016, §3.1.1, session-parallel mini-batches.
    """
    if len(counts) and counts.min() < 1:
        raise ValueError("a session without inputs cannot be scheduled")
    # One number per slot, free_from * num_slots + slot: the least number of the heap
    # is that of the lowest slot among those that are free first.
    heap = list(range(num_slots))
    assigned = np.empty(len(counts), np.int64)
    for start in range(0, len(counts), _CHUNK):
        part = counts[start : start + _CHUNK].astype(np.int64) * num_slots
        assigned[start : start + _CHUNK] = [
            heapreplace(heap, heap[0] + count) for count in part.tolist()
        ]
    first, slot = np.divmod(assigned, num_slots)
    steps = max(heap) // num_slots
    # Steps never fall, so a stable sort by slot sorts by step within a slot; NumPy's
    # is a radix sort, of linear time, where numbers have at most 16 bits.
    narrow = slot.astype(np.min_scalar_type(num_slots))
    order = np.argsort(narrow, kind="stable").astype(np.int32)
    keys = slot[order] * steps + first[order]
    return Schedule(slot.astype(np.int32), first, steps, num_slots, order, keys)


def lookup(
    schedule: Schedule, counts: np.ndarray, start: int, num_steps: int
) -> tuple[np.ndarray, np.ndarray]:
    """Finds the sessions and inputs that the slots have in consecutive steps.

    Args:
      schedule: of the sessions.
      counts: [sessions] inputs of each session, as given to ``make_schedule``.
      start: the first step.
      num_steps: T; steps beyond the schedule's end are idle.

    Returns:
      [T, slots] int64 session, -1 = idle, and [T, slots] int64 index of the step's
      input in it, 0 = idle.
    """
    shape = (num_steps, schedule.num_slots)
    if not len(counts):
        return np.full(shape, -1), np.zeros(shape, np.int64)
    step = start + np.arange(num_steps)
    slot = np.arange(schedule.num_slots)[:, None]
    # The last session that began in a slot up to a step; searched slot by slot, in the
    # order of the keys, for the sake of the CPU's cache.
    wanted = slot * schedule.steps + np.minimum(step, schedule.steps - 1)
    index = np.searchsorted(schedule.keys, wanted, side="right") - 1
    session = schedule.order[index].astype(np.int64)
    within = step - schedule.first[session]
    # For a slot that has no session at all, one of the slot before it was found.
    busy = (schedule.slot[session] == slot) & (within < counts[session])
    return np.where(busy, session, -1).T, np.where(busy, within, 0).T


@dataclasses.dataclass(frozen=True)
class SlotBatches:
    """The training batches of an encoder that carries a state from event to event.

    A step's batch has N = batch_size inputs, one per slot: ``session`` is the slot
    (batch_size where it is idle, so it does not ascend as in packed batches) and
    ``position`` the input's index in its session, where 0 means that the slot's state
    is cleared. An epoch holds each input exactly once.

    Attributes:
      sessions: training sessions, each of at least two events.
      batch_size: slots.
      max_session_length: inputs kept of a longer session, its last ones.
      steps_per_call: T, the most steps of a dispatch.
    """

    sessions: Sessions
    batch_size: int
    max_session_length: int
    steps_per_call: int

    @functools.cached_property
    def counts(self) -> np.ndarray:
        """[sessions] int32 inputs of each session."""
        return np.minimum(self.sessions.lengths - 1, self.max_session_length)

    @functools.cached_property
    def schedule(self) -> Schedule:
        """Of an epoch."""
        return make_schedule(self.counts, self.batch_size)

    @property
    def steps_per_epoch(self) -> int:
        """Steps an epoch, those included at which some slots are idle."""
        return self.schedule.steps

    @property
    def shapes(self) -> list[StackedBatches]:
        """The shapes that ``dispatch_at`` may return."""
        batches = abstract_batch(self.steps_per_call, self.batch_size)
        return [StackedBatches(batches, abstract_ids())]

    def sessions_before(self, step: int) -> int:
        """Sessions that the steps before one have started, over all epochs."""
        epoch, step = divmod(step, self.steps_per_epoch)
        started = int(np.searchsorted(self.schedule.first, step))
        return epoch * self.sessions.num_sessions + started

    def dispatch_at(self, step: int, until: int) -> tuple[StackedBatches, int]:
        """The next steps, as many as a dispatch runs.

        Args:
          step: the first, counted from 0 over all epochs.
          until: where to end at the latest, later than the first; not included.

        Returns:
          Their batches, always of one shape, and their number; the last step is at the
          latest that of the epoch.
        """
        first = step % self.steps_per_epoch
        steps = min(self.steps_per_call, until - step, self.steps_per_epoch - first)
        session, within = lookup(self.schedule, self.counts, first, self.steps_per_call)
        real = session >= 0
        real[steps:] = False
        last = self.sessions.offsets[session + 1].astype(np.int64) - 1
        source = np.where(real, last - self.counts[session] + within, 0)
        clicks = self.sessions.items
        batches = Batch(
            items=np.where(real, clicks[source], 0),
            labels=np.where(real, clicks[source + 1], 0),
            session=np.where(real, np.arange(self.batch_size), self.batch_size).astype(
                np.int32
            ),
            position=np.where(real, within, 0).astype(np.int32),
            weight=real.astype(np.float32),
        )
        return StackedBatches(batches, np.int32(steps)), steps
