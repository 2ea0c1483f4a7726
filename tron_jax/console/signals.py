"""By which people, terminals and clusters ask a program to stop."""

from __future__ import annotations

import builtins
import contextlib
import signal
import threading
from collections.abc import Generator

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


@contextlib.contextmanager
def unwinding() -> Generator[None]:
    """Lets each of ``STOPPING`` unwind the stack, so that what is half-written goes.

    Python makes a KeyboardInterrupt of SIGINT, the others raise ``Stopped``. What is
    ignored stays so, as nohup wants it. A thread may handle no signal, and a notebook
    is not ours to end: there, nothing is handled.
    """
    on_main_thread = threading.current_thread() is threading.main_thread()
    if not on_main_thread or hasattr(builtins, "__IPYTHON__"):
        yield
        return

    def stop(number: int, frame: object) -> None:
        del frame
        raise Stopped(number)

    before = {number: signal.getsignal(number) for number in STOPPING[1:]}
    # None: handled by what is not Python, such as faulthandler, and not to be restored.
    ours = {s: h for s, h in before.items() if h not in (None, signal.SIG_IGN)}
    for number in ours:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in ours.items():
            signal.signal(number, handler)
