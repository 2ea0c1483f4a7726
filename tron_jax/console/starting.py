"""What holds for a command before its program begins: while Python still imports."""

from __future__ import annotations

import _thread
import os
import signal
import sys
import threading
import traceback
from types import TracebackType
from typing import Any

from tron_jax.console.messages import complain


def prepare() -> None:
    """Called by a package of programs before it imports anything that takes time.

    It does nothing unless Python is about to run one of them by ``-m``: whoever imports
    the package otherwise is a process of its own that we are guests in.
    """
    if sys.argv[:1] != ["-m"]:  # what Python sets it to until it has found the program
        return
    _open_missing_streams()
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)
        sys.unraisablehook = _strike_again
    sys.excepthook = _in_one_line


def over() -> None:
    """Called where a program begins, which knows what to do when it is interrupted."""
    on_main_thread = threading.current_thread() is threading.main_thread()
    if on_main_thread and signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _end(number: int, frame: object) -> None:
    """Ends as ``program.run`` does; an exception would run through half an import."""
    complain("error: interrupted")
    os._exit(128 + number)


def _in_one_line(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Says which of JAX's variables makes no sense, for which its import fails."""
    raised_in = [frame.filename for frame in traceback.extract_tb(trace)][-1:]
    reads_variables = os.path.join("jax", "_src", "config.py")
    if issubclass(kind, ValueError) and any(
        file.endswith(reads_variables) for file in raised_in
    ):
        complain(f"error: {error}")
    else:
        sys.__excepthook__(kind, error, trace)


def _strike_again(found: Any) -> None:
    """Repeats a Ctrl-C that struck where Python drops exceptions, as in a callback."""
    if issubclass(found.exc_type, KeyboardInterrupt):
        threading.Timer(0.01, _thread.interrupt_main).start()
    else:
        sys.__unraisablehook__(found)


def _open_missing_streams() -> None:
    """Puts /dev/null where a process was started without stdin, stdout or stderr.

    The next file to be opened would take the number of the missing one, and what XLA
    logs to stderr would go into it.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            found = os.open(os.devnull, os.O_RDWR)  # takes the lowest free number
            os.set_inheritable(found, True)
        if getattr(sys, name) is None:
            mode = "r" if name == "stdin" else "w"
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115
