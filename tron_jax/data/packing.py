"""Packed batches: the sessions of a batch laid end to end in one stream of inputs."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, Literal, NamedTuple

import jax
import numpy as np

from tron_jax import rng
from tron_jax.data.sessions import Sessions

Position = Literal["from_start", "from_end"]
Order = Literal["chronological", "shuffled"]
MAX_SHAPES = 8
# Of groups, which are for accelerators. A GPU times kernels for each program before it
# runs (a minute or more for a step of TRON XL on an H100), and pays little for padding.
MAX_SHAPES_OF_GROUPS = 3
Array = Any  # of NumPy where a batch is made, of JAX inside a step


class Batch(NamedTuple):
    """A stream of N inputs; after the last session it is padding.

    Attributes:
      items: [N] int32 inputs, the events from which the next is predicted; 0 = padding.
      labels: [N] int32 next item of each input; 0 = padding.
      session: [N] int32 row of the batch that the input belongs to, from 0 on, in
        ascending order; the number of sessions that a batch may have = padding.
      position: [N] int32 position in the session, as the encoder numbers it; 0 =
        padding.
      weight: [N] float32, 1 = a prediction that counts, 0 = one that does not.
    """

    items: Array
    labels: Array
    session: Array
    position: Array
    weight: Array

    @property
    def shape(self) -> tuple[int, ...]:
        """[N]; a program is compiled for each."""
        return self.items.shape


class StackedBatches(NamedTuple):
    """The batches of consecutive steps, for one dispatch.

    Attributes:
      batches: a Batch whose arrays are [T, N].
      steps: scalar int32, how many of the T steps are to be made; the rest is padding.
    """

    batches: Batch
    steps: Array

    @property
    def shape(self) -> tuple[int, ...]:
        """[T, N]; a program is compiled for each."""
        return self.batches.shape

    def batch(self, i: Array) -> Batch:
        """The batch of the dispatch's step ``i``, inside a compiled program."""
        return jax.tree.map(lambda of_all: of_all[i], self.batches)


def abstract_ids(*shape: int) -> jax.ShapeDtypeStruct:
    """The shape and dtype of an int32 array, as a compiler needs them."""
    return jax.ShapeDtypeStruct(shape, np.int32)


def abstract_batch(*shape: int) -> Batch:
    """The shapes and dtypes of a batch whose arrays have a given shape."""
    whole = abstract_ids(*shape)
    return Batch(whole, whole, whole, whole, jax.ShapeDtypeStruct(shape, np.float32))


