"""The encoding pass through slots, for an encoder that carries a state."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from tron_jax.data.packing import abstract_ids
from tron_jax.data.slots import lookup, make_schedule
from tron_jax.evaluation.encoding_pass import EncodedChunk
from tron_jax.evaluation.histories import (
    Layout,
    Sequences,
    lay_out_for_slots,
    lay_out_next_for_slots,
)
from tron_jax.evaluation.queries import Queries, plain
from tron_jax.evaluation.ranking import ReadRows
from tron_jax.models.encoder import Encoder


class Steps(NamedTuple):
    """Consecutive steps of the slots.

    Attributes:
      items: [T, slots] int32 inputs; 0 = an idle slot.
      session: [T, slots] int32 slot; the number of slots where it is idle.
      position: [T, slots] int32 position in the sequence, 0 where one starts.
      count: scalar int32, how many of the T steps are made.
      scored: [chunk] int32 indices, in the T·slots laid flat, of the inputs that are
        scored; then padding.
    """

    items: Any
    session: Any
    position: Any
    count: Any
    scored: Any


def make_encode_steps(encoder: Encoder, read_rows: ReadRows) -> Callable[..., Any]:
    """Encodes consecutive steps of slots whose state is carried on.

    Args:
      encoder: one that carries a state.
      read_rows: reads rows of the item table as of a step.

    Returns:
      The pure ``(carry, params, table_state, step, steps) -> (queries of [chunk],
      carry)``.
    """

    def encode_steps(
        carry: Any, params: Any, table_state: Any, step: jax.Array, steps: Steps
    ) -> tuple[Queries, Any]:
        row = jax.eval_shape(read_rows, table_state, steps.items[0], step)
        all_hidden = jnp.zeros((len(steps.items), *row.shape), row.dtype)

        def encode(t: jax.Array, state: tuple[jax.Array, Any]):
            all_hidden, carry = state
            inputs = read_rows(table_state, steps.items[t], step)
            # Float32 is not float32 on an accelerator otherwise.
            with jax.default_matmul_precision("highest"):
                hidden, carry = encoder.encode(
                    params, carry, inputs, steps.session[t], steps.position[t]
                )
            return all_hidden.at[t].set(hidden.astype(all_hidden.dtype)), carry

        all_hidden, carry = lax.fori_loop(0, steps.count, encode, (all_hidden, carry))
        hidden = all_hidden.reshape(-1, all_hidden.shape[-1])[steps.scored]
        return plain(hidden), carry

    return encode_steps


@dataclasses.dataclass(frozen=True)
class SlotPass:
    """Sequences side by side in slots; an ``EncodingPass``.

    Attributes:
      encode: see ``make_encode_steps``; jitted, its carry donated.
      init_carry: () -> the carry before the first step; jitted.
      max_session_length: inputs that ``paper`` keeps of a session, its last ones.
      paper_slots: slots of the ``paper`` protocol.
      num_slots: sequences that are encoded side by side; the ranks do not depend on it.
      num_steps: T, steps a chunk.
      chunk_size: predictions ranked together, at least those of T steps.
    """

    encode: jax.stages.Wrapped
    init_carry: Callable[[], Any]
    max_session_length: int
    paper_slots: int
    num_slots: int
    num_steps: int
    chunk_size: int

    @property
    def paper_batch_size(self) -> None:
        """None, as the batches of ``paper`` are steps of equally many events."""
        return None

    def lay_out(self, offsets: np.ndarray) -> Layout:
        """See ``EncodingPass.lay_out``."""
        return lay_out_for_slots(
            offsets,
            max_session_length=self.max_session_length,
            paper_slots=self.paper_slots,
        )

    def lay_out_next(self, offsets: np.ndarray, *, every_event: bool) -> Sequences:
        """See ``EncodingPass.lay_out_next``."""
        return lay_out_next_for_slots(offsets, every_event=every_event)

    def chunks(
        self,
        sequences: Sequences,
        items: np.ndarray,
        params: Any,
        table_state: Any,
        step: jax.Array,
    ) -> Iterator[EncodedChunk]:
        """See ``EncodingPass.chunks``."""
        start, counts, num_scored, rank_index = sequences
        schedule = make_schedule(counts, self.num_slots)
        carry = self.init_carry()
        for first in range(0, schedule.steps, self.num_steps):
            sequence, within = lookup(schedule, counts, first, self.num_steps)
            busy = sequence >= 0
            source = np.where(busy, start[sequence] + within, 0)
            session = np.where(busy, np.arange(self.num_slots), self.num_slots)
            scored, labels = np.zeros((2, self.chunk_size), np.int32)
            past = within - (counts - num_scored)[sequence]  # inputs not scored
            wanted = busy & (past >= 0)
            cells = np.flatnonzero(wanted)
            scored[: len(cells)] = cells
            labels[: len(cells)] = items[source[wanted] + 1]
            steps = Steps(
                np.where(busy, items[source], 0),
                session.astype(np.int32),
                within.astype(np.int32),
                np.int32(min(self.num_steps, schedule.steps - first)),
                scored,
            )
            queries, carry = self.encode(
                carry, params, table_state, step, jax.device_put(steps)
            )
            yield EncodedChunk(queries, labels, (rank_index[sequence] + past)[wanted])

    def trace(self, params: Any, table_state: Any) -> jax.stages.Traced:
        """See ``EncodingPass.trace``: the encoding of a chunk's steps."""
        cells = abstract_ids(self.num_steps, self.num_slots)
        scalar, scored = abstract_ids(), abstract_ids(self.chunk_size)
        steps = Steps(cells, cells, cells, scalar, scored)
        carry = jax.eval_shape(self.init_carry)
        return self.encode.trace(carry, params, table_state, scalar, steps)
