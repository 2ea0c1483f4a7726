"""What device and host did during traced steps, by part."""

from __future__ import annotations

import bisect
import contextlib
import tempfile
import warnings
from collections import Counter
from collections.abc import Generator
from pathlib import Path
from typing import NamedTuple

import jax

from tron_jax.errors import UserError

STEP, BATCH = "benchmark step", "benchmark batch"  # marks of the host


class Op(NamedTuple):
    """One execution of an operation, in nanoseconds of the trace's clock."""

    start: float
    end: float
    name: str


class Trace(NamedTuple):
    """What was recorded, in order of start.

    Attributes:
      steps: of the whole steps, from building a batch to the result.
      batches: of building the batches.
      ops: of the operations of the compiled programs.
    """

    steps: list[Op]
    batches: list[Op]
    ops: list[Op]


@contextlib.contextmanager
def recorded(found: list[Trace]) -> Generator[None]:
    """Records what happens within, and appends it to a list.

    Raises:
      UserError: if the device's tracer does not record operations.
    """
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0  # it would slow the host down
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder, profiler_options=options):
            yield
        [path] = Path(folder).rglob("*.xplane.pb")
        with warnings.catch_warnings():
            # Where warnings are errors, one of jaxlib's own types ends the process.
            warnings.simplefilter("ignore", DeprecationWarning)
            found.append(read(path))
    if not found[-1].ops:
        kind = jax.devices()[0].device_kind
        raise UserError(f"--breakdown: the profiler tells no operations of {kind}")


def read(path: Path) -> Trace:
    """Reads a trace file of the profiler."""
    marks: dict[str, list[Op]] = {STEP: [], BATCH: []}
    ops = []
    data = jax.profiler.ProfileData.from_file(str(path))  # kept while it is read
    for plane in data.planes:
        for track in plane.lines:
            for event in track.events:
                if event.name in marks:
                    op = Op(event.start_ns, event.end_ns, event.name)
                    marks[event.name].append(op)
                    continue
                name = dict(event.stats).get("hlo_op")
                if name is not None:
                    ops.append(Op(event.start_ns, event.end_ns, str(name)))
    return Trace(sorted(marks[STEP]), sorted(marks[BATCH]), sorted(ops))


def seconds_by_part(
    ops: list[Op], window: Op, parts: dict[str, str]
) -> dict[str, float]:
    """Shares out the time of a window among the parts whose operations ran.

    Operations that ran at the same time share it equally, so that the sum is the time
    in which anything ran at all.

    Args:
      ops: in order of start.
      window: a step.
      parts: {operation: part}; what it does not name is left out.

    Returns:
      {part: seconds}.
    """
    first = bisect.bisect_left(ops, (window.start,))
    last = bisect.bisect_left(ops, (window.end,))
    edges = []
    for op in ops[first:last]:
        if op.name in parts:
            edges += [(op.start, 1, parts[op.name]), (op.end, -1, parts[op.name])]
    edges.sort()
    running: Counter[str] = Counter()
    total: dict[str, float] = {}
    before = window.start
    for now, change, part in edges:
        active = running.total()
        for name, count in running.items() if active else ():
            total[name] = total.get(name, 0) + (now - before) * count / active / 1e9
        running[part] += change
        before = now
    return total
