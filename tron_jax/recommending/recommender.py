"""Recommends the next item of sessions, whichever model has learnt them."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from tron_jax.data.packing import abstract_ids
from tron_jax.evaluation.encoding_pass import (
    EncodedChunk,
    EncodingPass,
    traced_queries,
)
from tron_jax.evaluation.evaluator import Evaluator
from tron_jax.evaluation.queries import Queries
from tron_jax.evaluation.ranking import ReadRows
from tron_jax.recommending.exclusions import Ragged, divide
from tron_jax.recommending.top_k import make_top_k_step


class Recommended(NamedTuple):
    """What is recommended, a row for each prediction.

    Attributes:
      items: [predictions, k] int32, the best first; 0 where fewer than k were left.
      scores: [predictions, k] float32; -inf there.
    """

    items: np.ndarray
    scores: np.ndarray


@dataclasses.dataclass(frozen=True)
class Recommender:
    """Finds the best next items; compiles for each k when first called with it.

    Attributes:
      encoding: the pass of the encoder over sessions.
      top_k: see ``top_k.make_top_k_step``; jitted, its k static.
      num_items: the largest item id.
      block: hidden states per matmul.
    """

    encoding: EncodingPass
    top_k: jax.stages.Wrapped
    num_items: int
    block: int

    def encoded(
        self,
        params: Any,
        table_state: Any,
        step: jax.Array,
        items: np.ndarray,
        offsets: np.ndarray,
        *,
        every_event: bool,
    ) -> Iterator[EncodedChunk]:
        """Yields the queries of what is recommended, see ``__call__``."""
        sequences = self.encoding.lay_out_next(offsets, every_event=every_event)
        # The label behind the last click is read and not used.
        padded = np.append(items, np.zeros(1, items.dtype))
        yield from self.encoding.chunks(sequences, padded, params, table_state, step)

    def __call__(
        self,
        params: Any,
        table_state: Any,
        step: int | jax.Array,
        items: np.ndarray,
        offsets: np.ndarray,
        *,
        k: int,
        allowed: np.ndarray | None = None,
        excluded: Ragged | None = None,
        every_event: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> Recommended:
        """Recommends after the last click of each session, or after every click.

        Nothing that is passed in is altered or donated.

        Args:
          params: of the encoder.
          table_state: of the item table.
          step: scalar, updates made so far: the rows are read as of it.
          items: [events] int32 clicks, 1..num_items, session after session.
          offsets: [sessions + 1] where each session begins, and the end of the last;
            none is empty.
          k: how many items, at most num_items.
          allowed: [num_items + 1] bool, which items may be recommended; None = all.
          excluded: ids that a single prediction must not get, a row for each.
          every_event: after each click; else after the last one of each session.
          progress: called after each chunk with the predictions made so far.

        Returns:
          As many rows as predictions, in the order of session and event.
        """
        total = len(items) if every_event else len(offsets) - 1
        found = Recommended(
            np.zeros((total, k), np.int32), np.full((total, k), -np.inf, np.float32)
        )
        if not isinstance(step, jax.Array):
            step = jax.device_put(np.int32(step))
        may = np.ones(self.num_items + 1, bool) if allowed is None else allowed
        top_k = functools.partial(self.top_k, table_state, step, k=k)
        done = 0
        for queries, _, index in self.encoded(
            params, table_state, step, items, offsets, every_event=every_event
        ):
            for some, without, rows in divide(
                excluded, index, may, len(queries.hidden), self.block
            ):
                chosen = queries
                if some is not None:
                    chosen = _taken(queries, some, self.block)
                numbers = index if some is None else index[some]
                args = jax.device_put((np.int32(len(numbers)), without, rows))
                scores, ids = jax.device_get(top_k(chosen, *args))
                found.items[numbers] = ids[: len(numbers)]
                found.scores[numbers] = scores[: len(numbers)]
            done += len(index)
            if progress is not None:
                progress(done)
        return found

    def trace(
        self, params: Any, table_state: Any, *, k: int, excluded: int = 0
    ) -> dict[str, jax.stages.Traced]:
        """Traces the compiled parts at the shapes of a call, to lower or to measure.

        Args:
          params: of the encoder; shapes (``jax.eval_shape``) will do.
          table_state: of the item table, likewise.
          k: how many items.
          excluded: ids that a single prediction must not get.

        Returns:
          ``encode`` and ``top_k``.
        """
        encode = self.encoding.trace(params, table_state)
        queries = traced_queries(encode)
        may = jax.ShapeDtypeStruct((self.num_items + 1,), np.bool_)
        args = abstract_ids(), queries, abstract_ids(), may
        rows = abstract_ids(len(queries.hidden), excluded)
        top_k = self.top_k.trace(table_state, *args, rows, k=k)
        return {"encode": encode, "top_k": top_k}


def make_recommender(evaluator: Evaluator, read_rows: ReadRows) -> Recommender:
    """Builds the recommender whose scores are those that an evaluator ranks by.

    Args:
      evaluator: of the model.
      read_rows: ``(table_state, ids, step) -> rows``, pure; that of the evaluator.

    Returns:
      The recommender; keep it, for a second one compiles again.
    """
    step = make_top_k_step(
        read_rows,
        num_items=evaluator.num_items,
        block=evaluator.block,
        fixed=evaluator.fixed,
    )
    top_k = jax.jit(step, static_argnames="k")
    return Recommender(evaluator.encoding, top_k, evaluator.num_items, evaluator.block)


def _taken(queries: Queries, rows: np.ndarray, size: int) -> Queries:
    """Some of a chunk, followed by any others, ``size`` in all."""
    numbers = jax.device_put(np.resize(rows, size))
    return jax.tree.map(lambda of_all: of_all[numbers], queries)


class Model(NamedTuple):
    """All that recommending takes.

    Attributes:
      recommender: of the model's kind and size.
      params: of the encoder.
      table_state: of the item table, as training left it.
      step: updates made.
    """

    recommender: Recommender
    params: Any
    table_state: Any
    step: int


def recommend(
    model: Model,
    sessions: Sequence[Sequence[int]],
    k: int = 20,
    *,
    exclude: Sequence[Collection[int]] | None = None,
    only: Collection[int] | None = None,
) -> Recommended:
    """Recommends k items for each session.

    Args:
      model: a trained one, such as ``experiments.assembly.trained.load`` gives.
      sessions: items of each, 1..num_items, the latest last; one at least.
      k: how many, at most num_items.
      exclude: ids that a session must not get, for each session.
      only: ids that any session may get; None = all.

    Returns:
      [sessions, k] items and scores.

    Raises:
      ValueError: if a session is empty, an id is no item or no whole number, or k is
        out of range.
    """
    num_items = model.recommender.num_items
    if not len(sessions):
        return Recommended(np.zeros((0, k), np.int32), np.zeros((0, k), np.float32))
    if exclude is not None and len(exclude) != len(sessions):
        raise ValueError(f"{len(exclude)} rows of exclude, {len(sessions)} sessions")
    clicks = _flat(sessions)
    if (clicks.starts == clicks.ends).any():
        raise ValueError("a session has no clicks")
    excluded = None if exclude is None else _flat(exclude)
    given = {"sessions": clicks.values, "only": _ids(() if only is None else only)}
    given["exclude"] = clicks.values if excluded is None else excluded.values
    for name, values in given.items():
        if len(values) and not 1 <= values.min() <= values.max() <= num_items:
            raise ValueError(f"{name}: an id is not 1..{num_items}")
    allowed = None
    if only is not None:
        allowed = np.zeros(num_items + 1, bool)
        allowed[_ids(only)] = True
    return model.recommender(
        model.params,
        model.table_state,
        model.step,
        clicks.values,
        np.concatenate([clicks.starts[:1], clicks.ends]),
        k=k,
        allowed=allowed,
        excluded=excluded,
    )


def _flat(rows: Sequence[Collection[int]]) -> Ragged:
    counts = np.array([len(row) for row in rows], np.int64)
    values = [_ids(row) for row in rows]
    flat = np.concatenate([_ids(()), *values])
    ends = np.cumsum(counts)
    return Ragged(flat, ends - counts, ends)


def _ids(values: Collection[int]) -> np.ndarray:
    """[values] int32; 0, which is no item, of what has no place in it."""
    ids = np.asarray(list(values)) if len(values) else np.zeros(0, np.int32)
    whole = ids.dtype.kind in "iu"
    if ids.dtype.kind == "f":
        whole = bool((np.isfinite(ids) & (np.floor(ids) == ids)).all())
    if not whole or ids.ndim != 1:  # nor texts, nor a mask of all items
        raise ValueError("an id is no whole number")
    return np.where(np.abs(ids) < 2**31, ids, 0).astype(np.int32)
