"""The sizes and checksums of a checkpoint's files, to find out whether it is damaged.

For a flipped bit in array data Orbax returns wrong numbers (tried with 0.12.8), and for
other damage it raises errors of many kinds; here every damage is one kind of error.
"""

import json
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tron_jax.errors import UserError
from tron_jax.files import replacing, sync

FORMAT = 1
NAME = "manifest.json"
READERS = 4  # files read at a time; a checksum keeps one core busy at 1 to 2 GB/s


class DamagedCheckpointError(UserError):
    """A checkpoint that no longer holds what was saved."""

    def __init__(self, folder: Path, reason: str):
        """Names the checkpoint and what is wrong with it."""
        super().__init__(f"checkpoint {folder} is damaged ({reason})")


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


def checksums(folder: Path) -> dict[str, list[int]]:
    """Returns size and CRC-32 of each file below a folder, once they are on disk."""
    found = sorted(folder.rglob("*"))
    for path in found:  # folders too, or a file may lose its name
        sync(path)
    files = [path for path in found if path.is_file()]
    with ThreadPoolExecutor(READERS) as pool:
        sums = list(pool.map(_checksum, files))
    names = [str(path.relative_to(folder)) for path in files]
    return dict(zip(names, sums, strict=True))


def verify(folder: Path, files: dict[str, list[int]]) -> None:
    """Looks for a file that is not as it was saved.

    Args:
      folder: the checkpoint.
      files: what ``checksums`` returned when it was saved.

    Raises:
      DamagedCheckpointError: naming the first.
      UserError: if one may not be read, which says nothing of what it holds.
    """

    def fault(name: str) -> str | None:
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
        for reason in pool.map(fault, files):
            if reason is not None:
                raise DamagedCheckpointError(folder, reason)


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
