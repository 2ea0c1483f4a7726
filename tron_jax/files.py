"""Files written whole or not at all, room for them, and a disk's own words."""

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
    """Gives a name to write to, which takes the place of a file once it is on disk.

    Args:
      path: the file to be; one that is there stays until the new one is whole.

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
    """Puts a file, or a folder's list of files, on disk before going on."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def free_room(folder: Path) -> int:
    """Returns the bytes that can be written where a folder is, or is going to be."""
    there = next(path for path in (folder, *folder.parents) if path.exists())
    return shutil.disk_usage(there).free


def require_room(folder: Path, needed: int) -> None:
    """Raises OSError, as a full disk would, where there is no room for some bytes."""
    room = free_room(folder)
    if needed > room:
        full = os.strerror(errno.ENOSPC)
        figures = f"{readable(needed)} are needed, {readable(room)} are free"
        raise OSError(errno.ENOSPC, f"{full} ({figures})", str(folder))


def disk_reason(error: BaseException) -> str | None:
    """Returns what the system said, None where an error is no matter of the disk.

    TensorStore passes the system's errors on as text in a ValueError.
    """
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    codes = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
    reasons = [os.strerror(code) for code in (*codes, errno.EACCES, errno.ENOTDIR)]
    return next((text for text in reasons if text in str(error)), None)
