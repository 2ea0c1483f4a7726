"""What an evaluator asks of the pass of an encoder over a split.

Two modules provide it: ``packed_pass`` for encoders that see a session at once, and
``slot_pass`` for those that carry a state from input to input.
"""

from __future__ import annotations

import typing
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from tron_jax.evaluation.histories import Layout, Sequences
from tron_jax.evaluation.queries import Queries, shapes_of


class EncodedChunk(NamedTuple):
    """Predictions that are ranked together; all chunks of a pass have one shape.

    Attributes:
      queries: of [chunk], on the device; padding follows the predictions.
      labels: [chunk] int32 item ids, likewise.
      rank_index: [predictions] index of each one's rank in the arrays of the layout.
    """

    queries: Queries
    labels: np.ndarray
    rank_index: np.ndarray


class EncodingPass(typing.Protocol):
    """Turns the sessions of a split into queries to rank, chunk by chunk."""

    @property
    def paper_batch_size(self) -> int | None:
        """Sessions a batch of the ``paper`` protocol.

        None where its batches are steps of equally many events, so that the mean of
        their means is that over events.
        """

    def lay_out(self, offsets: np.ndarray) -> Layout:
        """Plans the pass.

        Args:
          offsets: [sessions + 1] first event of each session, and the end of the last.

        Returns:
          What is encoded, and which ranks each protocol reads from it.
        """
        ...

    def lay_out_next(self, offsets: np.ndarray, *, every_event: bool) -> Sequences:
        """Plans a pass that predicts what is not there: each session's next click.

        Args:
          offsets: as for ``lay_out``; no session is empty.
          every_event: predict after each click; else after a session's last one.

        Returns:
          What is encoded; ``rank_index`` numbers the predictions by session and event.
        """
        ...

    def chunks(
        self,
        sequences: Sequences,
        items: np.ndarray,
        params: Any,
        table_state: Any,
        step: jax.Array,
    ) -> Iterator[EncodedChunk]:
        """Encodes the sequences of a layout.

        Args:
          sequences: of the layout.
          items: of the split, flat; one more than is encoded, as labels.
          params: of the encoder.
          table_state: of the item table.
          step: scalar, the rows are read as of it.

        Yields:
          Each input that is scored, once.
        """
        ...

    def trace(self, params: Any, table_state: Any) -> jax.stages.Traced:
        """Traces the compiled part at the shapes of a pass.

        Args:
          params: of the encoder; shapes (``jax.eval_shape``) will do.
          table_state: of the item table, likewise.

        Returns:
          The traced program, which gives a chunk's ``Queries``, and what is carried.
        """
        ...


def traced_queries(encode: jax.stages.Traced) -> Queries:
    """The shapes of a chunk's queries, of what ``EncodingPass.trace`` gives."""
    outputs = encode.out_info
    return shapes_of(outputs if isinstance(outputs, Queries) else outputs[0])
