"""The stages of a program that passes over its input more than once."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TextIO

from tron_jax.console.progress import Progress

_LABEL = 40  # characters of a stage's name that are shown, so that figures fit as well


class StageCost(NamedTuple):
    """What a stage cost; peak_bytes: most memory resident in it, None where unknown."""

    stage: str
    seconds: float
    cpu_seconds: float
    peak_bytes: int | None


class Stages:
    """Shows one stage after the other, each by a ``Progress``, and measures them."""

    def __init__(
        self,
        timed: bool = False,
        *,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Is in no stage yet.

        Args:
          timed: measure each stage's memory as well, for ``write_timings``.
          stream: where the line is shown; stderr, unless a test says otherwise.
          clock: seconds that only rise.
        """
        self._timed = timed
        self._stream = stream
        self._clock = clock
        self._name = ""
        self._progress: Progress | None = None
        self._begun = self._cpu = 0.0
        self._costs: list[StageCost] = []

    def stage(self, name: str) -> None:
        """Ends the stage before and starts one, such as ``reading train.csv``."""
        self._end_stage()
        self._name = name
        self._begun, self._cpu = self._clock(), time.process_time()
        if self._timed:
            _reset_peak()
        self._progress = Progress(
            name[:_LABEL], None, unit="", stream=self._stream, clock=self._clock
        )
        self._progress.update(0)

    def count(self, unit: str, done: int, total: int) -> None:
        """Shows how far the stage is.

        Args:
          unit: what is counted, in the plural.
          done: how many are finished.
          total: how many there are.
        """
        if self._progress is not None:
            self._progress.unit, self._progress.total = unit, total
            self._progress.update(done)

    def close(self) -> None:
        """Wipes the line, so that what is printed next starts on a clean one."""
        if self._progress is not None:
            self._progress.clear()

    def write_timings(self, path: Path, events: int) -> None:
        """Ends the last stage and writes what each cost, and for how many events."""
        self._end_stage()
        stages = [cost._asdict() for cost in self._costs]
        path.write_text(json.dumps({"events": events, "stages": stages}, indent=2))

    def _end_stage(self) -> None:
        if self._progress is not None:
            seconds = self._clock() - self._begun
            cpu = time.process_time() - self._cpu
            peak = _peak() if self._timed else None
            self._costs.append(StageCost(self._name, seconds, cpu, peak))
            self._progress.clear()
        self._progress = None


def _reset_peak() -> None:
    """Starts the system's peak of resident memory anew (Linux)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _peak() -> int | None:
    """Bytes resident at most since ``_reset_peak``, mapped files included (Linux)."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{os.getpid()}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    return None
