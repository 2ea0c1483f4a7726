"""One point of `benchmark scaling`: a process that makes steps when it is told to.

    python -m experiments.benchmark point --config=… --profile=otto --num_items=N \
        --batch_size=B

Reads lines from its input, each a number of steps to make, and answers each with a line
of JSON, their seconds; at the end of the input it tells the memory that it took. Peak
memory cannot fall, so each point is a process of its own; and two of them can be told
to make steps in turn.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import jax
import numpy as np
from absl import flags
from ml_collections import ConfigDict

from data_prep.made_up.profiles import PROFILES
from experiments import checks
from experiments.assembly import run_parts
from experiments.benchmarks import runner as benchmark_run
from experiments.benchmarks.runner import Run, Runner
from experiments.benchmarks.sessions import make_sessions
from tron_jax import memory
from tron_jax.console.messages import readable
from tron_jax.errors import UserError
from tron_jax.training.loop import StepPrograms


def define_profile(values: flags.FlagValues) -> None:
    """Which sessions are made up."""
    flags.DEFINE_enum(
        "profile", "otto", list(PROFILES), "Lengths of sessions.", flag_values=values
    )


BATCHES = 64  # of sessions made; the steps of the commonest shape among them are taken
STEPS = 16  # different ones


def define_flags(values: flags.FlagValues) -> None:
    define_profile(values)
    flags.DEFINE_integer(
        "num_items", None, "Items.", 2, flag_values=values, required=True
    )
    flags.DEFINE_integer(
        "batch_size", None, "Sessions.", 1, flag_values=values, required=True
    )


def make_run(config: ConfigDict, profile: str, num_items: int, batch_size: int) -> Run:
    """A run of a config on made-up sessions.

    In-batch negatives are as many as a smaller batch has other sessions.
    """
    negatives = config.negatives
    config.train.batch_size = batch_size
    negatives.num_in_batch = min(negatives.num_in_batch, batch_size - 1)
    checks.check(config)
    run_parts.use_compilation_cache()
    sessions = make_sessions(profile, BATCHES * batch_size, num_items)
    return benchmark_run.build(config, num_items, {"train": sessions})


def answers(measured: Run, asked: Iterable[str]) -> Iterator[dict[str, Any]]:
    """What the process says: that it is ready, seconds of steps, its memory.

    Args:
      measured: the point.
      asked: lines, each a number of steps.

    Yields:
      Records, the first once everything is compiled and warm.

    Raises:
      UserError: if the free memory will not do.
    """
    parts = measured.parts
    at = benchmark_run.commonest_shape(parts, STEPS)
    step = benchmark_run.compile_step(parts, at)
    init = jax.jit(parts.init).lower().compile()
    sizes = _sizes(step, parts) | {"init_temporary_bytes": _temp(init)}
    _refuse_too_large(
        sizes["state_bytes"]
        + max(sizes["temporary_bytes"], sizes["init_temporary_bytes"])
    )
    runner = Runner(parts, step, init(), at)
    turns = itertools.cycle(at)
    yield {"ready": True}
    for line in asked:
        made = [runner.time(start) for start in itertools.islice(turns, int(line))]
        yield {"seconds": [dispatch.seconds / dispatch.made for dispatch in made]}
    peak = memory.peak_memory()
    yield {"peak_bytes": peak.device or peak.host, **sizes}


def _sizes(step: StepPrograms, parts: run_parts.RunParts) -> dict[str, int]:
    return {
        "state_bytes": memory.size(jax.eval_shape(parts.init)),
        "temporary_bytes": max(map(_temp, step.by_shape.values())),
        "inputs": max(np.prod(shape, dtype=int).item() for shape in step.by_shape),
    }


def _temp(compiled: jax.stages.Compiled) -> int:
    analysis: Any = compiled.memory_analysis()
    return 0 if analysis is None else int(analysis.temp_size_in_bytes)


def _refuse_too_large(needed: int) -> None:
    """Rather than have the system end some process or other."""
    free = memory.free_memory()
    if free is not None and needed > free:
        figures = readable(needed), readable(free)
        raise UserError("needs {}, {} are free".format(*figures))
