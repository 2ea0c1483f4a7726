"""Where a step of TRON XL goes on the device, from a profiler's trace."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from experiments.benchmarks.breakdown import scopes_cached
from experiments.benchmarks.kernels import in_windows, longest, ran
from experiments.benchmarks.ops import parts_of_program
from experiments.benchmarks.trace import (
    STEP,
    Op,
    Trace,
    recorded,
    seconds_by_part,
    with_names_of,
)
from experiments.device import processes, workloads
from experiments.device.report import Report, Setting
from experiments.device.step_times import CompiledRun, compile_run
from experiments.device.tables import number, table

DISPATCHES = 10
TOP = 25
LIMIT = 120.0  # seconds
NAME_WIDTH = 60  # characters of a kernel's name in the table
NO_COMMAND_BUFFERS = "no command buffers"


def run(setting: Setting, report: Report) -> None:
    """Traces in a process of its own; where much has no name, also without buffers.

    A command buffer (CUDA graph) launches many kernels at once, and the tracer may not
    know whose they are; without, the kernels are the same but for the gaps.
    """
    with report.attempt("as it runs"):
        report.add(default=processes.measure_apart("trace_once", setting, LIMIT))
    found = report.figures.get("default")
    if found is None or (explained(found) > 0.9 and found["in_graphs"] < 0.1):
        return
    with report.attempt(NO_COMMAND_BUFFERS):
        found = processes.measure_apart(
            "trace_once",
            setting,
            LIMIT,
            label="trace_without",
            environment=processes.with_flag(processes.COMMAND_BUFFERS),
        )
        report.add(without_command_buffers=found)


def explained(found: dict[str, Any]) -> float:
    """The share of the time in which anything ran whose part is known."""
    return sum(found["parts"].values()) / max(1e-12, found["busy_s"])


def trace_once(setting: Setting, report: Report) -> None:
    """Traces dispatches in this process."""
    workload = workloads.make("tron_xl", "diginetica", tiny=setting.rehearse)
    with scopes_cached():
        run_ = compile_run(workload)
    [program] = run_.programs.by_shape.values()
    parts = parts_of_program(program.as_text() or "")
    trace, steps = record(run_, DISPATCHES)
    report.add(**summarise(trace, steps, parts))


def record(run_: CompiledRun, dispatches: int) -> tuple[Trace, int]:
    """Traces dispatches, one after the other; returns also the steps of each."""
    given = run_.batches()
    state = run_.init()
    batch, steps = next(given)
    batch = jax.device_put(batch)
    state, _ = jax.block_until_ready(run_.programs(state, batch))
    traces: list[Trace] = []
    with recorded(traces):
        for _ in range(dispatches):
            with jax.profiler.TraceAnnotation(STEP):
                state, _ = jax.block_until_ready(run_.programs(state, batch))
    return traces[0], steps


def summarise(trace: Trace, steps: int, parts: dict[str, str]) -> dict[str, Any]:
    """What a step is made up of, a mean over the traced dispatches.

    Args:
      trace: of dispatches of the same program.
      steps: of each dispatch.
      parts: {operation of the program: its part}.

    Returns:
      of a step: kernels, busy_s, gaps_s (between its first and last kernel) and
      step_s (as the host saw it); parts {part: seconds}, longest (``kernels.longest``);
      known, the share of kernels whose operation the tracer knew; in_graphs, the share
      of their time that is of whole command buffers (CUDA graphs); one_clock, whether
      the windows of the host hold the device's kernels.
    """
    ops = with_names_of(trace.ops, parts)
    # On a CPU, loops have events of their own, beside those of what they hold.
    ops = [op for op in ops if op.kernel or op.name in parts]
    windows = trace.steps
    held = in_windows(ops, windows)
    one_clock = sum(map(len, held)) > 0.9 * len(ops)
    if not one_clock:  # take all of the trace for one long dispatch
        windows = [Op(ops[0].start, ops[-1].end + 1, STEP)]
        held = [ops]
        steps *= len(trace.steps)
    found = [ran(of_window) for of_window in held]
    by_part: dict[str, float] = {}
    for window in windows:
        for part, seconds in seconds_by_part(ops, window, parts).items():
            by_part[part] = by_part.get(part, 0.0) + seconds / steps / len(windows)
    made = steps * len(windows)
    inside = [op for of_window in held for op in of_window]
    graphs = [op for op in inside if "graph" in op.kernel.lower()]
    lengths = [(step.end - step.start) / 1e9 for step in trace.steps]
    return {
        "steps_a_dispatch": made // len(trace.steps),
        "kernels": sum(one.count for one in found) / made,
        "busy_s": sum(one.busy for one in found) / made,
        "gaps_s": sum(one.gaps for one in found) / made,
        "step_s": float(np.sum(lengths)) / made,
        "parts": by_part,
        "known": sum(op.known for op in inside) / max(1, len(inside)),
        "in_graphs": _seconds(graphs) / max(1e-12, _seconds(inside)),
        "one_clock": one_clock,
        "longest": longest(inside, made, parts, TOP),
    }


def _seconds(ops: list[Op]) -> float:
    return sum(op.end - op.start for op in ops) / 1e9


def report_table(figures: dict[str, Any]) -> str:
    """The figures of ``run``."""
    texts = []
    for name, words in (
        ("default", "As it runs"),
        ("without_command_buffers", NO_COMMAND_BUFFERS.capitalize()),
    ):
        if name in figures:
            texts.append(f"{words}:\n\n{_one_table(figures[name])}")
    return "\n\n".join(texts)


def _one_table(found: dict[str, Any]) -> str:
    step = found["busy_s"] + found["gaps_s"]
    summary = [
        f"- kernels a step: {number(found['kernels'])}",
        f"- some kernel runs: {1e3 * found['busy_s']:.3f} ms",
        f"- gaps between the kernels of a dispatch: {1e3 * found['gaps_s']:.3f} ms",
        f"- the step as the host sees it: {1e3 * found['step_s']:.3f} ms, "
        f"{found['steps_a_dispatch']} a dispatch, traced",
        f"- kernels whose operation the tracer knows: {found['known']:.0%}",
        f"- share of their time in command buffers: {found['in_graphs']:.0%}",
    ]
    if not found["one_clock"]:
        summary.append("- host and device clocks differ: gaps include those between")
    by_part = sorted(found["parts"].items(), key=lambda item: -item[1])
    unknown = found["busy_s"] - sum(found["parts"].values())
    rows = [
        [part, 1e3 * seconds, f"{seconds / step:.1%}"]
        for part, seconds in [*by_part, ("of no known part", max(0.0, unknown))]
    ]
    kernels = [
        [
            row["op"][:NAME_WIDTH],
            row["kernel"][:NAME_WIDTH] if row["kernel"] != row["op"] else None,
            row["part"],
            row["count"],
            1e3 * row["seconds"],
        ]
        for row in found["longest"]
    ]
    return "\n\n".join(
        [
            "\n".join(summary),
            table(("part", "ms a step", "share"), rows),
            table(("operation", "kernel", "part", "a step", "ms a step"), kernels),
        ]
    )
