"""One pass over a split: every prediction of both protocols gets its rank."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from tron_jax import histories
from tron_jax.data.packing import Position, block_size, pack
from tron_jax.data.sessions import Sessions
from tron_jax.ranking import ReadRows, make_rank_step
from tron_jax.ranks import PAPER_BATCH_SIZE, Ranks

# (predictions ranked, predictions in all)
Report = Callable[[int, int], None]

# Scores are compared while they lie in the cache: 1.1 to 1.2 times the matmul alone on
# two cores. An accelerator wants more work per launch (not measured yet).
BLOCKS = {"cpu": 1024}
ACCELERATOR_BLOCK = 4096


class Stream(NamedTuple):
    """Inputs that are encoded together.

    Attributes:
      items: [N] int32 inputs; 0 = padding.
      session: [N] int32 sequence that the input belongs to.
      position: [N] int32 place in the sequence as the encoder numbers it.
      scored: [N] int32 indices of the inputs that are scored, then padding.
      at: scalar int32, where in the chunk the hidden states of those go: to
        chunk[at : at + N], whose padding the next stream overwrites.
    """

    items: jax.Array
    session: jax.Array
    position: jax.Array
    scored: jax.Array
    at: jax.Array


def make_encode_step(
    encode: Callable[..., tuple[jax.Array, Any]], read_rows: ReadRows
) -> Callable[..., jax.Array]:
    """Encodes a stream and puts the hidden states of its scored inputs into a chunk.

    Args:
      encode: of an ``Encoder`` that carries nothing.
      read_rows: reads rows of the item table as of a step.

    Returns:
      The pure ``(chunk, params, table_state, step, stream) -> chunk``.
    """

    def encode_step(
        chunk: jax.Array, params: Any, table_state: Any, step: jax.Array, stream: Stream
    ) -> jax.Array:
        inputs = read_rows(table_state, stream.items, step)
        # Float32 is not float32 on an accelerator otherwise.
        with jax.default_matmul_precision("highest"):
            hidden, _ = encode(params, (), inputs, stream.session, stream.position)
        hidden = hidden[stream.scored].astype(chunk.dtype)
        return lax.dynamic_update_slice_in_dim(chunk, hidden, stream.at, 0)

    return encode_step


@dataclasses.dataclass(frozen=True)
class Evaluator:
    """Ranks every prediction of a split; compiles when first called, then never again.

    Attributes:
      encode_step: see ``make_encode_step``; jitted, its chunk donated.
      rank_step: see ``ranking.make_rank_step``; jitted.
      read_rows: reads rows of the item table as of a step.
      max_session_length: the most inputs that the encoder takes.
      position: numbering of the positions.
      paper_batch_size: sessions a batch of the ``paper`` protocol.
      stream_size: inputs encoded together.
      chunk_size: events ranked together.
      num_items: the largest item id.
      block: items and events per matmul of the ranks.
    """

    encode_step: jax.stages.Wrapped
    rank_step: jax.stages.Wrapped
    read_rows: ReadRows
    max_session_length: int
    position: Position
    paper_batch_size: int
    stream_size: int
    chunk_size: int
    num_items: int
    block: int

    def __call__(
        self,
        params: Any,
        table_state: Any,
        step: int | jax.Array,
        sessions: Sessions,
        progress: Report | None = None,
    ) -> Ranks:
        """Ranks the labels of a split under both protocols.

        Nothing that is passed in is altered or donated.

        Args:
          params: of the encoder.
          table_state: of the item table.
          step: scalar, updates made so far: the rows are read as of it.
          sessions: the split; a slice will do.
          progress: told after each chunk how many predictions are ranked, and of how
            many; a prediction that both protocols share counts once.

        Returns:
          The ranks.
        """
        layout = histories.lay_out(
            sessions.offsets,
            max_session_length=self.max_session_length,
            paper_batch_size=self.paper_batch_size,
        )
        if not isinstance(step, jax.Array):
            step = jax.device_put(np.int32(step))
        counts = np.zeros((2, layout.size), np.int32)
        done = 0

        def collect(places: np.ndarray, result: tuple[jax.Array, jax.Array]) -> None:
            nonlocal done
            for row, values in zip(counts, jax.device_get(result), strict=True):
                row[places] = values[: len(places)]
            done += len(places)
            if progress is not None:
                progress(done, layout.size)

        running = None
        for chunk in histories.chunks(
            layout.sequences, self.stream_size, self.chunk_size
        ):
            hidden, labels, places = self._encode(
                chunk, params, table_state, step, sessions.items
            )
            labels, events = jax.device_put((labels, np.int32(len(places))))
            result = self.rank_step(table_state, step, hidden, labels, events)
            # One chunk behind, so that the device never waits for the host.
            if running is not None:
                collect(*running)
            running = places, result
        if running is not None:
            collect(*running)
        return histories.assemble(layout, sessions, *counts)

    def _encode(
        self,
        chunk: list[histories.Sequences],
        params: Any,
        table_state: Any,
        step: jax.Array,
        items: np.ndarray,
    ) -> tuple[jax.Array, np.ndarray, np.ndarray]:
        """Hidden states, labels (both padded) and places of a chunk's predictions."""
        hidden = self._empty_chunk(table_state)
        labels = np.zeros(self.chunk_size, np.int32)
        places = []
        at = 0
        for sequences in chunk:
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
            scored = histories.ramps(last - sequences.scored, sequences.scored)
            labels[at : at + len(scored)] = batch.labels[scored]
            places.append(histories.ramps(sequences.place, sequences.scored))
            padded = np.zeros(self.stream_size, np.int32)
            padded[: len(scored)] = scored
            arrays = (batch.items, batch.session, batch.position, padded, np.int32(at))
            stream = Stream(*jax.device_put(arrays))
            hidden = self.encode_step(hidden, params, table_state, step, stream)
            at += len(scored)
        return hidden, labels, np.concatenate(places)

    def _empty_chunk(self, table_state: Any) -> jax.Array:
        """Room for a chunk's hidden states, as wide as the item table."""
        scalar = jax.ShapeDtypeStruct((), jnp.int32)
        ids = jax.ShapeDtypeStruct((1,), jnp.int32)
        row = jax.eval_shape(self.read_rows, table_state, ids, scalar)
        return _zeros(self.chunk_size, row.shape[1], row.dtype)

    def trace(self, params: Any, table_state: Any) -> dict[str, jax.stages.Traced]:
        """Traces both steps at the shapes that a call uses, to lower or to measure.

        Args:
          params: of the encoder; shapes (``jax.eval_shape``) will do.
          table_state: of the item table, likewise.

        Returns:
          ``encode`` and ``rank``.
        """

        def ids(*shape: int) -> Any:
            return jax.ShapeDtypeStruct(shape, jnp.int32)

        n = self.stream_size
        stream = Stream(ids(n), ids(n), ids(n), ids(n), ids())
        hidden = jax.eval_shape(self._empty_chunk, table_state)
        labels = ids(self.chunk_size)
        return {
            "encode": self.encode_step.trace(
                hidden, params, table_state, ids(), stream
            ),
            "rank": self.rank_step.trace(table_state, ids(), hidden, labels, ids()),
        }


