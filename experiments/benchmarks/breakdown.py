"""Where the time of a train step goes: the step itself, traced.

What is compiled and run is the very step of a training run, so no part is measured in
a form that it does not have there. The profiler tells when each operation ran, the
scopes in the code tell which part it belongs to (ops.py), and what ran at the
same time shares the time. `unaccounted` is the rest of those very steps: the host's
dispatch and what waits. The same steps are made without the tracer in turn, so that one
sees whether it changed them.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Generator
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.benchmarks import runner as benchmark_run
from experiments.benchmarks.ops import PARTS, parts_of_program
from experiments.benchmarks.runner import Run, Runner
from experiments.benchmarks.timing import ratio
from experiments.benchmarks.trace import BATCH, STEP, Trace, recorded, seconds_by_part
from tron_jax.training.loop import shape_of

HOST = "batch building"
ROUNDS = 4  # each starts and stops the tracer once
KEPT = 0.75  # of the steps, those least disturbed by other programs


class Sample(NamedTuple):
    """One dispatch.

    Attributes:
      shape: of its batch.
      seconds: of one step.
      parts: {part: seconds of one step}; empty where it was not traced.
    """

    shape: tuple[int, ...]
    seconds: float
    parts: dict[str, float]


@contextlib.contextmanager
def scopes_cached() -> Generator[None]:
    """Takes no program from the cache whose code had other scopes."""
    name = "jax_compilation_cache_include_metadata_in_key"
    before = getattr(jax.config, name)
    jax.config.update(name, True)
    try:
        yield
    finally:
        jax.config.update(name, before)


def measure(run: Run, repeats: int) -> dict[str, Any]:
    """Steps spread over an epoch, by part.

    Args:
      run: what to measure.
      repeats: steps to measure.

    Returns:
      what, and what ``summarise`` returns.
    """
    _, made = benchmark_run.take(run.parts, 0)
    dispatches = max(ROUNDS, math.ceil(repeats / made))
    with scopes_cached():
        runner, at = benchmark_run.make_runner(run, dispatches)
    parts = {
        shape: parts_of_program(compiled.as_text() or "")
        for shape, compiled in runner.step.by_shape.items()
    }
    plain: list[Sample] = []
    traced: list[Sample] = []
    for round_ in range(ROUNDS):
        for start in at[round_::ROUNDS]:
            seconds, made, shape = runner.time(start)
            plain.append(Sample(shape, seconds / made, {}))
        _traced(runner, at[round_::ROUNDS], parts, traced)
    return summarise(plain, traced) | {
        "what": f"train step, {run.config.train.batch_size} sessions",
    }


def _traced(
    runner: Runner,
    at: list[int],
    parts: dict[tuple[int, ...], dict[str, str]],
    samples: list[Sample],
) -> None:
    found: list[Trace] = []
    taken = []
    with recorded(found):
        for start in at:
            with jax.profiler.TraceAnnotation(STEP):
                with jax.profiler.TraceAnnotation(BATCH):
                    batch, made = benchmark_run.take(runner.parts, start)
                    batch = jax.device_put(batch)
                made_of = jax.block_until_ready(runner.step(runner.state, batch))
                runner.state, _ = made_of
            taken.append((shape_of(batch), made))
    [trace] = found
    for window, building, (shape, made) in zip(
        trace.steps, trace.batches, taken, strict=True
    ):
        seconds = seconds_by_part(trace.ops, window, parts[shape])
        seconds[HOST] = (building.end - building.start) / 1e9
        by_part = {part: value / made for part, value in seconds.items()}
        whole = (window.end - window.start) / 1e9 / made
        samples.append(Sample(shape, whole, by_part))


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
    """Leaves out a quarter: what took longest beside the median of its shape."""
    of_shape: dict[tuple[int, ...], list[float]] = {}
    for sample in samples:
        of_shape.setdefault(sample.shape, []).append(sample.seconds)
    medians = {shape: np.median(values) for shape, values in of_shape.items()}
    order = sorted(samples, key=lambda sample: sample.seconds / medians[sample.shape])
    return order[: math.ceil(KEPT * len(order))]


def table(report: dict[str, Any]) -> str:
    """Each part, what none accounts for, and the step, with their shares of it."""
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
    beside = f"{report['ratio']:.2f} ({low:.2f}..{high:.2f})"
    return "\n".join([*lines, f"time with the tracer over that without: {beside}"])
