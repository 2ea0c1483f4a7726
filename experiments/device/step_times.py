"""Compiles a run's step for its commonest shape of batch, and times it."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax

from experiments.benchmarks.step_timer import compile_step
from experiments.benchmarks.workload import Workload, commonest_shape, dispatch_at
from experiments.device.report import Setting
from experiments.device.timed_calls import summary
from tron_jax import memory
from tron_jax.console.messages import readable
from tron_jax.training.step_programs import StepPrograms, compiled_together

ROUNDS, QUEUED = 20, 5  # 100 dispatches
TINY_ROUNDS = 2


def rounds_of(setting: Setting) -> int:
    """Rounds of dispatches that a step is timed by."""
    return TINY_ROUNDS if setting.rehearse else ROUNDS


@dataclasses.dataclass
class CompiledRun:
    """A run whose step is compiled for one shape of batch.

    Attributes:
      workload: the run.
      starts: first steps of dispatches of that shape.
      programs: the step.
      init: makes the first state.
      seconds: that compiling both took.
    """

    workload: Workload
    starts: list[int]
    programs: StepPrograms
    init: jax.stages.Compiled
    seconds: float

    def batches(self) -> Iterator[tuple[Any, int]]:
        """Dispatches and their numbers of steps, again and again."""
        while True:
            for start in self.starts:
                yield dispatch_at(self.workload.parts, start)


class _CacheHits:
    """Counts what comes from the persistent compilation cache in this process."""

    def __init__(self) -> None:
        self.count = 0
        jax.monitoring.register_event_listener(self._heard)

    def _heard(self, event: str, **_: Any) -> None:
        self.count += event == "/jax/compilation_cache/cache_hits"


_hits = _CacheHits()


def from_cache() -> int:
    """Programs that this process has found in the persistent cache so far."""
    return _hits.count


def compile_run(workload: Workload) -> CompiledRun:
    """Compiles the commonest step of a run, and its first state."""
    starts = commonest_shape(workload.parts, QUEUED)
    start = time.perf_counter()
    programs = compile_step(workload.parts, starts[:1])
    init = jax.jit(workload.parts.init).lower().compile()
    seconds = time.perf_counter() - start
    return CompiledRun(workload, starts, programs, init, seconds)


def compile_together(workloads: dict[str, Workload]) -> dict[str, Any]:
    """Compiles several runs side by side: {name: a CompiledRun, or what it raised}."""

    def attempt(workload: Workload) -> Any:
        try:
            return compile_run(workload)
        except Exception as error:
            return error

    with ThreadPoolExecutor(compiled_together()) as pool:
        return dict(zip(workloads, pool.map(attempt, workloads.values()), strict=True))


def room(run: CompiledRun) -> tuple[int, int | None]:
    """Bytes that a run needs, and those that are free; None = not known."""
    state = memory.size(jax.eval_shape(run.workload.parts.init))
    temporary = max(run.programs.temporaries(), memory.temporaries([run.init]) - state)
    return state + max(temporary, 0), memory.free_memory()


def refuse_too_large(run: CompiledRun) -> None:
    """Raises MemoryError, with the figures, where a run does not fit."""
    needed, free = room(run)
    if free is not None and needed > free:
        raise MemoryError(f"needs {readable(needed)}, {readable(free)} are free")


def measure(run: CompiledRun, rounds: int = ROUNDS) -> dict[str, Any]:
    """Times the step of a run that fits into memory.

    Args:
      run: compiled.
      rounds: of ``QUEUED`` dispatches each.

    Returns:
      compile_s (step and first state); first_step_s, from there until the
      first step's result; device_s of a step (dispatches of batches that are there
      already, queued without waiting in between) and host_s of a step (building its
      batch and dispatching it, until control returns) with spread; inputs, and steps
      a dispatch.
    """
    refuse_too_large(run)
    start = time.perf_counter()
    state = run.init()
    given = run.batches()
    batch, steps = next(given)
    state, _ = jax.block_until_ready(run.programs(state, jax.device_put(batch)))
    first = time.perf_counter() - start
    there = [jax.device_put(next(given)[0]) for _ in range(QUEUED)]
    device, host = [], []
    jax.block_until_ready(there)
    for _ in range(rounds + 1):
        start = time.perf_counter()
        for batch in there:
            state, _ = run.programs(state, batch)
        jax.block_until_ready(state)
        device.append((time.perf_counter() - start) / QUEUED / steps)
    for _ in range(rounds + 1):
        start = time.perf_counter()
        for _ in range(QUEUED):
            batch, _ = next(given)
            state, _ = run.programs(state, jax.device_put(batch))
        host.append((time.perf_counter() - start) / QUEUED / steps)
        jax.block_until_ready(state)
    return {
        "compile_s": run.seconds,
        "first_step_s": first,
        "steps_a_dispatch": steps,
        "inputs": batch.shape[-1],
        "device_s": summary(device[1:]),
        "host_s": summary(host[1:]),
    }
