"""What a run of a sweep will take, from a few timed steps, in a process of its own.

    python -m experiments.sweeping.measuring CONFIG.json OUT.json [timed]

The process that makes the sweep computes nothing itself: the device's memory is for one
process at a time.
"""

from __future__ import annotations

import json
import math
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
from absl import flags
from ml_collections import ConfigDict

from experiments import entry, preflight
from experiments.assembly import program
from experiments.benchmarks.step_timer import make_step_timer
from experiments.benchmarks.workload import Workload, open_workload
from experiments.configs import stored
from experiments.sweeping.child import end_with_parent
from tron_jax.data.sessions import select
from tron_jax.storage.checkpoints import Checkpoints

DISPATCHES, ODD = 20, 4  # that are timed, and the fastest and slowest left out
SESSIONS = 1024  # of test, whose evaluation is timed


def main(argv: Sequence[str]) -> int:
    _, config, out, *timed = argv
    end_with_parent()

    def measured(flag_values: flags.FlagValues) -> None:
        del flag_values
        content = measure(stored.get_config(config), timed=bool(timed))
        Path(out).write_text(json.dumps(content))

    measured.__module__ = __name__
    return entry.run(measured, flags.FlagValues(), argv[:1])


def measure(config: ConfigDict, *, timed: bool) -> dict[str, Any]:
    """Describes a run and, if asked to, times it.

    Args:
      config: of the run.
      timed: whether to compile and time steps; else nothing is computed.

    Returns:
      ``program`` (its hash) and ``config`` (resolved); if timed, also ``seconds`` of
      training and evaluation, bytes of ``memory`` at most and of ``state`` of a
      checkpoint.
    """
    workload = open_workload(config)
    described = program.describe(
        workload.config, workload.num_items, workload.splits["train"], workload.parts
    )
    content = {"program": described.hash, "config": workload.config.to_dict()}
    return content | (_timed(workload) if timed else {})


def _timed(workload: Workload) -> dict[str, Any]:
    parts, train = workload.parts, workload.config.train
    timer, starts = make_step_timer(workload, DISPATCHES)
    times = sorted(d.seconds / d.steps for d in map(timer.time, starts))
    # Whatever else the machine does makes some take many times as long.
    step = statistics.fmean(times[ODD:-ODD])
    held_out = [name for name in workload.splits if name != "train"]
    evaluation = sum(_evaluation(workload, timer.state, name) for name in held_out)
    state = jax.eval_shape(parts.init)
    needs = preflight.measure(
        state,
        parts.batches,
        timer.programs.temporaries(),
        parts.evaluator if held_out else None,
        copies=Checkpoints(".").copies(state),
    )
    evaluations = 1 + train.epochs / min(train.evaluate_every, train.epochs)
    return {
        "seconds": step * parts.batches.steps_per_epoch * train.epochs
        + evaluation * evaluations,
        "memory": needs.peak,
        "state": needs.state,
    }


def _evaluation(workload: Workload, state: Any, split: str) -> float:
    """Seconds that an evaluation of a split takes, by its first sessions."""
    sessions = workload.splits[split]
    first = select(sessions, 0, min(SESSIONS, sessions.num_sessions))
    seconds = math.inf
    for _ in range(2):  # the first compiles
        begun = time.perf_counter()
        workload.parts.evaluator(state.params, state.items, 0, first)
        seconds = min(seconds, time.perf_counter() - begun)
    return seconds * sessions.num_events / max(first.num_events, 1)


if __name__ == "__main__":
    entry.start(main)
