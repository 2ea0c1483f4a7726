"""Room on a disk, and what a disk says when it fails."""

import errno
import os
import shutil
from pathlib import Path

from tron_jax.memory import readable


def free(folder: Path) -> int:
    """Returns the bytes that can be written where a folder is, or is going to be."""
    there = next(path for path in (folder, *folder.parents) if path.exists())
    return shutil.disk_usage(there).free


def require(folder: Path, needed: int) -> None:
    """Raises OSError, as a full disk would, where there is no room for some bytes."""
    room = free(folder)
    if needed > room:
        full = os.strerror(errno.ENOSPC)
        figures = f"{readable(needed)} are needed, {readable(room)} are free"
        raise OSError(errno.ENOSPC, f"{full} ({figures})", str(folder))


def reason(error: BaseException) -> str | None:
    """Returns what the system said, None where an error is no matter of the disk.

    TensorStore passes the system's errors on as text in a ValueError.
    """
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    codes = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
    reasons = [os.strerror(code) for code in (*codes, errno.EACCES, errno.ENOTDIR)]
    return next((text for text in reasons if text in str(error)), None)
