"""Times recommendations in turn with what cannot be spared: encoder and matmuls."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from absl import flags

from experiments.assembly import run_parts
from experiments.benchmarks.score_blocks import matmuls_alone
from experiments.benchmarks.timing import compare_with_floor, timed
from experiments.benchmarks.workload import Workload
from tron_jax.evaluation.histories import consecutive
from tron_jax.evaluation.queries import Queries


def define_flags(values: flags.FlagValues) -> None:
    flags.DEFINE_integer("k", 20, "Items of a list.", 1, flag_values=values)
    flags.DEFINE_integer(
        "sessions", 1 << 14, "Sessions, those of train over and over.", 1, None, values
    )


def measure(workload: Workload, repeats: int, sessions: int, k: int) -> dict[str, Any]:
    """Times passes over sessions, each followed by its parts that cannot be spared.

    Those are the encoder over all clicks, and the matmuls by which items are scored.

    Args:
      workload: what to measure.
      repeats: one pass is made for each 20 of them, and three at least.
      sessions: how many.
      k: items of a list.

    Returns:
      As ``train_step.measure``.
    """
    items, offsets = _repeated(workload, sessions)
    parts = run_parts.build_model(workload.config, workload.num_items)
    recommender, evaluator = parts.recommender, workload.parts.evaluator
    state = jax.jit(parts.init)()

    def recommend(count: int) -> Any:
        return recommender(
            state.params, state.items, 0, items, offsets[: count + 1], k=k
        )

    recommend(min(sessions, 2000))
    width = workload.config.model.hidden_size
    floor = matmuls_alone(sessions, workload.num_items, evaluator.block, width)

    def encode() -> list[Queries]:
        step = jax.device_put(np.int32(0))
        chunks = recommender.encoded(
            state.params, state.items, step, items, offsets, every_event=False
        )
        return [chunk.queries for chunk in chunks]

    passes, floors = [], []
    for _ in range(max(3, repeats // 20)):
        passes.append(timed(lambda: recommend(sessions))[0])
        floors.append(timed(encode)[0] + timed(floor)[0])
    return {
        "what": f"best {k} for {sessions:,} sessions",
        "floor": f"encoder, and matmul of {workload.num_items:,} items",
        **compare_with_floor(passes, floors),
    }


def _repeated(workload: Workload, sessions: int) -> tuple[np.ndarray, np.ndarray]:
    """Items and offsets of train sessions, from the first on again and again."""
    train = workload.splits["train"]
    chosen = np.arange(sessions) % train.num_sessions
    counts = train.lengths[chosen].astype(np.int64)
    starts = train.offsets[:-1][chosen].astype(np.int64)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    return train.items[consecutive(starts, counts)], offsets