def make_evaluator(
    encode: Callable[..., tuple[jax.Array, Any]],
    read_rows: ReadRows,
    *,
    num_items: int,
    max_session_length: int,
    position: Position,
    paper_batch_size: int = PAPER_BATCH_SIZE,
    stream_size: int = 4096,
    chunk_size: int = 1 << 16,
    block: int | None = None,
) -> Evaluator:
    """Builds what evaluates a split, at any step and on any backend.

    Args:
      encode: of an ``Encoder`` that carries nothing.
      read_rows: ``(table_state, ids, step) -> rows``, pure.
      num_items: the largest item id.
      max_session_length: the most inputs that the encoder takes.
      position: numbering of the positions.
      paper_batch_size: sessions a batch of the ``paper`` protocol.
      stream_size: inputs encoded together; rounded up to whole attention blocks.
      chunk_size: events for which the item table is read once; as many hidden states
        are held on the device. Rounded up to whole blocks.
      block: items and events per matmul; None = by the backend.

    Returns:
      The evaluator; keep it, for a second one compiles again.
    """
    if block is None:
        block = BLOCKS.get(jax.default_backend(), ACCELERATOR_BLOCK)
    attention = block_size(max_session_length)
    stream_size = -(-stream_size // attention) * attention
    chunk_size = -(-max(chunk_size, stream_size) // block) * block
    return Evaluator(
        encode_step=jax.jit(make_encode_step(encode, read_rows), donate_argnums=0),
        rank_step=jax.jit(make_rank_step(read_rows, num_items=num_items, block=block)),
        read_rows=read_rows,
        max_session_length=max_session_length,
        position=position,
        paper_batch_size=paper_batch_size,
        stream_size=stream_size,
        chunk_size=chunk_size,
        num_items=num_items,
        block=block,
    )


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _zeros(rows: int, width: int, dtype: Any) -> jax.Array:
    return jnp.zeros((rows, width), dtype)
