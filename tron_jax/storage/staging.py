"""Where checkpoints are put together and taken apart, out of sight.

What has a step for a name is complete: it is renamed into its place when whole, and
out of it before it is deleted.
"""

import contextlib
import os
import shutil
import time
from collections.abc import Generator
from pathlib import Path

from tron_jax.errors import UserError
from tron_jax.files import disk_reason, sync

UNFINISHED = ".unfinished"


def begin(folder: Path, step: int) -> Path:
    """Returns where to put the checkpoint of a step together; not made yet.

    Args:
      folder: of the checkpoints; what a killed run left unfinished in it goes.
      step: of the checkpoint.
    """
    if (folder / UNFINISHED).exists():
        shutil.rmtree(folder / UNFINISHED)
    (folder / UNFINISHED).mkdir(parents=True)
    return folder / UNFINISHED / str(step)


def finish(staged: Path) -> None:
    """Gives a complete checkpoint its name."""
    folder = staged.parent.parent
    os.rename(staged, folder / staged.name)
    sync(folder)


def delete(folder: Path, step: int) -> None:
    """Deletes one checkpoint; never leaves half of it under its name."""
    gone = folder / UNFINISHED / f"deleted-{step}"
    gone.parent.mkdir(exist_ok=True)
    os.rename(folder / str(step), gone)
    shutil.rmtree(gone)


def clear(folder: Path) -> None:
    """Removes what is unfinished."""
    shutil.rmtree(folder / UNFINISHED, ignore_errors=True)


@contextlib.contextmanager
def writing(folder: Path, step: int) -> Generator[None]:
    """Leaves nothing half-written, and tells what the disk said in one line.

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
        reason = disk_reason(error)
        if reason is None:
            raise
        path = folder / str(step)
        raise UserError(f"cannot write checkpoint {path}: {reason}") from error
