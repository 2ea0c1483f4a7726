"""One point of `benchmark scaling`: a process that times steps on demand.

    python -m experiments.benchmark point --config=… --profile=otto --num_items=N \
        --batch_size=B

It reads lines from its input, each a number of steps to make, and answers each with a
line of JSON, their seconds; at the end of the input it prints the memory that it used.
Since peak memory never falls, each point is a process of its own; and two processes can
make steps in turn.
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
from experiments.benchmarks.made_up_sessions import make_sessions
from experiments.benchmarks.step_timer import StepTimer, compile_step
from experiments.benchmarks.workload import Workload, build_workload, commonest_shape
from tron_jax import memory
from tron_jax.console.messages import readable
from tron_jax.errors import UserError
from tron_jax.training.step_programs import StepPrograms


def define_profile(values: flags.FlagValues) -> None:
    """The flag for the lengths of the made-up sessions."""
    flags.DEFINE_enum(
        "profile", "otto", list(PROFILES), "Lengths of sessions.", flag_values=values
    )


BATCHES = 64  # made up; the steps of the commonest shape among them are measured
STEPS = 16  # different ones at most


def define_flags(values: flags.FlagValues) -> None:
    define_profile(values)
    flags.DEFINE_integer(
        "num_items", None, "Items.", 2, flag_values=values, required=True
    )
    flags.DEFINE_integer(
        "batch_size", None, "Sessions.", 1, flag_values=values, required=True
    )


def make_workload(
    config: ConfigDict, profile: str, num_items: int, batch_size: int
) -> Workload:
    """A config's run on made-up sessions.

    A batch smaller than the config's has fewer in-batch negatives, if it must.
    """
    negatives = config.negatives
    config.train.batch_size = batch_size
    negatives.num_in_batch = min(negatives.num_in_batch, batch_size - 1)
    checks.check(config)
    run_parts.use_compilation_cache()
    sessions = make_sessions(profile, BATCHES * batch_size, num_items)
    return build_workload(config, num_items, {"train": sessions})


def answers(workload: Workload, requests: Iterable[str]) -> Iterator[dict[str, Any]]:
    """Yields what the process prints: that it is ready, times of steps, its memory.

    Args:
      workload: of the point.
      requests: lines, each a number of steps to make.

    Yields:
      Records, the first once everything is compiled and has run once.

    Raises:
      UserError: if free memory is too small.
    """
    parts = workload.parts
    starts = commonest_shape(parts, STEPS)
    programs = compile_step(parts, starts)
    init = jax.jit(parts.init).lower().compile()
    sizes = _sizes(programs, parts) | {"init_temporary_bytes": _temporaries(init)}
    _refuse_too_large(
        sizes["state_bytes"]
        + max(sizes["temporary_bytes"], sizes["init_temporary_bytes"])
    )
    timer = StepTimer(parts, programs, init(), starts)
    turns = itertools.cycle(starts)
    yield {"ready": True}
    for line in requests:
        timed = [timer.time(start) for start in itertools.islice(turns, int(line))]
        yield {"seconds": [dispatch.seconds / dispatch.steps for dispatch in timed]}
    peak = memory.peak_memory()
    yield {"peak_bytes": peak.device or peak.host, **sizes}


def _sizes(programs: StepPrograms, parts: run_parts.RunParts) -> dict[str, int]:
    return {
        "state_bytes": memory.size(jax.eval_shape(parts.init)),
        "temporary_bytes": max(map(_temporaries, programs.by_shape.values())),
        "inputs": max(np.prod(shape, dtype=int).item() for shape in programs.by_shape),
    }


def _temporaries(compiled: jax.stages.Compiled) -> int:
    analysis: Any = compiled.memory_analysis()
    return 0 if analysis is None else int(analysis.temp_size_in_bytes)


def _refuse_too_large(needed: int) -> None:
    """Raises before the system would have to end a process for want of memory."""
    free = memory.free_memory()
    if free is not None and needed > free:
        figures = readable(needed), readable(free)
        raise UserError("needs {}, {} are free".format(*figures))
