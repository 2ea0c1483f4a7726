"""Times an evaluation of the first test events beside its matmul alone."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from experiments.benchmarks.runner import Run
from experiments.benchmarks.timing import beside_floor, timed
from tron_jax.data.sessions import select
from tron_jax.errors import UserError
from tron_jax.evaluation.ranking import score_block

MOST_SESSIONS = 4096


def measure(run: Run, repeats: int) -> dict[str, Any]:
    """Passes over the first test events, each followed by the matmul over its blocks.

    Args:
      run: what to measure.
      repeats: a pass is made for every 20 of them, and three at least.

    Returns:
      As ``benchmark_train.measure``.

    Raises:
      UserError: if there are no test sessions.
    """
    if "test" not in run.splits:
        raise UserError(
            f"{run.config.data.path} has no test sessions; expected some to evaluate"
        )
    test, evaluator = run.splits["test"], run.parts.evaluator
    sessions = select(test, 0, min(test.num_sessions, MOST_SESSIONS))
    state = jax.jit(run.parts.init)()
    ranks = evaluator(state.params, state.items, 0, sessions)
    events = len(ranks["exact"].event)
    block, num_items = evaluator.block, evaluator.num_items
    key = jax.random.key(0)
    rows, hidden = jax.random.normal(key, (2, block, run.config.model.hidden_size))
    blocks = -(-events // block) * -(-num_items // block)

    @jax.jit
    def matmuls(rows: jax.Array, hidden: jax.Array) -> jax.Array:
        def one(i, sums):
            scores = score_block(rows + i, hidden)
            return sums + scores[0]

        return lax.fori_loop(0, blocks, one, jnp.zeros(block))

    matmuls(rows, hidden).block_until_ready()
    ours, least = [], []
    for _ in range(max(3, repeats // 20)):
        ours.append(timed(lambda: evaluator(state.params, state.items, 0, sessions))[0])
        least.append(timed(lambda: matmuls(rows, hidden))[0])
    return {
        "what": f"evaluation of {events:,} events",
        "floor": f"its matmul alone, {num_items:,} items",
        **beside_floor(ours, least),
    }
