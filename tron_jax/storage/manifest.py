"""The sizes and checksums of a checkpoint's files, to find out whether it is damaged.

For a flipped bit in array data Orbax returns wrong numbers (tried with 0.12.8), and for
other damage it raises errors of many kinds; here every damage is one kind of error.
"""

import json
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tron_jax.errors import UserError
from tron_jax.files import replacing, sync
from tron_jax.hosts.peers import Peers

FORMAT = 1
NAME = "manifest.json"
READERS = 4  # files read at a time; a checksum keeps one core busy at 1 to 2 GB/s


class DamagedCheckpointError(UserError):
    """A checkpoint that no longer holds what was saved."""

    def __init__(self, folder: Path, reason: str):
        """Names the checkpoint and what is wrong with it."""
        super().__init__(f"checkpoint {folder} is damaged ({reason})")
        self.reason = reason


class MissingCheckpointError(UserError):
    """A checkpoint that there is not, or no longer: a run deletes old ones."""


def write(folder: Path, content: dict[str, Any]) -> None:
    """Writes a checkpoint's manifest, whole or not at all.

    Args:
      folder: the checkpoint.
      content: anything that JSON can hold; a checksum of it is written too.
    """
    text = json.dumps({"crc32": _content_crc(content), "content": content}, indent=1)
    with replacing(folder / NAME) as new:
        new.write_text(text)
    sync(folder)


def read(folder: Path) -> dict[str, Any]:
    """Returns the content of a checkpoint's manifest.

    Raises:
      DamagedCheckpointError: if it is not as written.
      UserError: if it may not be read, or another version of this program wrote it.
    """
    try:
        whole = json.loads((folder / NAME).read_text())
        content = whole["content"]
        intact = whole["crc32"] == _content_crc(content)
    except PermissionError as error:
        raise _unreadable(folder, NAME, error) from error
    except OSError as error:
        raise DamagedCheckpointError(folder, f"{NAME}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedCheckpointError(folder, f"{NAME} is cut or garbled") from error
    if not intact:
        raise DamagedCheckpointError(folder, f"{NAME} has changed")
    if content["format"] != FORMAT:
        found = content["format"]
        raise UserError(f"checkpoint {folder} has format {found}, expected {FORMAT}")
    return content


def checksum(content: dict[str, Any]) -> int:
    """Returns a number that only the same files, saved at the same time, have."""
    return _content_crc(content["files"])


def files_of(folder: Path) -> list[str]:
    """Returns the names of all files below a folder."""
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return [str(path.relative_to(folder)) for path in found]


def checksums(folder: Path, names: Sequence[str], peers: Peers) -> dict[str, list[int]]:
    """Returns size and CRC-32 of files, once they are on disk.

    Args:
      folder: where they lie.
      names: of the files, the same to all processes.
      peers: each of which reads some.
    """
    own = names[peers.index :: peers.count]
    sums = json.dumps(dict(zip(own, _sums(folder, own), strict=True)))
    parts = map(json.loads, peers.gather("checksums", sums))
    return {name: part[name] for part in parts for name in part}


def _sums(folder: Path, names: Sequence[str]) -> list[list[int]]:
    paths = [folder / name for name in names]
    folders = {up for path in paths for up in path.parents if up != folder}
    within = sorted(up for up in folders if up.is_relative_to(folder))
    for path_or_folder in [*paths, *within]:  # or a file may lose its name
        sync(path_or_folder)
    with ThreadPoolExecutor(READERS) as pool:
        return list(pool.map(_checksum, paths))


def read_whole(folder: Path, peers: Peers) -> dict[str, Any]:
    """Returns the content of a manifest all of whose files are as they were saved.

    Args:
      folder: the checkpoint.
      peers: each of which reads some of the files.

    Raises:
      DamagedCheckpointError: naming the first that is not, to all processes.
      UserError: if one may not be read, which says nothing of what it holds.
    """
    content: dict[str, Any] = {}
    try:
        content = read(folder)
        own = sorted(content["files"])[peers.index :: peers.count]
        why = _fault(folder, {name: content["files"][name] for name in own})
    except DamagedCheckpointError as error:
        why = error.reason
    for found in peers.gather("faults", why or ""):
        if found:
            raise DamagedCheckpointError(folder, found)
    return content


def _fault(folder: Path, files: dict[str, list[int]]) -> str | None:
    """What is wrong with the first of some files; None where nothing is."""

    def fault_of(name: str) -> str | None:
        size, _ = files[name]
        try:
            found = _checksum(folder / name)
        except PermissionError as error:
            raise _unreadable(folder, name, error) from error
        except OSError as error:
            return f"{name}: {error.strerror}"
        if found[0] != size:
            return f"{name} holds {found[0]} bytes, not {size}"
        return None if found == files[name] else f"{name} has changed"

    with ThreadPoolExecutor(READERS) as pool:
        return next((why for why in pool.map(fault_of, files) if why), None)


def _unreadable(folder: Path, name: str, error: OSError) -> UserError:
    return UserError(f"cannot read checkpoint {folder}: {name}: {error.strerror}")


def _checksum(path: Path) -> list[int]:
    """Returns size and CRC-32 of a file, read in pieces."""
    size, crc = 0, 0
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            size, crc = size + len(piece), zlib.crc32(piece, crc)
    return [size, crc]


def _content_crc(content: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(content, sort_keys=True).encode())
