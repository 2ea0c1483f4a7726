"""Times an evaluation of the first test events in turn with its matmul alone."""

from __future__ import annotations

from typing import Any

import jax

from experiments.benchmarks.score_blocks import matmuls_alone
from experiments.benchmarks.timing import compare_with_floor, timed
from experiments.benchmarks.workload import Workload
from tron_jax.data.sessions import select
from tron_jax.errors import UserError

MOST_SESSIONS = 4096


def measure(workload: Workload, repeats: int) -> dict[str, Any]:
    """Times passes over the first test events, each followed by its matmuls alone.

    Args:
      workload: what to measure.
      repeats: one pass is made for each 20 of them, and three at least.

    Returns:
      As ``train_step.measure``.

    Raises:
      UserError: if there are no test sessions, or they may not be looked at.
    """
    if "test" not in workload.splits:
        path, on = workload.config.data.path, workload.config.train.evaluate_on
        if on != "all":
            raise UserError(f"train.evaluate_on is {on}; expected all, for test")
        raise UserError(f"{path} has no test sessions; expected some to evaluate")
    test, evaluator = workload.splits["test"], workload.parts.evaluator
    sessions = select(test, 0, min(test.num_sessions, MOST_SESSIONS))
    state = jax.jit(workload.parts.init)()
    ranks = evaluator(state.params, state.items, 0, sessions)
    events = len(ranks["exact"].event)
    num_items = evaluator.num_items
    width = workload.config.model.hidden_size
    matmuls = matmuls_alone(events, num_items, evaluator.block, width)
    passes, floors = [], []
    for _ in range(max(3, repeats // 20)):
        seconds, _ = timed(lambda: evaluator(state.params, state.items, 0, sessions))
        passes.append(seconds)
        floors.append(timed(matmuls)[0])
    return {
        "what": f"evaluation of {events:,} events",
        "floor": f"its matmul alone, {num_items:,} items",
        **compare_with_floor(passes, floors),
    }
