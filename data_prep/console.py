"""What a program says on stderr while it works."""

import contextlib
import json
import os
import sys
import time
from pathlib import Path
from typing import NamedTuple


class Stage(NamedTuple):
    """What a stage took; peak_bytes: most memory resident in it, None where unknown."""

    stage: str
    seconds: float
    cpu_seconds: float
    peak_bytes: int | None


class Progress:
    """One line on a terminal that says what is being done; nothing anywhere else.

    Where it is timed, it also measures each stage.
    """

    def __init__(self, timed: bool = False) -> None:
        """Looks whether anybody watches."""
        self._shown = sys.stderr.isatty()
        self._timed = timed
        self._stage = ""
        self._cpu = 0.0
        self._stages: list[Stage] = []
        self._begun = self._drawn = time.monotonic()

    def stage(self, text: str) -> None:
        """Starts a stage, such as ``reading train.csv``; counting starts anew."""
        self._end_stage()
        self._stage = text
        self._begun = time.monotonic()
        self._cpu = time.process_time()
        if self._timed:
            _forget_peak()
        self._draw(text)

    def count(self, text: str, done: int, total: int) -> None:
        """Shows how far a stage of known size is, its rate and the time left.

        Args:
          text: what is counted, in the plural.
          done: how many are finished.
          total: how many there are.
        """
        now = time.monotonic()
        if done < total and now - self._drawn < 0.2:
            return
        rate = done / max(now - self._begun, 1e-9)
        left = (total - done) / max(rate, 1e-9)
        share = 100 * done // max(total, 1)
        counted = f"{share:3d}% {done:,} {text}, {rate:,.0f}/s, {left:.0f} s left"
        self._draw(f"{self._stage[:40]}: {counted}" if self._stage else counted)

    def close(self) -> None:
        """Wipes the line, so that what is printed next starts on a clean one."""
        self._draw("")

    def write_timings(self, path: Path, events: int) -> None:
        """Ends the last stage and writes what each took, and for how many events."""
        self._end_stage()
        stages = [stage._asdict() for stage in self._stages]
        path.write_text(json.dumps({"events": events, "stages": stages}, indent=2))

    def _end_stage(self) -> None:
        if self._stage:
            seconds = time.monotonic() - self._begun
            cpu = time.process_time() - self._cpu
            peak = _peak() if self._timed else None
            self._stages.append(Stage(self._stage, seconds, cpu, peak))
        self._stage = ""

    def _draw(self, text: str) -> None:
        self._drawn = time.monotonic()
        if self._shown:
            print(f"\r\x1b[K{text[:100]}", end="", file=sys.stderr, flush=True)


def _forget_peak() -> None:
    """Starts the system's peak of resident memory anew (Linux)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _peak() -> int | None:
    """Bytes resident at most since ``_forget_peak``, mapped files included (Linux)."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{os.getpid()}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    return None
