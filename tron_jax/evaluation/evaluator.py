"""Ranks all predictions of both protocols in one pass over a split."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from tron_jax.data.packing import Position, abstract_ids, block_size
from tron_jax.data.sessions import Sessions
from tron_jax.evaluation.encoding_pass import EncodingPass, traced_queries
from tron_jax.evaluation.histories import ranks_by_protocol
from tron_jax.evaluation.packed_pass import PackedPass, make_encode_stream
from tron_jax.evaluation.protocols import PAPER_BATCH_SIZE
from tron_jax.evaluation.rank_file import Ranks
from tron_jax.evaluation.ranking import ReadRows, make_rank_step
from tron_jax.evaluation.slot_pass import SlotPass, make_encode_steps
from tron_jax.evaluation.spread import Spread, on_one_device
from tron_jax.models.encoder import Encoder

# (predictions ranked, predictions in all)
ReportProgress = Callable[[int, int], None]


class Tiling(NamedTuple):
    """How the ranks are computed piece by piece.

    Attributes:
      block: items and events per matmul.
      chunk: events for which the item table is read once.
      fixed: see ``ranking.make_rank_step``.
    """

    block: int
    chunk: int
    fixed: bool


# Scores are compared while they lie in the cache: 1.1 to 1.2 times the matmul alone on
# two cores. An accelerator wants more work per launch (of an H100 blocks of 1,024 are
# known alone: 2.8 times the matmul), and small chunks, since it computes whole ones.
TILINGS = {"cpu": Tiling(1024, 1 << 16, fixed=False)}
TILING_OF_ACCELERATORS = Tiling(4096, 1 << 14, fixed=True)


@dataclasses.dataclass(frozen=True)
class Evaluator:
    """Ranks the predictions of any split; compiles when first called, then never again.

    Attributes:
      encoding: the pass of the encoder over a split.
      rank_step: see ``ranking.make_rank_step``; jitted.
      num_items: the largest item id.
      block: items and events per matmul of the ranks.
      fixed: see ``ranking.make_rank_step``.
    """

    encoding: EncodingPass
    rank_step: jax.stages.Wrapped
    num_items: int
    block: int
    fixed: bool

    def __call__(
        self,
        params: Any,
        table_state: Any,
        step: int | jax.Array,
        sessions: Sessions,
        progress: ReportProgress | None = None,
    ) -> dict[str, Ranks]:
        """Ranks the labels of a split under both protocols.

        Nothing that is passed in is altered or donated.

        Args:
          params: of the encoder.
          table_state: of the item table.
          step: scalar, updates made so far: the rows are read as of it.
          sessions: the split; a slice will do.
          progress: called after each chunk with the number of predictions ranked so
            far and in all; a prediction that both protocols share counts once.

        Returns:
          The ranks of each protocol.
        """
        layout = self.encoding.lay_out(sessions.offsets)
        if not isinstance(step, jax.Array):
            step = jax.device_put(np.int32(step))
        counts = np.zeros((2, layout.num_ranks), np.int32)
        done = 0

        def collect(index: np.ndarray, result: tuple[jax.Array, jax.Array]) -> None:
            nonlocal done
            for row, values in zip(counts, jax.device_get(result), strict=True):
                row[index] = values[: len(index)]
            done += len(index)
            if progress is not None:
                progress(done, layout.num_ranks)

        running = None
        for queries, labels, rank_index in self.encoding.chunks(
            layout.sequences, sessions.items, params, table_state, step
        ):
            labels, events = jax.device_put((labels, np.int32(len(rank_index))))
            result = self.rank_step(table_state, step, queries, labels, events)
            # One chunk behind, so that the device never waits for the host.
            if running is not None:
                collect(*running)
            running = rank_index, result
        if running is not None:
            collect(*running)
        return ranks_by_protocol(layout, sessions, *counts)

    def trace(self, params: Any, table_state: Any) -> dict[str, jax.stages.Traced]:
        """Traces both steps at the shapes that a call uses, to lower or to measure.

        Args:
          params: of the encoder; shapes (``jax.eval_shape``) will do.
          table_state: of the item table, likewise.

        Returns:
          ``encode`` and ``rank``.
        """
        encode = self.encoding.trace(params, table_state)
        queries = traced_queries(encode)
        labels, scalar = abstract_ids(len(queries.hidden)), abstract_ids()
        rank = self.rank_step.trace(table_state, scalar, queries, labels, scalar)
        return {"encode": encode, "rank": rank}


def make_evaluator(
    encoder: Encoder,
    read_rows: ReadRows,
    *,
    num_items: int,
    max_session_length: int,
    position: Position,
    paper_batch_size: int = PAPER_BATCH_SIZE,
    stream_size: int = 4096,
    chunk_size: int | None = None,
    block: int | None = None,
    spread: Spread | None = None,
) -> Evaluator:
    """Builds the evaluator of an encoder that sees a session at once.

    Args:
      encoder: one that carries no state.
      read_rows: ``(table_state, ids, step) -> rows``, pure.
      num_items: the largest item id.
      max_session_length: the most inputs that the encoder takes.
      position: numbering of the positions.
      paper_batch_size: sessions a batch of the ``paper`` protocol.
      stream_size: inputs encoded together; rounded up to whole attention blocks.
      chunk_size: events for which the item table is read once; as many hidden states
        are held on the device. Rounded up to whole blocks; None = by the backend.
      block: items and events per matmul; None = by the backend.
      spread: of the table over devices; None = all on one.

    Returns:
      The evaluator; keep it, for a second one compiles again.
    """
    tiling = _tiling(block, chunk_size)
    spread = spread or on_one_device(read_rows)
    attention = block_size(max_session_length)
    stream_size = -(-stream_size // attention) * attention
    encoding = PackedPass(
        encoder=encoder,
        encode=spread.compiled(make_encode_stream(encoder, spread.read), 2, 5, (0,)),
        read_rows=read_rows,
        max_session_length=max_session_length,
        position=position,
        paper_batch_size=paper_batch_size,
        stream_size=stream_size,
        chunk_size=-(-max(tiling.chunk, stream_size) // tiling.block) * tiling.block,
    )
    return _evaluator(encoding, spread, num_items, tiling)


def make_slot_evaluator(
    encoder: Encoder,
    read_rows: ReadRows,
    *,
    num_items: int,
    max_session_length: int,
    paper_slots: int = 32,
    num_slots: int = 256,
    chunk_size: int | None = None,
    block: int | None = None,
    spread: Spread | None = None,
) -> Evaluator:
    """Builds the evaluator of an encoder that carries a state from input to input.

    In ``exact`` the state is carried through whole sessions.

    Args:
      encoder: one whose carry has a row a slot.
      read_rows: ``(table_state, ids, step) -> rows``, pure.
      num_items: the largest item id.
      max_session_length: inputs that ``paper`` keeps of a session, its last ones.
      paper_slots: slots of the ``paper`` protocol, the ``batch_size`` of training.
      num_slots: sequences encoded side by side; the ranks do not depend on it.
      chunk_size: events for which the item table is read once; as many hidden states
        are held on the device. Rounded up to whole steps and blocks; None = by the
        backend.
      block: items and events per matmul; None = by the backend.
      spread: of the table over devices; None = all on one.

    Returns:
      The evaluator; keep it, for a second one compiles again.
    """
    tiling = _tiling(block, chunk_size)
    spread = spread or on_one_device(read_rows)
    num_steps = -(-tiling.chunk // num_slots)
    init_carry = jax.jit(functools.partial(encoder.init_carry, num_slots))
    encoding = SlotPass(
        encode=spread.compiled(make_encode_steps(encoder, spread.read), 2, 5, (0,)),
        init_carry=init_carry,
        max_session_length=max_session_length,
        paper_slots=paper_slots,
        num_slots=num_slots,
        num_steps=num_steps,
        chunk_size=-(-num_steps * num_slots // tiling.block) * tiling.block,
    )
    return _evaluator(encoding, spread, num_items, tiling)


def _tiling(block: int | None, chunk: int | None) -> Tiling:
    """That of the backend, but for what is given."""
    tiling = TILINGS.get(jax.default_backend(), TILING_OF_ACCELERATORS)
    return Tiling(block or tiling.block, chunk or tiling.chunk, tiling.fixed)


def _evaluator(
    encoding: EncodingPass, spread: Spread, num_items: int, tiling: Tiling
) -> Evaluator:
    rank_step = make_rank_step(
        spread.read,
        num_items=num_items,
        block=tiling.block,
        fixed=tiling.fixed,
        own=spread.own,
    )
    compiled = spread.compiled(rank_step, 0, 5, ())
    return Evaluator(encoding, compiled, num_items, tiling.block, tiling.fixed)
