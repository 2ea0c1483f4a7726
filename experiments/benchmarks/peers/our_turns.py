"""Our side of rectools_speed.py: a config's steps and evaluations on demand.

    python -m experiments.benchmarks.peers.our_turns --config=… --config.data.path=DIR

It is asked and answers as rectools_turns.py does.
"""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import version
from typing import Any

from absl import flags

from experiments import entry
from experiments.benchmarks.step_timer import make_step_timer
from experiments.benchmarks.timing import timed
from experiments.benchmarks.workload import Workload, open_workload
from tron_jax import memory

STARTS = 200  # steps that are made in turn, spread over an epoch
PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy")


def answers(workload: Workload, requests: Iterable[str]) -> Iterator[dict[str, Any]]:
    """Yields what is printed: once it is compiled, what ran; then each answer."""
    timer, starts = make_step_timer(workload, STARTS)
    turns, before = itertools.cycle(starts), workload.parts.batches.sessions_before
    yield {"versions": {name: version(name) for name in PACKAGES}}
    for line in requests:
        request = json.loads(line)
        if "steps" not in request:
            yield _evaluate(workload, timer.state)
            continue
        seconds, sessions, steps = 0.0, 0, 0
        while steps < request["steps"]:
            start = next(turns)
            dispatch = timer.time(start)
            seconds += dispatch.seconds
            steps += dispatch.steps
            sessions += before(start + dispatch.steps) - before(start)
        yield {"seconds": seconds, "sessions": int(sessions)}


def _evaluate(workload: Workload, state: Any) -> dict[str, Any]:
    """Ranks all predictions of test, of both protocols."""
    evaluator, test = workload.parts.evaluator, workload.splits["test"]
    seconds, ranks = timed(lambda: evaluator(state.params, state.items, 0, test))
    return {"seconds": seconds, "predictions": len(ranks["exact"].event)}


def main(argv: Sequence[str]) -> int:
    values = flags.FlagValues()
    entry.define_config(values, argv)

    def run(values: flags.FlagValues) -> None:
        for answer in answers(open_workload(values.config), sys.stdin):
            peak = memory.peak_memory().host / 1e9
            print(json.dumps(answer | {"peak_memory_gb": peak}), flush=True)

    return entry.run(run, values, argv)


if __name__ == "__main__":
    entry.start(main)
