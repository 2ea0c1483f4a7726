"""A process on either side of published_tron.py, which answers requests."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from experiments import entry
from experiments.benchmarks.child_processes import ROOT, last_line
from tron_jax.errors import UserError

OURS = "experiments.benchmarks.peers.published_ours"
PEER = Path(__file__).with_name("published_peer.py")
MALLOC = "GLIBC_TUNABLES"


POLL = 1.0  # seconds between two looks whether a process still runs


class Stopped(UserError):
    """A row ends here; others may go on."""


class OutOfTime(Stopped):
    """The limit was reached before an answer."""


class Killed(Stopped):
    """A process was killed by the system."""


class Child:
    """A process that is ready; ``about`` is what it said of itself."""

    def __init__(
        self,
        command: Sequence[str],
        folder: Path,
        environment: dict[str, str],
        deadline: float,
    ) -> None:
        self._command, self._deadline = command, deadline
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self._process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            process_group=0,  # of its own, with its loader's workers
        )
        try:
            self.about = self._read()
        except BaseException:
            self.close()
            raise

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Sends a request; returns the answer.

        Raises:
          UserError: if the process ends instead, with its last line.
          Stopped: if the limit is reached, or the system killed it.
        """
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # its last line says why
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        return self._read()

    def finish(self) -> dict[str, Any]:
        """Ends the process; returns the memory that it used."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        found = self._read()
        self._process.wait()
        return found

    def close(self) -> None:
        """Ends the process, and the workers of its loader, if they still run."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            if stream is not None and not stream.closed:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        # Its workers hold the pipe too, so that it does not end with the process.
        while not select.select([self._process.stdout], [], [], POLL)[0]:
            if time.monotonic() > self._deadline:
                raise OutOfTime("the limit was reached")
            if self._process.poll() is not None:
                self._fail()
        line = self._process.stdout.readline()  # a child prints whole lines
        if not line:
            self._fail()
        return json.loads(line)

    def _fail(self) -> NoReturn:
        status = self._process.wait()
        if status == -signal.SIGKILL:
            raise Killed("killed, perhaps for its memory")
        self._errors.seek(0)
        what = Path(self._command[0]).name
        raise UserError(f"{what}: {last_line(self._errors.read(), status)}")


def start_ours(settings: dict[str, Any], deadline: float) -> Child:
    """A process of this checkout, with the memory settings of its programs."""
    environment = os.environ | {MALLOC: entry.MALLOC}
    command = [sys.executable, "-m", OURS, json.dumps(settings)]
    return Child(command, ROOT, environment, deadline)


def start_peer(
    python: str, settings: dict[str, Any], deadline: float, our_memory: bool
) -> Child:
    """A process of the published code.

    Args:
      python: interpreter of its environment.
      settings: see published_peer.py.
      deadline: when to end it, of ``time.monotonic``.
      our_memory: with our memory settings instead of the system's own.

    Returns:
      The process.
    """
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": ""}
    environment.pop(MALLOC, None)
    if our_memory:
        environment[MALLOC] = entry.MALLOC
    command = [python, str(PEER), json.dumps(settings)]
    return Child(command, Path(settings["folder"]), environment, deadline)
