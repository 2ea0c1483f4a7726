"""Files and folders written whole or not at all; free room, and reasons of failures."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import signal
import threading
from collections.abc import Generator
from pathlib import Path

from tron_jax.console.messages import readable
from tron_jax.console.signals import STOPPING
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
      path: the folder to be; there is none yet, or an empty one, which may be a mount
        point or in a folder that may not be written.

    Yields:
      Where to write: a temporary sibling of ``path``, or where that exists already, a
      folder in it, whose files are moved up in the end, those written last at last.

    Raises:
      UserError: if there is something at ``path``, or the disk cannot be written to.
    """
    refuse_taken(path)
    path = path.resolve()
    made = [parent for parent in path.parents if not parent.exists()]
    exists = path.exists()
    partial = path / "x" if exists else path
    partial = partial.with_name(f".{path.name}.partial-{os.getpid()}")
    try:
        shutil.rmtree(partial, ignore_errors=True)  # of a killed run with our number
        partial.mkdir(parents=True)
        yield partial
        if exists:
            _move_up(partial)
        else:
            partial.rename(path)
    except BaseException as error:
        with _undisturbed():
            shutil.rmtree(partial, ignore_errors=True)
            for parent in made:
                with contextlib.suppress(OSError):
                    parent.rmdir()
        if isinstance(error, OSError):
            raise UserError(_what_failed(error, path, partial)) from error
        raise


def _move_up(folder: Path) -> None:
    """Moves what is in a folder to its parent and removes it, or moves nothing."""
    files = sorted(folder.iterdir(), key=lambda file: file.stat().st_mtime_ns)
    targets = {file: folder.parent / file.name for file in files}
    moved: list[Path] = []
    try:
        for file, target in targets.items():
            if target.exists():  # of somebody who filled the folder meanwhile
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target)
            moved.append(file)
            file.rename(target)
        folder.rmdir()
    except BaseException:
        with _undisturbed():
            for file in moved:
                if not file.exists():
                    targets[file].rename(file)
        raise


@contextlib.contextmanager
def _undisturbed() -> Generator[None]:
    """Ignores what else asks a process to stop while it removes what it half wrote."""
    if threading.current_thread() is not threading.main_thread():
        yield  # which alone may say so
        return
    before = {number: signal.getsignal(number) for number in STOPPING}
    ours = {s: handler for s, handler in before.items() if handler is not None}
    for number in ours:
        signal.signal(number, signal.SIG_IGN)
    try:
        yield
    finally:
        for number, handler in ours.items():
            signal.signal(number, handler)


def _what_failed(error: OSError, path: Path, partial: Path) -> str:
    """Names the file that failed, unless it is one of those that become ``path``."""
    why = os.strerror(error.errno) if error.errno else str(error)
    named = Path(os.fsdecode(error.filename)) if error.filename else partial
    if partial in (named, *named.parents) or named in partial.parents:
        return f"{path}: cannot be written: {why}"
    return f"{named}: {why}"


def refuse_taken(path: Path) -> None:
    """Raises UserError where ``path`` exists and is not an empty folder.

    A fresh disk has its ``lost+found``.
    """
    if path.is_symlink() or path.exists():
        if not path.is_dir():
            raise UserError(f"{path}: exists and is no folder; expected a new folder")
        found = sorted(file.name for file in path.iterdir())
        if found and found != ["lost+found"]:
            holds = f"it holds {found[0]}"
            raise UserError(
                f"{path}: exists and is not empty ({holds}); expected a new folder"
            )


def local_path(path: str | os.PathLike[str], *, any_name: bool = False) -> Path:
    """Returns a path of this machine.

    A URL would become a folder named ``gs:``, and an empty path, as of a variable that
    is not set, is the current folder.

    Args:
      path: as it was given.
      any_name: take a name that is no UTF-8, which not every library can write.

    Raises:
      UserError: where it is none.
    """
    if not os.fspath(path):
        raise UserError("an empty path; expected a file or folder (a variable unset?)")
    try:
        os.fspath(path).encode("utf-8")
    except UnicodeEncodeError as error:
        if not any_name:
            raise UserError(f"{str(path)!r}: a name that is no UTF-8 text") from error
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", os.fspath(path)):
        raise UserError(f"{path}: a URL; expected a path of this machine")
    return Path(path)


def require_writable(path: Path) -> None:
    """Raises UserError where it is known that a file cannot be written."""
    if path.is_dir():
        raise UserError(f"cannot write {path}: it is a folder")
    if not path.parent.is_dir():
        raise UserError(f"cannot write {path}: no folder {path.parent}")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise UserError(f"cannot write {path}: {os.strerror(errno.EACCES)}")


def sync(path: str | os.PathLike[str]) -> None:
    """Waits until a file, or a folder's list of files, is on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        flush(handle)
    finally:
        os.close(handle)


def flush(handle: int) -> None:
    """Waits until an open file is on disk, where its file system can say so.

    One that is mounted from a bucket, say, does not know it of folders, or of any file.
    """
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
            raise


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
    codes += (errno.EMFILE, errno.ENFILE)
    reasons = [os.strerror(code) for code in (*codes, errno.EACCES, errno.ENOTDIR)]
    return next((text for text in reasons if text in str(error)), None)
