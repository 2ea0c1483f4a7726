"""Times the train steps of two configs in turn, on the same data.

What a step is worth differs between models, so both are told as sessions a second.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from experiments.benchmarks.runner import Run, Runner, make_runner
from experiments.benchmarks.timing import ratio, ratio_line


def _seconds_a_session(runner: Runner, start: int) -> float:
    seconds, made, _ = runner.time(start)
    before = runner.parts.batches.sessions_before
    return seconds / max(before(start + made) - before(start), 1)


def measure(run: Run, other: Run, repeats: int) -> dict[str, Any]:
    """Dispatches of both runs in turn, at the same places of an epoch.

    Args:
      run: what to measure.
      other: what to measure it by.
      repeats: dispatches of each.

    Returns:
      sessions_per_s, other_sessions_per_s (of the medians), ratio, ratio_interval (of
      the speeds), repeats.
    """
    ours, at = make_runner(run, repeats)
    theirs, other_at = make_runner(other, repeats)
    these, those = [], []
    for start, other_start in zip(at, other_at, strict=True):
        these.append(_seconds_a_session(ours, start))
        those.append(_seconds_a_session(theirs, other_start))
    return {
        "sessions_per_s": float(1 / np.median(these)),
        "other_sessions_per_s": float(1 / np.median(those)),
        **ratio(those, these),
        "repeats": repeats,
    }


def table(report: dict[str, Any], other: str) -> str:
    """What ``measure`` found, as lines of text."""
    lines = {"this": report["sessions_per_s"], other: report["other_sessions_per_s"]}
    told = [f"{name:<48}{speed:>10,.0f} sessions/s" for name, speed in lines.items()]
    return "\n".join([*told, ratio_line(report)])
