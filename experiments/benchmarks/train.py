"""Times train steps, data loading included, each beside its floor.

The floor is the matmul of all candidates, shared by the batch, and `jax.lax.top_k` over
their scores where a top-k is asked for: alone, at the step's own shapes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from experiments.benchmarks import run as benchmark_run
from experiments.benchmarks.run import Run, Runner
from experiments.benchmarks.timing import beside_floor, line, ratio_line, timed


def measure(run: Run, repeats: int) -> dict[str, Any]:
    """Steps spread over an epoch, each followed by its floor.

    Args:
      run: what to measure.
      repeats: dispatches to measure, of one step or many.

    Returns:
      what, floor, seconds, floor_seconds (medians, of one step), ratio,
      ratio_interval, repeats, and the samples that they are of.
    """
    parts = run.parts
    at = benchmark_run.spread(parts, repeats)
    step = benchmark_run.compile_step(parts, at)
    runner = Runner(parts, step, jax.jit(parts.init)(), at)
    floors = {shape: make_floor(run, shape) for shape in step.by_shape}
    ours, least = [], []
    for start in at:
        seconds, made, shape = runner.time(start)
        ours.append(seconds / made)
        least.append(timed(floors[shape])[0] / math.prod(shape[:-1]))
    topk = " and top_k" if run.config.loss.topk else ""
    return {
        "what": f"train step, {run.config.train.batch_size} sessions",
        "floor": f"floor: matmul{topk} of {benchmark_run.num_candidates(run):,}",
        **beside_floor(ours, least),
    }


def make_floor(run: Run, shape: tuple[int, ...]) -> Callable[[], Any]:
    """Compiles and warms the floor of a dispatch.

    Args:
      run: what is measured.
      shape: of a batch, [events] or [steps, events].

    Returns:
      What makes it.
    """
    width, k = run.config.model.hidden_size, run.config.loss.topk
    key = jax.random.key(0)
    rows = jax.random.normal(key, (benchmark_run.num_candidates(run), width))
    hidden = jax.random.normal(key, (shape[-1], width))

    @jax.jit
    def floor(hidden: jax.Array, rows: jax.Array) -> Any:
        def one(i: int, total: jax.Array) -> jax.Array:
            scores = (hidden + i) @ rows.T
            best = lax.top_k(scores, k)[0] if k else scores
            # The barrier keeps the compiler from computing the one element alone.
            return total + lax.optimization_barrier(best)[0, 0]

        return lax.fori_loop(0, math.prod(shape[:-1]), one, jnp.zeros(()))

    jax.block_until_ready(floor(hidden, rows))
    return lambda: floor(hidden, rows)


def table(report: dict[str, Any]) -> str:
    """What ``measure`` found, or ``benchmark_evaluate.measure``, as lines of text."""
    return "\n".join(
        [
            line(report["what"], report["seconds"]),
            line(report["floor"], report["floor_seconds"]),
            ratio_line(report),
        ]
    )