def block_size(max_session_length: int) -> int:
    """Length of an attention block: no session spans more than two of them.

    Args:
      max_session_length: the most inputs of a session.

    Returns:
      The next multiple of 16, which keeps matmuls on whole vector registers.
    """
    return -(-max_session_length // 16) * 16


def pack(
    clicks: np.ndarray,
    starts: np.ndarray,
    counts: np.ndarray,
    *,
    size: int,
    pad_session: int,
    max_session_length: int,
    position: Position,
) -> Batch:
    """Lays sequences end to end and pads the stream to ``size``.

    Args:
      clicks: [events] item ids of the data set, flat.
      starts: [sequences] index in ``clicks`` of the first input of each sequence.
      counts: [sequences] number of inputs, 1..max_session_length; the label of the
        last one stands behind it in ``clicks``.
      size: N, at least the sum of counts.
      pad_session: the session number of padding.
      max_session_length: the number of positions.
      position: ``from_start`` counts 0, 1, …; ``from_end`` lets the last input stand at
        ``max_session_length - 1`` (the published model, which pads on the left).

    Returns:
      A batch of fresh arrays.

    Raises:
      ValueError: if the sequences do not fit.
    """
    total = int(counts.sum())
    if total > size:
        raise ValueError(f"{total} inputs do not fit into a stream of {size}")
    sequence = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    first = np.cumsum(counts) - counts
    within = np.arange(total) - first[sequence]
    source = starts[sequence] + within
    if position == "from_end":
        within += (max_session_length - counts)[sequence]

    def padded(values: np.ndarray, fill: int, dtype: type) -> np.ndarray:
        out = np.full(size, fill, dtype)
        out[:total] = values
        return out

    return Batch(
        items=padded(clicks[source], 0, np.int32),
        labels=padded(clicks[source + 1], 0, np.int32),
        session=padded(sequence, pad_session, np.int32),
        position=padded(within, 0, np.int32),
        weight=padded(np.ones(total), 0, np.float32),
    )


def bucket_sizes(needed: np.ndarray, block: int, most: int = MAX_SHAPES) -> list[int]:
    """Chooses the lengths of stream that a run compiles.

    Sizes an eighth of the mean batch apart waste about a sixteenth of the work on
    padding. If those would be more than ``most``, the subset that pads least is kept.

    Args:
      needed: [batches] inputs of each batch.
      block: attention block; every size is a multiple of it.
      most: the most sizes.

    Returns:
      Ascending sizes; the last holds the largest batch.
    """
    step = max(1, round(float(needed.mean()) / 8 / block)) * block
    sizes, batches = np.unique(-(-needed // step) * step, return_counts=True)
    if len(sizes) <= most:
        return [int(size) for size in sizes]
    # cost[j] = least padding with sizes[j] chosen and all smaller batches served
    below = np.concatenate([[0], np.cumsum(batches)])
    filled = np.concatenate([[0], np.cumsum(batches * sizes)])
    spread = sizes * (below[1:] - below[:-1, None]) - (filled[1:] - filled[:-1, None])
    spread = np.where(np.tri(len(sizes), k=-1, dtype=bool), np.inf, spread)
    cost, choices = spread[0], []
    for _ in range(most - 1):
        through = cost[:-1, None] + spread[1:]
        choices.append(through.argmin(0))
        cost = np.concatenate([[np.inf], through.min(0)[1:]])
    last = len(sizes) - 1
    chosen = [last]
    for choice in reversed(choices):
        last = int(choice[last])
        chosen.append(last)
    return [int(sizes[i]) for i in reversed(chosen)]


def steps_per_epoch(num_sessions: int, batch_size: int) -> int:
    """Batches that sessions make, the partial one included."""
    return -(-num_sessions // batch_size)


@dataclasses.dataclass(frozen=True)
class PackedBatches:
    """The training batches of a run: ``at(step)`` is a pure function of the step.

    A dispatch makes the steps of a group, or what is left of it. Groups lie at fixed
    steps of an epoch and all batches of one are padded to one length, which therefore
    does not depend on where a run was cut off.

    Attributes:
      sessions: training sessions, each of at least two events.
      batch_size: sessions a batch; the last batch of an epoch may hold fewer.
      max_session_length: inputs kept of a longer session, its last ones.
      position: numbering of the positions.
      order: ``chronological``, as published, or ``shuffled`` anew each epoch.
      seed: of the shuffling.
      steps_per_group: steps; with 1, a dispatch is given a Batch, else StackedBatches.
    """

    sessions: Sessions
    batch_size: int
    max_session_length: int
    position: Position
    order: Order
    seed: int
    steps_per_group: int = 1

    @property
    def steps_per_epoch(self) -> int:
        """Batches an epoch, the partial one included."""
        return steps_per_epoch(self.sessions.num_sessions, self.batch_size)

    @functools.cached_property
    def sizes(self) -> list[int]:
        """The lengths of stream that occur in any epoch.

        At most ``MAX_SHAPES``, or ``MAX_SHAPES_OF_GROUPS`` where a group is of several
        steps.
        """
        most = MAX_SHAPES if self.steps_per_group == 1 else MAX_SHAPES_OF_GROUPS
        inputs = np.minimum(self.sessions.lengths - 1, self.max_session_length)
        block = block_size(self.max_session_length)

        def per_group(order: np.ndarray | slice) -> np.ndarray:
            edges = np.arange(0, len(inputs), self.batch_size)
            batches = np.add.reduceat(inputs[order], edges)
            edges = np.arange(0, len(batches), self.steps_per_group)
            return np.maximum.reduceat(batches, edges)

        if self.order == "chronological":
            return bucket_sizes(per_group(slice(None)), block, most)
        # The sizes may not depend on the number of epochs, or a longer run would not
        # continue a shorter one bit for bit; so the last holds any possible batch.
        sample = np.concatenate([per_group(self.permutation(e)) for e in range(8)])
        sizes = bucket_sizes(sample, block, most - 1)
        longest = np.sort(inputs)[-self.batch_size :].sum()
        largest = int(-(-longest // block) * block)
        return sizes if largest <= sizes[-1] else [*sizes, largest]

    @property
    def shapes(self) -> list[Batch | StackedBatches]:
        """The shapes that ``dispatch_at`` may return."""
        group = self.steps_per_group
        if group == 1:
            return [abstract_batch(size) for size in self.sizes]
        return [
            StackedBatches(abstract_batch(group, size), abstract_ids())
            for size in self.sizes
        ]

    def permutation(self, epoch: int) -> np.ndarray:
        """[sessions] the sessions in the order of an epoch that is shuffled."""
        return _permutation(self.seed, epoch, self.sessions.num_sessions)

    def sessions_before(self, step: int) -> int:
        """Sessions that the steps before one hold, over all epochs."""
        epoch, batch = divmod(step, self.steps_per_epoch)
        total = self.sessions.num_sessions
        return epoch * total + min(batch * self.batch_size, total)

    def rows(self, step: int) -> np.ndarray:
        """Indices of the sessions of a step's batch, in stream order."""
        epoch, batch = divmod(step, self.steps_per_epoch)
        start = batch * self.batch_size
        stop = min(start + self.batch_size, self.sessions.num_sessions)
        if self.order == "chronological":
            return np.arange(start, stop)
        return self.permutation(epoch)[start:stop]

    def inputs(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where the inputs of some sessions are in ``sessions.items``.

        Args:
          rows: [n] indices of the sessions.

        Returns:
          [n] int64 index of the first input that is kept, and [n] int64 how many are.
        """
        ends = self.sessions.offsets[rows + 1].astype(np.int64)
        starts = self.sessions.offsets[rows].astype(np.int64)
        counts = np.minimum(ends - starts - 1, self.max_session_length)
        return ends - 1 - counts, counts

    def group(self, step: int) -> range:
        """The steps of the group that a step belongs to; none spans two epochs."""
        epoch, batch = divmod(step, self.steps_per_epoch)
        first = step - batch % self.steps_per_group
        end = min(first + self.steps_per_group, (epoch + 1) * self.steps_per_epoch)
        return range(first, end)

    def size(self, step: int) -> int:
        """N of a step's batch: the least of ``sizes`` that holds any of its group."""
        needed = max(self.inputs(self.rows(s))[1].sum() for s in self.group(step))
        return next(size for size in self.sizes if size >= needed)

    def at(self, step: int) -> Batch:
        """The batch of a step, counted from 0 over all epochs."""
        return self._packed(step, self.size(step))

    def _packed(self, step: int, size: int) -> Batch:
        starts, counts = self.inputs(self.rows(step))
        return pack(
            self.sessions.items,
            starts,
            counts,
            size=size,
            pad_session=self.batch_size,
            max_session_length=self.max_session_length,
            position=self.position,
        )

    def dispatch_at(self, step: int, until: int) -> tuple[Batch | StackedBatches, int]:
        """The steps of a group from one on.

        Args:
          step: the first, counted from 0 over all epochs.
          until: where to end at the latest, later than the first; not included.

        Returns:
          Their batches, of one of ``shapes``, and their number.
        """
        size, steps = self.size(step), min(until, self.group(step).stop) - step
        batches = [self._packed(step + i, size) for i in range(steps)]
        if self.steps_per_group == 1:
            return batches[0], 1
        idle = ((0, self.steps_per_group - steps), (0, 0))
        stacked = (
            np.pad(np.stack(columns), idle) for columns in zip(*batches, strict=True)
        )
        return StackedBatches(Batch(*stacked), np.int32(steps)), steps


@functools.lru_cache(maxsize=2)
def _permutation(seed: int, epoch: int, num_sessions: int) -> np.ndarray:
    return rng.host_generator(seed, epoch, rng.ORDER).permutation(num_sessions)
