"""Files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator
from pathlib import Path


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
