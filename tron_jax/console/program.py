"""The frame of a program: flags in, one line and an exit status out."""

from __future__ import annotations

import contextlib
import io
import signal
import sys
from collections.abc import Callable, Generator, Sequence

from absl import flags

from tron_jax.console import messages, signals, starting
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
    starting.over()
    argv = sys.argv if argv is None else argv
    try:
        with _showing_what_can_be(), signals.unwinding():
            if _HELP.intersection(argv[1:]):
                _print_help(program, flag_values)
                return 0
            (parse or parse_flags)(flag_values, argv)
            program(flag_values)
            _flush()
    except BrokenPipeError:  # who reads has seen enough, as head has
        messages.silence(sys.stdout)
        return 128 + signal.SIGPIPE
    except (UserError, OSError, MemoryError) as error:
        return _fail(_message(error), 1)
    except KeyboardInterrupt:
        return _fail("interrupted", 128 + signal.SIGINT)
    except signals.Stopped as stopped:
        name = signal.Signals(stopped.number).name
        what = "terminated" if name == "SIGTERM" else f"stopped by {name}"
        return _fail(what, 128 + stopped.number)
    return 0


def _print_help(
    program: Callable[[flags.FlagValues], None], flag_values: flags.FlagValues
) -> None:
    messages.say((sys.modules[program.__module__].__doc__ or "").strip())
    messages.say(flag_values.get_help())


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


def parse_among(
    flag_values: flags.FlagValues, argv: Sequence[str], expected: str
) -> list[str]:
    """Fills the flags, which may stand before, between and behind other arguments.

    Args:
      flag_values: the program's flags, unparsed.
      argv: program name and arguments.
      expected: says what the other arguments are, of which there must be one.

    Returns:
      The other arguments.

    Raises:
      UserError: where there is none, or a flag is unknown or ill-typed.
    """
    flag_values.set_gnu_getopt(True)
    try:
        rest = flag_values(list(argv))[1:]
    except flags.Error as error:
        raise UserError(str(error)) from error
    if not rest:
        raise UserError(expected)
    return rest


def refuse_stray(rest: Sequence[str]) -> None:
    """Raises UserError where a command line holds more than its program and flags."""
    if rest[1:]:
        raise UserError(f"unexpected argument {rest[1]!r}; every option is a --flag=")


@contextlib.contextmanager
def _showing_what_can_be() -> Generator[None]:
    """Prints a question mark for what the encoding of stdout lacks."""
    stream = sys.stdout
    if not isinstance(stream, io.TextIOWrapper) or stream.closed:
        yield
        return
    before = stream.errors
    stream.reconfigure(errors="replace")
    try:
        yield
    finally:
        if not stream.closed:
            stream.reconfigure(errors=before)


def _message(error: Exception) -> str:
    if isinstance(error, OSError):
        known = (error.filename, error.strerror)
        return ": ".join(str(part) for part in known if part) or str(error)
    if isinstance(error, MemoryError):
        return f"out of memory: {error}"
    return str(error)


def _flush() -> None:
    if sys.stdout is not None and not sys.stdout.closed:
        sys.stdout.flush()


def _fail(message: str, status: int) -> int:
    with contextlib.suppress(OSError):
        _flush()
    messages.complain(f"error: {' '.join(message.split())}")
    return status
