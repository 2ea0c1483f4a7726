"""The frame of a program: flags in, one line and an exit status out."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Generator, Sequence

from absl import flags

from tron_jax.errors import UserError

_HELP = {"--help", "-h", "-help", "--helpshort", "--helpfull"}


def run(
    program: Callable[[flags.FlagValues], None],
    flag_values: flags.FlagValues,
    argv: Sequence[str] | None = None,
    *,
    parse: Callable[[flags.FlagValues, Sequence[str]], None] | None = None,
) -> int:
    """Parses flags, runs a program and turns a user's mistake into one line.

    Flags live in their own ``FlagValues``, not in absl's global one, so that programs
    that share a flag's name can be imported into one process.

    Args:
      program: is given the parsed flags.
      flag_values: the program's flags, unparsed.
      argv: program name and arguments; those of the process where None.
      parse: fills the flags or raises UserError; ``parse_flags`` where None.

    Returns:
      The exit status: 0, 1 after a mistake of the user's, 128 + n after signal n.
    """
    argv = sys.argv if argv is None else argv
    if _HELP.intersection(argv[1:]):
        print((sys.modules[program.__module__].__doc__ or "").strip())
        print(flag_values.get_help())
        return 0
    try:
        with _unwinding_on_sigterm():
            (parse or parse_flags)(flag_values, argv)
            program(flag_values)
    except (UserError, OSError, MemoryError) as error:
        return _fail(_message(error), 1)
    except KeyboardInterrupt:
        return _fail("interrupted", 128 + signal.SIGINT)
    except _Terminated:
        return _fail("terminated", 128 + signal.SIGTERM)
    return 0


def parse_flags(flag_values: flags.FlagValues, argv: Sequence[str]) -> None:
    """Fills the flags.

    Raises:
      UserError: where a flag is unknown or ill-typed, or an argument is no flag.
    """
    try:
        rest = flag_values(list(argv))
    except flags.Error as error:
        raise UserError(str(error)) from error
    refuse_stray(rest)


def refuse_stray(rest: Sequence[str]) -> None:
    """Raises UserError where a command line holds more than its program and flags."""
    if rest[1:]:
        raise UserError(f"unexpected argument {rest[1]!r}; every option is a --flag=")


class _Terminated(BaseException):
    """SIGTERM arrived; a BaseException, so that only cleaning up comes before it."""


@contextlib.contextmanager
def _unwinding_on_sigterm() -> Generator[None]:
    """Lets SIGTERM unwind the stack, so that what is half-written is removed."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may handle signals
        return

    def stop(signum: int, frame: object) -> None:
        del signum, frame
        raise _Terminated

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _message(error: Exception) -> str:
    if isinstance(error, OSError):
        known = (error.filename, error.strerror)
        return ": ".join(str(part) for part in known if part) or str(error)
    if isinstance(error, MemoryError):
        return f"out of memory: {error}"
    return str(error)


def _fail(message: str, status: int) -> int:
    sys.stdout.flush()
    print("error:", " ".join(message.split()), file=sys.stderr)
    return status
