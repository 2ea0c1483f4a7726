"""The frame of a program: flags in, one line and an exit status out."""

import contextlib
import signal
import sys
from collections.abc import Callable, Generator, Sequence

from absl import flags

from data_prep.errors import UserError

_HELP = {"--help", "-h", "-help", "--helpshort", "--helpfull"}


def run(
    main: Callable[[flags.FlagValues], None],
    flag_values: flags.FlagValues,
    argv: Sequence[str] | None = None,
) -> int:
    """Parses flags, runs ``main`` and turns a user's mistake into one line.

    Flags live in their own ``FlagValues``, not in absl's global one, so that two
    programs that both have ``--out`` can be imported into one process.

    Args:
      main: the program; it is given the parsed flags.
      flag_values: the program's flags, unparsed.
      argv: program name and arguments; those of the process where None.

    Returns:
      The exit status: 0, 1 after a mistake of the user's, 128 + n after signal n.
    """
    argv = sys.argv if argv is None else argv
    if _HELP.intersection(argv[1:]):
        print((sys.modules[main.__module__].__doc__ or "").strip())
        print(flag_values.get_help())
        return 0
    try:
        with _stopping_on_sigterm():
            _parse(flag_values, argv)
            main(flag_values)
    except (UserError, OSError, MemoryError) as error:
        return _fail(_message(error), 1)
    except KeyboardInterrupt:
        return _fail("interrupted", 128 + signal.SIGINT)
    except _Terminated:
        return _fail("terminated", 128 + signal.SIGTERM)
    return 0


class _Terminated(BaseException):
    """SIGTERM arrived; a BaseException, so that only cleaning up comes before it."""


def _parse(flag_values: flags.FlagValues, argv: Sequence[str]) -> None:
    """Fills the flags, refusing unknown and ill-typed ones and stray arguments."""
    try:
        rest = flag_values(list(argv))
    except flags.Error as error:
        raise UserError(str(error)) from error
    if rest[1:]:
        raise UserError(f"unexpected argument {rest[1]!r}; every option is a --flag=")


@contextlib.contextmanager
def _stopping_on_sigterm() -> Generator[None]:
    """Lets SIGTERM unwind the stack, so that what is half-written is removed."""

    def stop(signum: int, frame: object) -> None:
        del signum, frame
        raise _Terminated

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _message(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    if isinstance(error, MemoryError):
        return f"out of memory: {error}"
    return str(error)


def _fail(message: str, status: int) -> int:
    sys.stdout.flush()
    print("error:", " ".join(message.split()), file=sys.stderr)
    return status
