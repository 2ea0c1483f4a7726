"""Times the train steps of two configs in turn, on the same data.

What a step is worth differs between models, so both are told as sessions a second.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from experiments.benchmarks import run as benchmark_run
from experiments.benchmarks.run import Run
from experiments.benchmarks.timing import ratio, ratio_line, timed


class Stepper:
    """A run that makes its steps at the places asked for."""

    def __init__(self, run: Run, repeats: int):
        """Compiles the steps of ``repeats`` places spread over an epoch; warms them."""
        self.at = benchmark_run.spread(run.parts, repeats)
        self._batches = run.parts.batches
        self._step = benchmark_run.compile_step(run.parts, self.at)
        state = jax.jit(run.parts.init)()
        self._state = benchmark_run.warm(self._step, state, self.at)

    def seconds_a_session(self, start: int) -> float:
        """Makes the dispatch of a step, data loading included."""

        def one() -> Any:
            batch, _ = benchmark_run.take(self._step.parts, start)
            return self._step(self._state, jax.device_put(batch))

        _, made = benchmark_run.take(self._step.parts, start)
        before = self._batches.sessions_before
        seconds, (self._state, _) = timed(one)
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
    ours, theirs = Stepper(run, repeats), Stepper(other, repeats)
    these, those = [], []
    for start, other_start in zip(ours.at, theirs.at, strict=True):
        these.append(ours.seconds_a_session(start))
        those.append(theirs.seconds_a_session(other_start))
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
