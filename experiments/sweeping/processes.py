"""The process of a run, as seen by its parent: started, watched, stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from experiments.benchmarks.child_processes import last_line
from experiments.sweeping.child import PIPE, Task
from tron_jax.errors import UserError

POLL = 0.5  # seconds between two looks at a process
TAIL = 4000  # bytes of a log in which its last line is looked for


Signals = Callable[[], Sequence[int]]  # those that this process received so far


class Stop(Exception):
    """This process was asked to stop, and what it had started has ended."""


def stop_if_asked(signals: Signals) -> None:
    """Raises Stop where a signal has been received."""
    if signals():
        raise Stop


def command_of(task: Task) -> list[str]:
    """The command that makes a run."""
    text = json.dumps(task._asdict())
    return [sys.executable, "-m", "experiments.sweeping.child", text]


def run(
    command: Sequence[str],
    log: Path,
    *,
    watch: Callable[[], None],
    signals: Signals,
) -> str | None:
    """Runs a process to its end, and stops it when this one is asked to stop.

    It has a session of its own, so that Ctrl-C reaches it by way of this process alone:
    as SIGTERM, upon which it saves; a second signal kills it. It ends as well when this
    process is gone, whose end of a pipe it holds.

    Args:
      command: of the process.
      log: gets all that it prints, after what is there.
      watch: called about twice a second.
      signals: those that this process has received so far.

    Returns:
      Why it failed, in a line; None where it did not.

    Raises:
      UserError: if the log cannot be written.
    """
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        output = log.open("ab")
    except OSError as error:
        raise UserError(f"cannot write {log}: {error.strerror}") from error
    theirs, ours = os.pipe()
    begin = output.tell()
    with output:
        process = subprocess.Popen(
            command,
            env=os.environ | {PIPE: str(theirs)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=(theirs,),
        )
    os.close(theirs)
    try:
        status = _wait(process, watch, signals)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        os.close(ours)
    return why(status, log, begin) if status else None


def _wait(
    process: subprocess.Popen[bytes],
    watch: Callable[[], None],
    signals: Signals,
) -> int:
    sent = 0
    while True:
        try:
            return process.wait(POLL)
        except subprocess.TimeoutExpired:
            watch()
        received = len(signals())
        if received > sent:
            process.send_signal(signal.SIGKILL if received > 1 else signal.SIGTERM)
            sent = received


def why(status: int, log: Path, begin: int = 0) -> str:
    """Why a process failed: its last line, and the signal where one ended it.

    Args:
      status: as ``subprocess`` gives it.
      log: what it printed.
      begin: where in the log its own output begins.
    """
    with log.open("rb") as file:
        file.seek(max(begin, file.seek(0, os.SEEK_END) - TAIL))
        text = file.read().decode("utf-8", "replace")
    last = last_line(text, status).strip()
    if status < 0:
        hint = " (out of memory?)" if status == -signal.SIGKILL else ""
        return f"ended by {signal.Signals(-status).name}{hint}; its last line: {last}"
    return last
