"""Answers a few sessions at a time by programs that are all compiled beforehand."""

from __future__ import annotations

import bisect
import functools
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from tron_jax.evaluation.queries import Queries, shapes_of
from tron_jax.evaluation.ranking import ReadRows, score_block
from tron_jax.models.encoder import added_to
from tron_jax.recommending.top_k import make_top_k_step
from tron_jax.serving.scorer import LastQueries

# What each program is compiled for; what is smaller is padded.
SESSIONS = (1, 8, 16, 32)
CLICKS = (8, 32, 128)  # and the most that the model sees
EXCLUDED = (0, 64, 1024)
ONLY = (128, 1024, 10_000)
MOST_EXCLUDED, MOST_ONLY = EXCLUDED[-1], ONLY[-1]
# Items per matmul of a small catalogue and a large one, measured on two cores with 1 to
# 32 sessions: 1,024 is best of 43 thousand items, 16,384 of 1.8 million.
BLOCK, LARGE_BLOCK, LARGE = 1024, 1 << 14, 1 << 18


class Query(NamedTuple):
    """What is asked of one session, in the model's own numbers.

    Attributes:
      items: [clicks] int32, 1..num_items, the latest last; one at least.
      k: items to find, at most those that the engine finds.
      excluded: [ids] int32, that must not be found; at most ``MOST_EXCLUDED``.
      only: [ids] int32, distinct, ascending, of which alone some may be found; at most
        ``MOST_ONLY``. None = all.
    """

    items: np.ndarray
    k: int
    excluded: np.ndarray
    only: np.ndarray | None = None


class Found(NamedTuple):
    """The best items of a session.

    Attributes:
      items: [found] int32, the best first; fewer than asked where no more are left.
      scores: [found] float32.
    """

    items: np.ndarray
    scores: np.ndarray


class Programs(NamedTuple):
    """What an engine runs, compiled for each shape; it holds no weights.

    Attributes:
      made_of: all that they depend on; equal here, equal programs.
      encode: queries, by numbers of sessions and of clicks.
      best: the best of all items, by numbers of sessions and of excluded ids.
      best_of: the best of a few items, by their number.
    """

    made_of: Hashable
    encode: dict[tuple[int, int], jax.stages.Compiled]
    best: dict[tuple[int, int], jax.stages.Compiled]
    best_of: dict[int, jax.stages.Compiled]


class Engine:
    """A model's weights, and all programs that answer by them."""

    def __init__(
        self,
        last_queries: LastQueries,
        read_rows: ReadRows,
        params: Any,
        table_state: Any,
        step: int,
        *,
        num_items: int,
        longest: int,
        k: int,
        fixed: bool = False,
        model: Hashable = None,
        known: Programs | None = None,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ):
        """Compiles, unless that is done. Afterwards nothing does, whatever is asked.

        Args:
          last_queries: see ``scorer.make_last_queries``.
          read_rows: ``(table_state, ids, step) -> rows``, pure.
          params: of the encoder, on the device.
          table_state: of the item table, on the device.
          step: updates made, of which rows are read.
          num_items: the largest item id.
          longest: clicks that are seen of a session, the last ones.
          k: items that are found at most; at most ``num_items``.
          fixed: see ``top_k.make_top_k_step``.
          model: what the two functions are made of, for who keeps ``programs``.
          known: of an engine before, taken where nothing differs but weights.
          progress: is told how many programs are compiled, and how many there are.
        """
        self.num_items, self.longest, self.k = num_items, longest, k
        self._clicks = (*(c for c in CLICKS if c < longest), longest)
        self._weights = params, table_state, jax.device_put(np.int32(step))
        leaves, structure = jax.tree.flatten(self._weights)
        shapes = tuple((x.shape, x.dtype) for x in leaves)
        made_of = model, structure, shapes, self._clicks, num_items, k, fixed
        if known is None or known.made_of != made_of:
            functions = _functions(last_queries, read_rows, num_items, k, fixed)
            compiled = _compile(
                functions, self._weights, self._clicks, num_items, progress
            )
            known = Programs(made_of, *compiled)
        self.programs = known

    def allow(self, allowed: np.ndarray) -> jax.Array:
        """Brings a mask of [num_items + 1] bool to the device: what may be found."""
        return jax.device_put(allowed)

    def __call__(self, queries: Sequence[Query], allowed: jax.Array) -> list[Found]:
        """Finds the best items after each session's last click.

        Args:
          queries: of sessions, at most the last of ``SESSIONS``.
          allowed: what ``allow`` gave.

        Returns:
          For each query, the items of highest score, of equal ones the lower id first.
          Scores are not finite where weights are so large that float32 ends.
        """
        answers: dict[int, Found] = {}
        of_all = [n for n, query in enumerate(queries) if query.only is None]
        if of_all:
            found = self._of_all([queries[n] for n in of_all], allowed)
            answers.update(zip(of_all, found, strict=True))
        for n, query in enumerate(queries):
            if query.only is not None:
                answers[n] = self._of_some(query, query.only)
        return [answers[n] for n in range(len(queries))]

    def _of_all(self, queries: Sequence[Query], allowed: jax.Array) -> list[Found]:
        encoded, sessions = self._encoded([query.items for query in queries])
        most = max(len(query.excluded) for query in queries)
        excluded = np.zeros((sessions, _at_least(EXCLUDED, most)), np.int32)
        for row, query in zip(excluded, queries, strict=False):
            row[: len(query.excluded)] = query.excluded
        _, table_state, step = self._weights
        program = self.programs.best[excluded.shape]
        scores, ids = jax.device_get(
            program(table_state, step, encoded, allowed, excluded)
        )
        return [
            _found(ids[row], scores[row], query.k) for row, query in enumerate(queries)
        ]

    def _of_some(self, query: Query, only: np.ndarray) -> Found:
        """What is excluded of a few ids need not be on the device."""
        left = only[~np.isin(only, query.excluded)]
        encoded, _ = self._encoded([query.items])
        ids = np.zeros(_at_least(ONLY, len(left)), np.int32)
        ids[: len(left)] = left
        _, table_state, step = self._weights
        program = self.programs.best_of[len(ids)]
        scores, best = jax.device_get(program(table_state, step, encoded, ids))
        return _found(best, scores, query.k)

    def _encoded(self, sessions: Sequence[np.ndarray]) -> tuple[Queries, int]:
        """Queries, padded to a number of sessions, and that number."""
        cut = [items[-self.longest :] for items in sessions]
        shape = (
            _at_least(SESSIONS, len(cut)),
            _at_least(self._clicks, max(map(len, cut))),
        )
        items, lengths = np.zeros(shape, np.int32), np.ones(shape[0], np.int32)
        for n, session in enumerate(cut):
            items[n, : len(session)], lengths[n] = session, len(session)
        encode = self.programs.encode[shape]
        return encode(*self._weights, items, lengths), shape[0]


