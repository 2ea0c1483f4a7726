"""Times train steps, data loading included, in turn with their floors.

The floor is what a step cannot do without, alone and at the step's own shapes: the
matmul of all candidates, shared by the batch, and `jax.lax.top_k` over their scores if
the config has a top-k. The lower floor has our own selection for `jax.lax.top_k`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from experiments.benchmarks.step_timer import make_step_timer
from experiments.benchmarks.timing import compare_with_floor, line, ratio_line, timed
from experiments.benchmarks.workload import Workload, num_candidates
from tron_jax.objectives import selection


def measure(workload: Workload, repeats: int) -> dict[str, Any]:
    """Times steps spread over an epoch, each followed by its floors.

    Args:
      workload: what to measure.
      repeats: dispatches to measure, of one step or many.

    Returns:
      what, floor, seconds, floor_seconds (medians, of one step), ratio,
      ratio_interval, repeats, and the samples behind them; if the config has a top-k,
      the same of the ``lower_floor``; and by the seconds, sessions_per_s.
    """
    timer, starts = make_step_timer(workload, repeats)
    topk, columns = workload.config.loss.topk, num_candidates(workload)
    selections: list[tuple[Select, int]] = [(_no_selection, columns)]
    if topk:
        wide = selection.width(columns, topk)
        selections = [(lax.top_k, columns), (selection.top_k, wide)]
    floors = {
        shape: [make_floor(workload, shape, *select) for select in selections]
        for shape in timer.programs.by_shape
    }
    step_times: list[float] = []
    floor_times: list[list[float]] = [[] for _ in selections]
    for start in starts:
        seconds, steps, shape = timer.time(start)
        step_times.append(seconds / steps)
        for floor, times in zip(floors[shape], floor_times, strict=True):
            times.append(timed(floor)[0] / math.prod(shape[:-1]))
    of = f"of {columns:,}"
    compared = compare_with_floor(step_times, floor_times[0])
    steps_per_s = 1 / compared["seconds"]
    epochs_per_s = steps_per_s / workload.parts.batches.steps_per_epoch
    report = {
        "what": f"train step, {workload.config.train.batch_size} sessions",
        "floor": f"floor: matmul{' and top_k' if topk else ''} {of}",
        **compared,
        "sessions_per_s": workload.splits["train"].num_sessions * epochs_per_s,
    }
    if topk:
        lower = {"floor": f"lower floor: matmul and our selection {of}"}
        report["lower_floor"] = lower | compare_with_floor(step_times, floor_times[1])
    return report


# (scores [N, C], k) -> [N, k] the highest, and their columns; or all of them
Select = Callable[[jax.Array, int], Any]


def _no_selection(scores: jax.Array, k: int) -> Any:
    return scores, None


def make_floor(
    workload: Workload, shape: tuple[int, ...], select: Select, columns: int
) -> Callable[[], Any]:
    """Compiles the floor of a dispatch and runs it once.

    Args:
      workload: what is measured.
      shape: of a batch, [events] or [steps, events].
      select: what follows the matmul.
      columns: candidates of an event.

    Returns:
      A function that runs the floor.
    """
    width, k = workload.config.model.hidden_size, workload.config.loss.topk
    key = jax.random.key(0)
    rows = jax.random.normal(key, (columns, width))
    hidden = jax.random.normal(key, (shape[-1], width))

    @jax.jit
    def floor(hidden: jax.Array, rows: jax.Array) -> Any:
        def one(i: int, total: jax.Array) -> jax.Array:
            scores = (hidden + i) @ rows.T
            # Without the barrier the compiler would compute one element only.
            best = lax.optimization_barrier(select(scores, k))
            return total + best[0][0, 0]

        return lax.fori_loop(0, math.prod(shape[:-1]), one, jnp.zeros(()))

    jax.block_until_ready(floor(hidden, rows))
    return lambda: floor(hidden, rows)


def table(report: dict[str, Any]) -> str:
    """The report of ``measure`` here or in ``evaluation`` as lines of text."""
    lines = [line(report["what"], report["seconds"])]
    for floor in (report, report.get("lower_floor")):
        if floor is not None:
            lines += [line(floor["floor"], floor["floor_seconds"]), ratio_line(floor)]
    return "\n".join(lines)
