"""Times the train steps of two configs in turn, on the same data.

Steps of different models do different amounts of work, so what is compared is sessions
per second.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from experiments.benchmarks.step_timer import StepTimer, make_step_timer
from experiments.benchmarks.timing import ratio, ratio_line
from experiments.benchmarks.workload import Workload


def _seconds_per_session(timer: StepTimer, start: int) -> float:
    seconds, steps, _ = timer.time(start)
    before = timer.parts.batches.sessions_before
    return seconds / max(before(start + steps) - before(start), 1)


def measure(workload: Workload, other: Workload, repeats: int) -> dict[str, Any]:
    """Times dispatches of both workloads in turn, spread over an epoch alike.

    Args:
      workload: what to measure.
      other: what to compare it with.
      repeats: dispatches of each.

    Returns:
      sessions_per_s, other_sessions_per_s (of the medians), ratio, ratio_interval (of
      the speeds), repeats.
    """
    timer, starts = make_step_timer(workload, repeats)
    other_timer, other_starts = make_step_timer(other, repeats)
    these, those = [], []
    for start, other_start in zip(starts, other_starts, strict=True):
        these.append(_seconds_per_session(timer, start))
        those.append(_seconds_per_session(other_timer, other_start))
    return {
        "sessions_per_s": float(1 / np.median(these)),
        "other_sessions_per_s": float(1 / np.median(those)),
        **ratio(those, these),
        "repeats": repeats,
    }


def table(report: dict[str, Any], other: str) -> str:
    """The report as lines of text.

    Args:
      report: what ``measure`` returned.
      other: name of the other config.

    Returns:
      Both speeds and their ratio.
    """
    speeds = {"this": report["sessions_per_s"], other: report["other_sessions_per_s"]}
    lines = [f"{name:<48}{speed:>10,.0f} sessions/s" for name, speed in speeds.items()]
    return "\n".join([*lines, ratio_line(report)])