def _functions(
    last_queries: LastQueries, read_rows: ReadRows, num_items: int, k: int, fixed: bool
) -> tuple[Callable, Callable, Callable]:
    """The pure functions: queries, the best of all items, the best of a few."""
    block = LARGE_BLOCK if num_items >= LARGE else BLOCK

    def encode(
        params: Any,
        table_state: Any,
        step: jax.Array,
        items: jax.Array,
        lengths: jax.Array,
    ) -> Queries:
        rows = read_rows(table_state, items.reshape(-1), step)
        return last_queries(params, items, rows.reshape(*items.shape, -1), lengths)

    def best(
        table_state: Any,
        step: jax.Array,
        queries: Queries,
        allowed: jax.Array,
        excluded: jax.Array,
    ) -> tuple[jax.Array, jax.Array]:
        sessions = len(queries.hidden)
        find = make_top_k_step(
            read_rows, num_items=num_items, block=block, states=sessions, fixed=fixed
        )
        count = jnp.int32(sessions)
        return find(table_state, step, queries, count, allowed, excluded, k=k)

    def best_of(
        table_state: Any, step: jax.Array, query: Queries, ids: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        scores = score_block(read_rows(table_state, ids, step), query.hidden)[0]
        scores += added_to(query.corrections, ids)
        scores, place = lax.top_k(
            jnp.where(ids > 0, scores, -jnp.inf), min(k, len(ids))
        )
        return scores, ids[place]

    return encode, best, best_of


def _compile(
    functions: tuple[Callable, Callable, Callable],
    weights: tuple[Any, Any, jax.Array],
    clicks: Sequence[int],
    num_items: int,
    progress: Callable[[int, int], None],
) -> tuple[dict, dict, dict]:
    """Compiles each function at each of its shapes, which are the keys."""
    encode, best, best_of = map(jax.jit, functions)
    total = len(SESSIONS) * (len(clicks) + len(EXCLUDED)) + len(ONLY)
    done = 0

    def compiled(function: Any, *arguments: Any) -> jax.stages.Compiled:
        nonlocal done
        program = function.lower(*arguments).compile()
        done += 1
        progress(done, total)
        return program

    ids = functools.partial(jax.ShapeDtypeStruct, dtype=np.int32)
    may = jax.ShapeDtypeStruct((num_items + 1,), np.bool_)
    encoded = {
        (sessions, most): compiled(
            encode, *weights, ids((sessions, most)), ids((sessions,))
        )
        for sessions in SESSIONS
        for most in clicks
    }
    queries = {
        sessions: shapes_of(encoded[sessions, clicks[0]].out_info)
        for sessions in SESSIONS
    }
    _, *table = weights
    found = {
        (sessions, most): compiled(
            best, *table, queries[sessions], may, ids((sessions, most))
        )
        for sessions in SESSIONS
        for most in EXCLUDED
    }
    of_few = {
        most: compiled(best_of, *table, queries[1], ids((most,))) for most in ONLY
    }
    return encoded, found, of_few


def _at_least(sizes: Sequence[int], needed: int) -> int:
    """The first of ascending sizes that is enough."""
    return sizes[bisect.bisect_left(sizes, needed)]


def _found(ids: np.ndarray, scores: np.ndarray, k: int) -> Found:
    """The first k, without places at which nothing was left."""
    there = (ids > 0) & (scores > -np.inf) | np.isnan(scores)
    return Found(ids[there][:k], scores[there][:k])
