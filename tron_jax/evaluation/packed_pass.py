"""The encoding pass over packed sessions, for an encoder that carries no state."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from tron_jax.data.packing import Position, abstract_ids, pack
from tron_jax.evaluation.encoding_pass import EncodedChunk
from tron_jax.evaluation.histories import (
    Layout,
    Sequences,
    consecutive,
    lay_out_for_packing,
    lay_out_next_for_packing,
)
from tron_jax.evaluation.queries import Queries
from tron_jax.evaluation.ranking import ReadRows
from tron_jax.models.encoder import Corrections, Encoder
from tron_jax.models.repeats import RECENT, last_clicks


class Stream(NamedTuple):
    """Inputs that are encoded together.

    Attributes:
      items: [N] int32 inputs; 0 = padding.
      session: [N] int32 sequence that the input belongs to.
      position: [N] int32 position in the sequence as the encoder numbers it.
      scored: [N] int32 indices of the inputs that are scored, then padding.
      at: scalar int32, where in the chunk the queries of those are written:
        chunk[at : at + N], whose padding the next stream overwrites.
    """

    items: Any
    session: Any
    position: Any
    scored: Any
    at: Any


def make_encode_stream(encoder: Encoder, read_rows: ReadRows) -> Callable[..., Queries]:
    """Encodes a stream and writes the queries of its scored inputs into a chunk.

    Args:
      encoder: one that carries no state.
      read_rows: reads rows of the item table as of a step.

    Returns:
      The pure ``(chunk, params, table_state, step, stream) -> chunk``, of ``Queries``.
    """

    def encode_stream(
        chunk: Queries, params: Any, table_state: Any, step: jax.Array, stream: Stream
    ) -> Queries:
        inputs = read_rows(table_state, stream.items, step)
        # Float32 is not float32 on an accelerator otherwise.
        with jax.default_matmul_precision("highest"):
            hidden, _ = encoder.encode(
                params, (), inputs, stream.session, stream.position
            )
        clicks = last_clicks(stream.items, stream.session)[stream.scored]
        queries = Queries(hidden[stream.scored], encoder.correct(params, clicks))

        def write(chunk: jax.Array, some: jax.Array) -> jax.Array:
            some = some.astype(chunk.dtype)
            return lax.dynamic_update_slice_in_dim(chunk, some, stream.at, 0)

        return jax.tree.map(write, chunk, queries)

    return encode_stream


@dataclasses.dataclass(frozen=True)
class PackedPass:
    """Sequences packed into streams; an ``EncodingPass``.

    Attributes:
      encoder: of the streams.
      encode: see ``make_encode_stream``; jitted, its chunk donated.
      read_rows: reads rows of the item table as of a step.
      max_session_length: the most inputs that the encoder takes.
      position: numbering of the positions.
      paper_batch_size: sessions a batch of the ``paper`` protocol.
      stream_size: inputs encoded together.
      chunk_size: predictions ranked together.
    """

    encoder: Encoder
    encode: jax.stages.Wrapped
    read_rows: ReadRows
    max_session_length: int
    position: Position
    paper_batch_size: int
    stream_size: int
    chunk_size: int

    def lay_out(self, offsets: np.ndarray) -> Layout:
        """See ``EncodingPass.lay_out``."""
        return lay_out_for_packing(
            offsets,
            max_session_length=self.max_session_length,
            paper_batch_size=self.paper_batch_size,
        )

    def lay_out_next(self, offsets: np.ndarray, *, every_event: bool) -> Sequences:
        """See ``EncodingPass.lay_out_next``."""
        return lay_out_next_for_packing(
            offsets,
            max_session_length=self.max_session_length,
            every_event=every_event,
        )

    def chunks(
        self,
        sequences: Sequences,
        items: np.ndarray,
        params: Any,
        table_state: Any,
        step: jax.Array,
    ) -> Iterator[EncodedChunk]:
        """See ``EncodingPass.chunks``."""
        for streams in chunks_of_streams(sequences, self.stream_size, self.chunk_size):
            queries = self._empty(params, table_state)
            labels = np.zeros(self.chunk_size, np.int32)
            rank_index, at = [], 0
            for part in streams:
                stream, of_scored = self._stream(part, items, at)
                stream = jax.device_put(stream)
                queries = self.encode(queries, params, table_state, step, stream)
                labels[at : at + len(of_scored)] = of_scored
                rank_index.append(consecutive(part.rank_index, part.scored))
                at += len(of_scored)
            yield EncodedChunk(queries, labels, np.concatenate(rank_index))

    def _stream(
        self, sequences: Sequences, items: np.ndarray, at: int
    ) -> tuple[Stream, np.ndarray]:
        """A stream on the host, and the labels of its scored inputs."""
        batch = pack(
            items,
            sequences.start,
            sequences.count,
            size=self.stream_size,
            pad_session=self.stream_size,
            max_session_length=self.max_session_length,
            position=self.position,
        )
        last = np.cumsum(sequences.count)
        scored = consecutive(last - sequences.scored, sequences.scored)
        padded = np.zeros(self.stream_size, np.int32)
        padded[: len(scored)] = scored
        inputs = (batch.items, batch.session, batch.position)
        return Stream(*inputs, padded, np.int32(at)), batch.labels[scored]

    def _empty(self, params: Any, table_state: Any) -> Queries:
        """A chunk of zeros, its hidden states as wide as the item table."""
        row = jax.eval_shape(
            self.read_rows, table_state, abstract_ids(1), abstract_ids()
        )
        corrections = jax.eval_shape(
            self.encoder.correct, params, abstract_ids(1, RECENT)
        )
        return _zeros(
            self.chunk_size, row.shape[1], row.dtype, corrections.items.shape[1]
        )

    def trace(self, params: Any, table_state: Any) -> jax.stages.Traced:
        """See ``EncodingPass.trace``: the encoding of a stream."""
        ids, scalar = abstract_ids(self.stream_size), abstract_ids()
        stream = Stream(ids, ids, ids, ids, scalar)
        queries = jax.eval_shape(self._empty, params, table_state)
        return self.encode.trace(queries, params, table_state, scalar, stream)


def chunks_of_streams(
    sequences: Sequences, stream_size: int, chunk_size: int
) -> Iterator[list[Sequences]]:
    """Divides sequences, in order, into streams, and those into chunks.

    Args:
      sequences: to encode.
      stream_size: the most inputs of a stream, at least those of any sequence.
      chunk_size: the most events of a chunk, padding of its last stream included.

    Yields:
      The streams of each chunk, as slices of the sequences.
    """
    ends = np.cumsum(sequences.count)
    chunk, used, first, before = [], 0, 0, 0
    while first < len(ends):
        last = int(np.searchsorted(ends, before + stream_size, "right"))
        stream = Sequences(*(column[first:last] for column in sequences))
        if used + stream_size > chunk_size:
            yield chunk
            chunk, used = [], 0
        chunk.append(stream)
        used += int(stream.scored.sum())
        first, before = last, int(ends[last - 1])
    if chunk:
        yield chunk


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _zeros(size: int, width: int, dtype: Any, corrected: int) -> Queries:
    items = jnp.zeros((size, corrected), jnp.int32)
    hidden = jnp.zeros((size, width), dtype)
    return Queries(hidden, Corrections(items, items.astype(jnp.float32)))
