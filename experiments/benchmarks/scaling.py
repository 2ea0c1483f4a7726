"""Time and memory of a train step against the size of catalogue and batch.

Each point is a process of its own (scaling_point.py) and is timed in turn with the
first of its series, so that their ratio holds on a shared machine.
"""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from absl import flags

from experiments.benchmarks import scaling_point
from experiments.benchmarks.child_processes import ROOT, command
from experiments.benchmarks.timing import ratio
from tron_jax.errors import UserError

GIGABYTES = ("peak_bytes", "state_bytes", "init_temporary_bytes")
TURNS = 6  # of each point with the first


class Worker(Protocol):
    """A point that times steps on demand."""

    def time(self, steps: int) -> list[float]:
        """Makes some steps; returns the seconds of each."""
        ...

    def finish(self) -> dict[str, Any]:
        """Ends the point; returns the memory that it used."""
        ...


# {num_items, batch_size} -> a point that is ready
Start = Callable[[dict[str, int]], Worker]


def define_flags(values: flags.FlagValues) -> None:
    flags.DEFINE_list(
        "num_items", ["43000", "430000", "1800000"], "Catalogues.", flag_values=values
    )
    flags.DEFINE_list(
        "batch_sizes", None, "Sessions; the config's if not given.", flag_values=values
    )
    scaling_point.define_profile(values)


def axes(values: flags.FlagValues) -> dict[str, list[int]]:
    """The sizes in the flags: of the catalogue, and of the batch.

    Raises:
      UserError: if one is no whole number, or too small.
    """
    sizes_of = {"num_items": values.num_items, "batch_size": values.batch_sizes or []}
    for axis, sizes in sizes_of.items():
        least = 2 if axis == "num_items" else 1
        if not all(size.isdecimal() and int(size) >= least for size in sizes):
            found = ",".join(sizes)
            raise UserError(f"{axis}: {found}; expected whole numbers from {least} on")
    if not values.num_items:
        raise UserError("num_items: none; expected at least one")
    return {axis: [int(size) for size in sizes] for axis, sizes in sizes_of.items()}


def measure(
    sizes: dict[str, list[int]], batch_size: int, start: Start, repeats: int
) -> dict[str, Any]:
    """Measures the points of each series.

    Args:
      sizes: of the catalogue, and of the batch in the first of these catalogues.
      batch_size: in the series of catalogues.
      start: begins a point.
      repeats: steps of each point to time.

    Returns:
      series: {axis: a record for each point}.
    """
    base = {"num_items": sizes["num_items"][0], "batch_size": batch_size}
    steps = max(1, repeats // TURNS)
    return {
        "series": {
            axis: _series(axis, of_axis, base, start, steps)
            for axis, of_axis in sizes.items()
            if of_axis
        }
    }


def _series(
    axis: str, sizes: list[int], base: dict[str, int], start: Start, steps: int
) -> list[dict[str, Any]]:
    base = base | {axis: sizes[0]}
    first = start(base)
    firsts = first.time(steps)
    points = []
    for size in sizes[1:]:
        point = base | {axis: size}
        try:
            times = _take_turns(first, start(point), steps, firsts)
            points.append(point | times)
        except UserError as error:
            points.append(point | {"error": str(error)})
    own = {"seconds": float(np.median(firsts)), "ratio": 1.0, "ratio_interval": [1, 1]}
    return [base | own | first.finish(), *points]


def _take_turns(
    first: Worker, other: Worker, steps: int, firsts: list[float]
) -> dict[str, Any]:
    """Times a point in turn with the first, whose times are appended to ``firsts``."""
    these, those = [], []
    for _ in range(TURNS):
        these += other.time(steps)
        those += first.time(steps)
    firsts += those
    return {
        "seconds": float(np.median(these)),
        **ratio(these, those),
        **other.finish(),
    }


def table(report: dict[str, Any]) -> str:
    """Each series as lines of text.

    By the compiler: ``state`` (what a run holds throughout), ``init`` (temporaries of
    making the first state) and ``temporaries`` (of a step); the peak is the system's.
    """
    lines = []
    for axis, points in report["series"].items():
        lines.append(
            f"{axis:>12}{'inputs':>9}{'step ms':>10}{'ratio':>8}{'interval':>14}"
            f"{'peak GB':>10}{'state GB':>10}{'init GB':>9}"
            f"{'temporaries MB':>16}"
        )
        for point in points:
            if "error" in point:
                lines.append(f"{point[axis]:>12,}  {point['error']}")
                continue
            low, high = point["ratio_interval"]
            peak, state, init = (point[name] / 1e9 for name in GIGABYTES)
            lines.append(
                f"{point[axis]:>12,}{point['inputs']:>9,}"
                f"{1e3 * point['seconds']:>10.1f}"
                f"{point['ratio']:>8.2f}{f'{low:.2f}..{high:.2f}':>14}"
                f"{peak:>10.2f}{state:>10.2f}{init:>9.2f}"
                f"{point['temporary_bytes'] / 1e6:>16.1f}"
            )
    return "\n".join(lines)


class Process:
    """A point in a process of its own, which ends with this one."""

    def __init__(self, arguments: Sequence[str]) -> None:
        self._process = subprocess.Popen(
            command(["point", *arguments]),
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._read()  # once it is ready

    def time(self, steps: int) -> list[float]:
        """Makes some steps; returns the seconds of each."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # its last line says why
            if not self._process.stdin.closed:
                print(steps, file=self._process.stdin, flush=True)
        return self._read()["seconds"]

    def finish(self) -> dict[str, Any]:
        """Ends the point; returns the memory that it used."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        found = self._read()
        self._end()
        return found

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = "" if self._process.stdout.closed else self._process.stdout.readline()
        found = json.loads(line) if line else {"error": "ended by itself"}
        if "error" in found:
            raise UserError(found["error"] + self._end())
        return found

    def _end(self) -> str:
        """Waits for the process to end; returns what to add to an error."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.stdout.close()
        status = self._process.wait()
        if status == -signal.SIGKILL:
            return " (killed, perhaps for its memory)"
        return f" (status {status})" if status else ""
