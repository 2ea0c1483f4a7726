"""Lines and words that programs have in common."""

import contextlib
import os
import sys
from typing import TextIO

_muted = False


def only_errors() -> None:
    """Prints no more than errors from now on: of many processes, one speaks."""
    global _muted
    _muted = True
    silence(sys.stdout)


def are_muted() -> bool:
    """Whether nothing but errors is printed."""
    return _muted


def say(message: str) -> OSError | None:
    """Prints a line; nobody may be there to read it, and what goes on goes on.

    Returns:
      Why it could not be printed, None where it could, or nothing is there to print to.
    """
    return _print(message, sys.stdout)


def warn(message: str) -> None:
    """Prints one line that is no error but should be read."""
    if not _muted:
        complain(f"warning: {message}")


def complain(message: str) -> None:
    """Prints one line on stderr, if there is one."""
    _print(message, sys.stderr)


def _print(message: str, stream: TextIO | None) -> OSError | None:
    if stream is None or stream.closed:  # as a process may be started
        return None
    # The name of a file may hold bytes that are no text.
    message = message.encode("utf-8", "backslashreplace").decode("utf-8")
    try:
        print(message, file=stream, flush=True)
    except OSError as error:  # a terminal, a pipe or a disk that is gone or full
        silence(stream)
        return error
    return None


def silence(stream: TextIO | None) -> None:
    """Sends what a stream still holds, and gets from now on, nowhere.

    It would be tried again, and fail, when the process ends.
    """
    if stream is None:
        return
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def readable(count: float) -> str:
    """Returns a number of bytes in GB, or in MB below a tenth of one."""
    return f"{count / 1e9:.2f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"
