"""By which people, terminals and clusters ask a program to stop."""

from __future__ import annotations

import builtins
import contextlib
import signal
import threading
from collections.abc import Callable, Generator, Iterable
from typing import Any

STOPPING = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,  # the terminal is gone
    signal.SIGUSR1,  # the time of a job is nearly over: Slurm's --signal=USR1@60
    signal.SIGUSR2,  # the same by Grid Engine's -notify
    signal.SIGXCPU,
)


class Stopped(BaseException):
    """A signal arrived; a BaseException, so that only cleaning up comes before it."""

    def __init__(self, number: int) -> None:
        """Knows which."""
        super().__init__(number)
        self.number = number


def in_notebook() -> bool:
    """Whether this is a kernel's process, or an IPython shell's."""
    return hasattr(builtins, "__IPYTHON__")


@contextlib.contextmanager
def handled(
    numbers: Iterable[signal.Signals], handler: Callable[[int, Any], None]
) -> Generator[None]:
    """Has a function handle signals, those that are ours to handle.

    What is ignored stays so, as nohup wants it. A thread may handle no signal: there,
    nothing is handled.

    Args:
      numbers: the signals.
      handler: as for ``signal.signal``.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in numbers}
    # None: handled by what is not Python, such as faulthandler, and not to be restored.
    ours = {s: h for s, h in before.items() if h not in (None, signal.SIG_IGN)}
    for number in ours:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number, restored in ours.items():
            signal.signal(number, restored)


@contextlib.contextmanager
def unwinding() -> Generator[None]:
    """Lets each of ``STOPPING`` unwind the stack, so that what is half-written goes.

    Python makes a KeyboardInterrupt of SIGINT, the others raise ``Stopped``. A notebook
    is not ours to end: there, nothing is handled.
    """

    def stop(number: int, frame: object) -> None:
        del frame
        raise Stopped(number)

    with handled(() if in_notebook() else STOPPING[1:], stop):
        yield
