"""Where the time of a train step goes, by tracing it.

The step is that of a training run, so each part is measured as it is there. The
profiler says when each operation ran and the scopes in the code to which part it
belongs (ops.py); operations that ran at the same time share it. `unaccounted` is the
rest of the step: dispatch by the host, and waiting. The same steps are made in turn
without the tracer, which shows whether it changed them.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Generator
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.benchmarks.ops import PARTS, parts_of_program
from experiments.benchmarks.step_timer import StepTimer, make_step_timer
from experiments.benchmarks.timing import ratio
from experiments.benchmarks.trace import (
    BATCH,
    STEP,
    Trace,
    recorded,
    seconds_by_part,
    with_names_of,
)
from experiments.benchmarks.workload import Workload, dispatch_at

HOST = "batch building"
ROUNDS = 4  # each starts and stops the tracer once
KEPT = 0.75  # of the steps, those least disturbed by other programs


class Sample(NamedTuple):
    """One dispatch.

    Attributes:
      shape: of its batch.
      seconds: of one step.
      parts: {part: seconds of one step}; empty if it was not traced.
    """

    shape: tuple[int, ...]
    seconds: float
    parts: dict[str, float]


@contextlib.contextmanager
def scopes_cached() -> Generator[None]:
    """Ignores cached programs that were compiled from code with other scopes."""
    name = "jax_compilation_cache_include_metadata_in_key"
    before = getattr(jax.config, name)
    jax.config.update(name, True)
    try:
        yield
    finally:
        jax.config.update(name, before)


def measure(workload: Workload, repeats: int) -> dict[str, Any]:
    """Times steps spread over an epoch, by part.

    Args:
      workload: what to measure.
      repeats: steps to measure.

    Returns:
      what, and what ``summarise`` returns.
    """
    _, steps = dispatch_at(workload.parts, 0)
    dispatches = max(ROUNDS, math.ceil(repeats / steps))
    with scopes_cached():
        timer, starts = make_step_timer(workload, dispatches)
    parts = {
        shape: parts_of_program(compiled.as_text() or "")
        for shape, compiled in timer.programs.by_shape.items()
    }
    plain: list[Sample] = []
    traced: list[Sample] = []
    for round_ in range(ROUNDS):
        for start in starts[round_::ROUNDS]:
            seconds, steps, shape = timer.time(start)
            plain.append(Sample(shape, seconds / steps, {}))
        traced += _traced(timer, starts[round_::ROUNDS], parts)
    return summarise(plain, traced) | {
        "what": f"train step, {workload.config.train.batch_size} sessions",
    }


def _traced(
    timer: StepTimer, starts: list[int], parts: dict[tuple[int, ...], dict[str, str]]
) -> list[Sample]:
    """Traces the dispatches at some steps."""
    traces: list[Trace] = []
    dispatches = []
    with recorded(traces):
        for start in starts:
            with jax.profiler.TraceAnnotation(STEP):
                with jax.profiler.TraceAnnotation(BATCH):
                    batch, steps = dispatch_at(timer.parts, start)
                    batch = jax.device_put(batch)
                result = jax.block_until_ready(timer.programs(timer.state, batch))
                timer.state, _ = result
            dispatches.append((batch.shape, steps))
    [trace] = traces
    ops = {shape: with_names_of(trace.ops, parts[shape]) for shape, _ in dispatches}
    samples = []
    for window, building, (shape, steps) in zip(
        trace.steps, trace.batches, dispatches, strict=True
    ):
        seconds = seconds_by_part(ops[shape], window, parts[shape])
        seconds[HOST] = (building.end - building.start) / 1e9
        by_part = {part: value / steps for part, value in seconds.items()}
        whole = (window.end - window.start) / 1e9 / steps
        samples.append(Sample(shape, whole, by_part))
    return samples


def summarise(plain: list[Sample], traced: list[Sample]) -> dict[str, Any]:
    """Means over the traced steps that were disturbed least.

    Args:
      plain: without tracer.
      traced: the same steps with it, in the same order.

    Returns:
      seconds, parts {part: seconds}, unaccounted (seconds less the sum of parts),
      repeats; and ratio, ratio_interval of traced over plain.
    """
    best = least_disturbed(traced)
    means = {
        part: float(np.mean([sample.parts.get(part, 0.0) for sample in best]))
        for part in (HOST, *PARTS)
    }
    means = {part: value for part, value in means.items() if value > 0}
    seconds = float(np.mean([sample.seconds for sample in best]))
    pair = ([sample.seconds for sample in samples] for samples in (traced, plain))
    return {
        "seconds": seconds,
        "parts": means,
        "unaccounted": seconds - sum(means.values()),
        "repeats": len(traced),
        **ratio(*pair),
    }


def least_disturbed(samples: list[Sample]) -> list[Sample]:
    """Leaves out the quarter that took longest relative to the median of its shape."""
    of_shape: dict[tuple[int, ...], list[float]] = {}
    for sample in samples:
        of_shape.setdefault(sample.shape, []).append(sample.seconds)
    medians = {shape: np.median(values) for shape, values in of_shape.items()}
    order = sorted(samples, key=lambda sample: sample.seconds / medians[sample.shape])
    return order[: math.ceil(KEPT * len(order))]


def table(report: dict[str, Any]) -> str:
    """Lines of each part, of the unaccounted rest and of the step, with shares."""
    rows = [
        *report["parts"].items(),
        ("unaccounted", report["unaccounted"]),
        (report["what"], report["seconds"]),
    ]
    lines = [
        f"{name:<36}{1e3 * seconds:>10.2f} ms{seconds / report['seconds']:>8.1%}"
        for name, seconds in rows
    ]
    lines.insert(-1, "-" * len(lines[-1]))
    low, high = report["ratio_interval"]
    overhead = f"{report['ratio']:.2f} ({low:.2f}..{high:.2f})"
    return "\n".join([*lines, f"time with the tracer over that without: {overhead}"])
