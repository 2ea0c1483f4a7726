"""Processes of the check: each has a time limit, and its last words are kept."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from experiments.benchmarks.child_processes import ROOT, last_line
from experiments.device.report import Setting, read_figures, write_task

STDERR = "stderr.txt"
TAIL = 3000  # characters of its stderr that are kept of a process
GRACE = 10.0  # seconds between asking a process to end and ending it
COMMAND_BUFFERS = "--xla_gpu_enable_command_buffer="


class Ended(NamedTuple):
    """How a process ended.

    Attributes:
      error: in one line; None if all went well.
      stderr: the end of it.
    """

    error: str | None
    stderr: str


def child_command(folder: Path) -> list[str]:
    """The command of the process whose task lies in a folder."""
    return [sys.executable, "-m", "experiments.device.child", str(folder)]


def run(
    command: Sequence[str],
    folder: Path,
    limit: float,
    *,
    environment: Mapping[str, str] | None = None,
    stdout: int | None = None,
    own_group: bool = False,
) -> Ended:
    """Runs a process to its end or its time limit.

    Args:
      command: of the process; it starts in the root of the checkout.
      folder: where its stderr is written.
      limit: seconds.
      environment: variables besides those of this process.
      stdout: as for ``subprocess``; None = that of this process.
      own_group: whether to end its own children with it, and spare it Ctrl-C, after
        which this process ends it.

    Returns:
      How it ended.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / STDERR, "wb") as stderr:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ | dict(environment or {}),
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            start_new_session=own_group,
        )
        try:
            status, error = process.wait(limit), None
        except subprocess.TimeoutExpired:
            status, error = 0, f"not done after {limit:.0f} s, ended"
        finally:
            _end(process, own_group)
    text = (folder / STDERR).read_text(errors="replace")
    if status:
        error = why(text, status)
    return Ended(error, text[-TAIL:])


def why(stderr: str, status: int) -> str:
    """Why a process failed, in one line."""
    if status < 0:
        name = signal.Signals(-status).name
        return f"ended by {name}: {last_line(stderr, status)[:300]}"
    return last_line(stderr, status)[:300]


def _end(process: subprocess.Popen[bytes], group: bool) -> None:
    """Ends a process that still runs, and what it started if it has a group."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is not None and not group:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if group:
                os.killpg(process.pid, number)
            else:
                process.send_signal(number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE)


def measure_apart(
    name: str,
    setting: Setting,
    limit: float,
    *,
    label: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Makes one measurement of a part in a process of its own.

    Args:
      name: one of ``child.MEASUREMENTS``.
      setting: of the part, which itself must not have started a backend: the device's
        memory is for one process at a time.
      limit: seconds.
      label: of its folder, where several have the same name.
      environment: variables besides those of this process.

    Returns:
      Its figures.

    Raises:
      MeasurementError: if it failed, with its reason.
    """
    folder = setting.folder / (label or name)
    write_task(setting._replace(folder=folder), name)
    ended = run(child_command(folder), folder, limit, environment=environment)
    figures, errors = read_figures(folder)
    if errors or ended.error:
        sys.stderr.write(ended.stderr)
        raise MeasurementError("; ".join(errors) or str(ended.error), figures)
    return figures


class MeasurementError(Exception):
    """A measurement in a process of its own failed; what it found until then."""

    def __init__(self, reason: str, figures: dict[str, Any]) -> None:
        super().__init__(reason)
        self.figures = figures


def with_flag(flag: str) -> dict[str, str]:
    """Variables that add a flag to those of XLA."""
    return {"XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {flag}".strip()}
