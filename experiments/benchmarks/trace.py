"""What device and host did during traced steps, by part.

On a CPU, operations of the compiled programs are events of the host's threads. On a GPU
they are kernels and copies on the device's streams, named by the operation that they
are of where the tracer knows it; a kernel inside a command buffer has only a name of
its own, in which that of its operation is often found.
"""

from __future__ import annotations

import bisect
import contextlib
import re
import tempfile
import warnings
from collections import Counter
from collections.abc import Generator
from pathlib import Path
from typing import Any, NamedTuple

import jax

from tron_jax.errors import UserError

STEP, BATCH = "benchmark step", "benchmark batch"  # marks of the host


# Of events on a stream that say what memory is whose, but are no work.
BOOKKEEPING = {"memalloc_details", "memfree_details", "memory_residency_details"}
DEVICE = "/device:"  # how the names of devices' planes begin


class Op(NamedTuple):
    """One execution of an operation, in nanoseconds of the trace's clock.

    Attributes:
      start: of it.
      end: of it.
      name: of the operation in the compiled program; of the kernel where the tracer
        does not know it.
      kernel: name of what ran; that of the operation on a CPU.
      known: whether the tracer knew the operation.
    """

    start: float
    end: float
    name: str
    kernel: str = ""
    known: bool = True


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
        raise UserError(f"the profiler tells no operations of {kind}")


def read(path: Path) -> Trace:
    """Reads a trace file of the profiler."""
    data = jax.profiler.ProfileData.from_file(str(path))
    return of_profile(data)


def of_profile(data: jax.profiler.ProfileData) -> Trace:
    """Finds marks of the host, and operations: of the device's streams if it has any.

    The host's own events of a GPU are launches, not operations.
    """
    marks: dict[str, list[Op]] = {STEP: [], BATCH: []}
    of_host, of_device = [], []
    for plane in data.planes:
        on_device = plane.name.startswith(DEVICE)
        for track in plane.lines:
            if on_device and not _holds_ops(plane, track):
                continue  # sums of what others hold
            for event in track.events:
                if event.name in marks:
                    op = Op(event.start_ns, event.end_ns, event.name)
                    marks[event.name].append(op)
                    continue
                stats = dict(event.stats)
                name = stats.get("hlo_op")
                if on_device:
                    if not BOOKKEEPING & stats.keys():
                        of_device.append(_kernel(event, name))
                elif name is not None:
                    of_host.append(Op(event.start_ns, event.end_ns, str(name)))
    ops = of_device or of_host
    return Trace(sorted(marks[STEP]), sorted(marks[BATCH]), sorted(ops))


def _holds_ops(plane: Any, track: Any) -> bool:
    """Whether a line of a device is a stream; on a TPU, whether it is of operations."""
    if "GPU" in plane.name:
        return track.name.startswith("Stream")
    return track.name == "XLA Ops"


def _kernel(event: Any, operation: object) -> Op:
    known = operation is not None
    name = str(operation) if known else event.name
    return Op(event.start_ns, event.end_ns, name, event.name, known)


def with_names_of(ops: list[Op], parts: dict[str, str]) -> list[Op]:
    """Renames operations that a program does not know by what their kernels are called.

    A kernel is named after its operation, with underscores for dots: ``loop_fusion_3``
    is of ``loop_fusion.3``.

    Args:
      ops: of a trace.
      parts: {operation of the program: its part}.

    Returns:
      The operations, in the same order.
    """
    spelt = {re.sub(r"[.\-]", "_", name): name for name in parts}
    return [
        op if op.name in parts else op._replace(name=spelt.get(op.kernel, op.name))
        for op in ops
    ]


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
