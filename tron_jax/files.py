"""Files and folders written whole or not at all; free room, and reasons of failures."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Generator
from pathlib import Path

from tron_jax.console.messages import readable
from tron_jax.errors import UserError


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Generator[Path]:
    """Yields another name to write to, and renames that file once it is on disk.

    Args:
      path: the file's final name; an old file of that name stays until the new one is
        complete.

    Yields:
      Where to write.

    Raises:
      OSError: if it cannot be written; what was there before stays.
    """
    path = Path(path)
    new = path.with_name(path.name + ".new")
    try:
        yield new
        sync(new)
        os.replace(new, path)
    except BaseException:
        with contextlib.suppress(OSError):
            new.unlink()
        raise


@contextlib.contextmanager
def new_folder(path: Path) -> Generator[Path]:
    """Gives a folder to fill, which becomes ``path`` when all went well.

    Whatever stops the body (an error, Ctrl-C, SIGTERM) removes that folder and the
    parents that were made for it.

    Args:
      path: the folder to be; there is none yet, or an empty one.

    Yields:
      Where to write: a temporary sibling of ``path``.

    Raises:
      UserError: if there is something at ``path``, or the disk cannot be written to.
    """
    refuse_taken(path)
    path = path.resolve()
    made = [parent for parent in path.parents if not parent.exists()]
    partial = path.parent / f".{path.name}.partial-{os.getpid()}"
    try:
        shutil.rmtree(partial, ignore_errors=True)  # of a killed run with our number
        partial.mkdir(parents=True)
        yield partial
        partial.rename(path)
    except BaseException as error:
        shutil.rmtree(partial, ignore_errors=True)
        for parent in made:
            with contextlib.suppress(OSError):
                parent.rmdir()
        if isinstance(error, OSError):
            why = os.strerror(error.errno) if error.errno else error
            raise UserError(f"{path}: cannot be written: {why}") from error
        raise


def refuse_taken(path: Path) -> None:
    """Raises UserError where ``path`` exists and is not an empty folder."""
    if path.is_symlink() or path.exists():
        if not path.is_dir():
            raise UserError(f"{path}: exists and is no folder; expected a new folder")
        if any(path.iterdir()):
            raise UserError(f"{path}: exists and is not empty; expected a new folder")


def sync(path: str | os.PathLike[str]) -> None:
    """Waits until a file, or a folder's list of files, is on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def free_room(folder: Path) -> int:
    """Returns the free bytes of the disk where a folder is, or will be created."""
    there = next(path for path in (folder, *folder.parents) if path.exists())
    return shutil.disk_usage(there).free


def require_room(folder: Path, needed: int) -> None:
    """Raises OSError, as a full disk would, if there is no room for so many bytes."""
    room = free_room(folder)
    if needed > room:
        full = os.strerror(errno.ENOSPC)
        figures = f"{readable(needed)} are needed, {readable(room)} are free"
        raise OSError(errno.ENOSPC, f"{full} ({figures})", str(folder))


def disk_reason(error: BaseException) -> str | None:
    """Returns the system's words for a disk error, None for an error of another kind.

    TensorStore passes the system's errors on as text in a ValueError.
    """
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    codes = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
    reasons = [os.strerror(code) for code in (*codes, errno.EACCES, errno.ENOTDIR)]
    return next((text for text in reasons if text in str(error)), None)
