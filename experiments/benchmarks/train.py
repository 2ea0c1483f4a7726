"""Times train steps, data loading included, each beside its floors.

The floor is the matmul of all candidates, shared by the batch, and `jax.lax.top_k` over
their scores where a top-k is asked for: alone, at the step's own shapes. The lower
floor has our own selection in place of `jax.lax.top_k`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from experiments.benchmarks import runner as benchmark_run
from experiments.benchmarks.runner import Run
from experiments.benchmarks.timing import beside_floor, line, ratio_line, timed
from tron_jax.objectives import selection


def measure(run: Run, repeats: int) -> dict[str, Any]:
    """Steps spread over an epoch, each followed by its floor.

    Args:
      run: what to measure.
      repeats: dispatches to measure, of one step or many.

    Returns:
      what, floor, seconds, floor_seconds (medians, of one step), ratio,
      ratio_interval, repeats, and the samples that they are of; where a top-k is asked
      for, the same of the ``lower_floor``.
    """
    runner, at = benchmark_run.make_runner(run, repeats)
    topk, columns = run.config.loss.topk, benchmark_run.num_candidates(run)
    ways: list[tuple[Select, int]] = [(_nothing, columns)]
    if topk:
        wide = selection.width(columns, topk)
        ways = [(lax.top_k, columns), (selection.top_k, wide)]
    floors = {
        shape: [make_floor(run, shape, *way) for way in ways]
        for shape in runner.step.by_shape
    }
    ours: list[float] = []
    least: list[list[float]] = [[] for _ in ways]
    for start in at:
        seconds, made, shape = runner.time(start)
        ours.append(seconds / made)
        for floor, samples in zip(floors[shape], least, strict=True):
            samples.append(timed(floor)[0] / math.prod(shape[:-1]))
    of = f"of {columns:,}"
    report = {
        "what": f"train step, {run.config.train.batch_size} sessions",
        "floor": f"floor: matmul{' and top_k' if topk else ''} {of}",
        **beside_floor(ours, least[0]),
    }
    if topk:
        lower = {"floor": f"lower floor: matmul and our selection {of}"}
        report["lower_floor"] = lower | beside_floor(ours, least[1])
    return report


# (scores [N, C], k) -> [N, k] the highest, and their columns
Select = Callable[[jax.Array, int], Any]


def _nothing(scores: jax.Array, k: int) -> Any:
    return scores, None


def make_floor(
    run: Run, shape: tuple[int, ...], select: Select, columns: int
) -> Callable[[], Any]:
    """Compiles and warms the floor of a dispatch.

    Args:
      run: what is measured.
      shape: of a batch, [events] or [steps, events].
      select: what follows the matmul.
      columns: candidates of an event.

    Returns:
      What makes it.
    """
    width, k = run.config.model.hidden_size, run.config.loss.topk
    key = jax.random.key(0)
    rows = jax.random.normal(key, (columns, width))
    hidden = jax.random.normal(key, (shape[-1], width))

    @jax.jit
    def floor(hidden: jax.Array, rows: jax.Array) -> Any:
        def one(i: int, total: jax.Array) -> jax.Array:
            scores = (hidden + i) @ rows.T
            # The barrier keeps the compiler from computing the one element alone.
            best = lax.optimization_barrier(select(scores, k))
            return total + best[0][0, 0]

        return lax.fori_loop(0, math.prod(shape[:-1]), one, jnp.zeros(()))

    jax.block_until_ready(floor(hidden, rows))
    return lambda: floor(hidden, rows)


def table(report: dict[str, Any]) -> str:
    """What ``measure`` found, or ``benchmark_evaluate.measure``, as lines of text."""
    lines = [line(report["what"], report["seconds"])]
    for floor in (report, report.get("lower_floor")):
        if floor is not None:
            lines += [line(floor["floor"], floor["floor_seconds"]), ratio_line(floor)]
    return "\n".join(lines)
