"""Times an evaluation of the first test events in turn with its matmul alone."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from experiments.benchmarks.timing import compare_with_floor, timed
from experiments.benchmarks.workload import Workload
from tron_jax.data.sessions import select
from tron_jax.errors import UserError
from tron_jax.evaluation.ranking import score_block

MOST_SESSIONS = 4096


def measure(workload: Workload, repeats: int) -> dict[str, Any]:
    """Times passes over the first test events, each followed by its matmuls alone.

    Args:
      workload: what to measure.
      repeats: one pass is made for each 20 of them, and three at least.

    Returns:
      As ``train_step.measure``.

    Raises:
      UserError: if there are no test sessions.
    """
    if "test" not in workload.splits:
        path = workload.config.data.path
        raise UserError(f"{path} has no test sessions; expected some to evaluate")
    test, evaluator = workload.splits["test"], workload.parts.evaluator
    sessions = select(test, 0, min(test.num_sessions, MOST_SESSIONS))
    state = jax.jit(workload.parts.init)()
    ranks = evaluator(state.params, state.items, 0, sessions)
    events = len(ranks["exact"].event)
    block, num_items = evaluator.block, evaluator.num_items
    key = jax.random.key(0)
    rows, hidden = jax.random.normal(key, (2, block, workload.config.model.hidden_size))
    blocks = -(-events // block) * -(-num_items // block)

    @jax.jit
    def matmuls(rows: jax.Array, hidden: jax.Array) -> jax.Array:
        def one(i, sums):
            scores = score_block(rows + i, hidden)
            return sums + scores[0]

        return lax.fori_loop(0, blocks, one, jnp.zeros(block))

    matmuls(rows, hidden).block_until_ready()
    passes, floors = [], []
    for _ in range(max(3, repeats // 20)):
        seconds, _ = timed(lambda: evaluator(state.params, state.items, 0, sessions))
        passes.append(seconds)
        floors.append(timed(lambda: matmuls(rows, hidden))[0])
    return {
        "what": f"evaluation of {events:,} events",
        "floor": f"its matmul alone, {num_items:,} items",
        **compare_with_floor(passes, floors),
    }
