"""Files written whole or not at all, free room on disk, and reasons why it failed."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Generator
from pathlib import Path

from tron_jax.console.messages import readable


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
