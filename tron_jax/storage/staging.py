"""How a checkpoint is written and deleted: under another name, and in the background.

A folder named after a step is complete: it gets that name once all of it is on disk,
and loses it before it is deleted.
"""

import contextlib
import os
import shutil
import threading
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

from tron_jax.errors import UserError
from tron_jax.files import disk_reason, sync

UNFINISHED = ".unfinished"


def place(folder: Path, step: int) -> Path:
    """The folder in which the checkpoint of a step is written."""
    return folder / UNFINISHED / str(step)


def begin(folder: Path) -> None:
    """Makes the folder of what is unfinished, empty.

    Args:
      folder: of the checkpoints; what a killed run left unfinished in it is removed.
    """
    clear(folder)
    (folder / UNFINISHED).mkdir(parents=True, exist_ok=True)


def finish(staged: Path) -> None:
    """Gives a complete checkpoint its name."""
    folder = staged.parent.parent
    os.rename(staged, folder / staged.name)
    sync(folder)


def delete(folder: Path, step: int) -> None:
    """Deletes one checkpoint; never leaves half of it under its name.

    What cannot be deleted yet, as on NFS what an evaluation still reads, goes later.
    """
    gone = folder / UNFINISHED / f"deleted-{step}-{time.time_ns()}"
    gone.parent.mkdir(exist_ok=True)
    os.rename(folder / str(step), gone)
    shutil.rmtree(gone, ignore_errors=True)


def clear(folder: Path) -> None:
    """Removes what is unfinished."""
    shutil.rmtree(folder / UNFINISHED, ignore_errors=True)


@contextlib.contextmanager
def writing(folder: Path, step: int) -> Generator[None]:
    """Removes what is half-written if the write fails, and names the disk's reason.

    Args:
      folder: of the checkpoints.
      step: that is being written.

    Raises:
      UserError: where the disk is at fault.
    """
    try:
        yield
    except Exception as error:
        # A save that failed leaves other threads that still write for a while.
        quiet, deadline = 0, time.monotonic() + 5
        while quiet < 5 and time.monotonic() < deadline:
            quiet = 0 if (folder / UNFINISHED).exists() else quiet + 1
            clear(folder)
            time.sleep(0.02)
        reason = next(filter(None, map(disk_reason, _causes(error))), None)
        if reason is None:
            raise
        path = folder / str(step)
        raise UserError(f"cannot write checkpoint {path}: {reason}") from error


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yields an error and those behind it: Orbax wraps one, or collects several."""
    yield error
    if isinstance(error, BaseExceptionGroup):
        for part in error.exceptions:
            yield from _causes(part)
    if error.__cause__ is not None:
        yield from _causes(error.__cause__)


class Background:
    """Runs one function at a time in a thread; keeps its exception for the caller."""

    def __init__(self) -> None:
        """Starts nothing yet."""
        self._thread: threading.Thread | None = None
        self._failure: Exception | None = None

    def start(self, work: Callable[[], None], name: str) -> None:
        """Starts some work; ``join`` must have been called since the last start."""

        def keep_failure() -> None:
            try:
                work()
            except Exception as error:
                self._failure = error

        self._thread = threading.Thread(target=keep_failure, name=name)
        self._thread.start()

    def check(self) -> None:
        """Raises the exception of the work, if it had one, once; never waits."""
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def join(self) -> None:
        """Waits for the work; does not raise."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
