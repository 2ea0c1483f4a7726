"""Our side of published_tron.py: a process that times steps on demand.

    python -m experiments.benchmarks.peers.published_ours JSON

It answers lines of JSON with lines of JSON, as published_peer.py does.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from typing import Any

import jax

from experiments import entry
from experiments.assembly import run_parts
from experiments.benchmarks import breakdown
from experiments.benchmarks.evaluation import MOST_SESSIONS
from experiments.benchmarks.peers.published_data import Source, open_source
from experiments.benchmarks.step_timer import StepTimer, compile_step
from experiments.benchmarks.timing import timed
from experiments.benchmarks.workload import Workload, build_workload, dispatch_at
from tron_jax import jax_settings, memory
from tron_jax.data.sessions import select

Record = dict[str, Any]


def about(workload: Workload) -> Record:
    """What ran: versions, threads, sizes."""
    config = workload.config
    return {
        "versions": {
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in ("jax", "jaxlib", "numpy")},
        },
        "threads": os.cpu_count(),
        "device": jax.devices()[0].device_kind,
        "batch_size": config.train.batch_size,
        "item_table": config.optimizer.item_table,
        "steps_per_epoch": workload.parts.batches.steps_per_epoch,
    }


def answer_train(
    workload: Workload, settings: Record, requests: Iterator[Record]
) -> Iterator[Record]:
    """Makes and times the steps ``first`` … of each request, after ``skip`` others."""
    parts = workload.parts
    starts = range(0, settings["last_step"], dispatch_at(parts, 0)[1])
    programs = compile_step(parts, starts)
    timer = StepTimer(parts, programs, jax.jit(parts.init)(), starts)
    yield {"ready": True, **about(workload)}
    for request in requests:
        first = request["first"]
        _steps(timer, max(0, first - request["skip"]), first)
        seconds = _steps(timer, first, first + request["steps"])
        yield {"seconds": seconds}


def _steps(timer: StepTimer, first: int, end: int) -> list[float]:
    """Makes the steps of a range in dispatches; returns the seconds of each step."""
    seconds: list[float] = []
    while first + len(seconds) < end:
        dispatch = timer.time(first + len(seconds))
        seconds += [dispatch.seconds / dispatch.steps] * dispatch.steps
    return seconds


def answer_parts(
    workload: Workload, settings: Record, requests: Iterator[Record]
) -> Iterator[Record]:
    """Traces steps spread over an epoch."""
    yield {"ready": True, **about(workload)}
    for request in requests:
        found = breakdown.measure(workload, request["repeats"])
        found["parts"]["dispatch, waiting"] = found["unaccounted"]
        yield {"step": found["seconds"], "parts": found["parts"]}


def answer_evaluate(
    workload: Workload, settings: Record, requests: Iterator[Record]
) -> Iterator[Record]:
    """Makes passes over the first test sessions; both protocols, ranks kept."""
    test, evaluator = workload.splits["test"], workload.parts.evaluator
    sessions = select(test, 0, min(test.num_sessions, MOST_SESSIONS))
    state = jax.jit(workload.parts.init)()

    def evaluate() -> Any:
        return evaluator(state.params, state.items, 0, sessions)

    predictions = len(evaluate()["exact"].event)
    yield {"ready": True, **about(workload)}
    for _ in requests:
        yield {"seconds": timed(evaluate)[0], "predictions": predictions}


MODES: dict[str, Callable[[Workload, Record, Iterator[Record]], Iterator[Record]]] = {
    "train": answer_train,
    "parts": answer_parts,
    "evaluate": answer_evaluate,
}


def main() -> None:
    """Runs one mode, until the input ends."""
    settings = json.loads(sys.argv[1])
    requests = map(json.loads, sys.stdin)
    with jax_settings.stated():
        source = open_source(Source(**settings["source"]))
        config = entry.read_config(settings["config"], {})
        run_parts.use_compilation_cache()
        workload = build_workload(config, source.num_items, source.splits)
        for record in MODES[settings["mode"]](workload, settings, requests):
            print(json.dumps(record), flush=True)
        print(json.dumps({"peak_bytes": memory.peak_memory().host}), flush=True)


if __name__ == "__main__":
    main()
