"""The rows of an array as Zarr keeps them, read without any that are not asked for.

Orbax writes an array as one chunk for each part that a device holds, uncompressed, so
that a chunk's file begins with its rows just as memory has them.
"""

from __future__ import annotations

import dataclasses
import errno
import json
import os
from pathlib import Path
from typing import Any

import jax
import numpy as np

ABOUT = "zarr.json"


@dataclasses.dataclass(frozen=True)
class Rows:
    """An array of at least one axis on disk.

    Attributes:
      files: of its chunks, each of as many rows, the last perhaps of more than there
        are.
      per_file: rows of a chunk.
      shape: of the array.
      dtype: of the array.
    """

    files: list[Path]
    per_file: int
    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def count(self) -> int:
        """How many rows the array has."""
        return self.shape[0]

    @property
    def row_bytes(self) -> int:
        """Bytes of a row."""
        return self.dtype.itemsize * int(np.prod(self.shape[1:]))

    def read(self, first: int, count: int) -> np.ndarray:
        """Reads some rows.

        Args:
          first: of them.
          count: how many, all of which there are.

        Returns:
          [count, ...] array of the host.

        Raises:
          OSError: if they cannot be read.
        """
        content = np.empty(count * self.row_bytes, np.uint8)
        at = 0
        while at < count:
            number, within = divmod(first + at, self.per_file)
            rows = min(self.per_file - within, count - at)
            part = content[at * self.row_bytes : (at + rows) * self.row_bytes]
            with self.files[number].open("rb") as file:
                file.seek(within * self.row_bytes)
                if file.readinto(part.data) < len(part):
                    raise OSError(
                        errno.EIO, os.strerror(errno.EIO), str(self.files[number])
                    )
            at += rows
        return content.view(self.dtype).reshape(count, *self.shape[1:])


def folder_of(folder: Path, path: Any) -> Path:
    """The folder of an array in a checkpoint.

    Args:
      folder: of the checkpoint.
      path: of the array in its tree, as jax gives it.
    """
    name = jax.tree_util.keystr(path, simple=True, separator=".")
    return folder / "state" / name


def open_rows(folder: Path, shape: tuple[int, ...], dtype: Any) -> Rows | None:
    """Finds the rows of an array.

    Args:
      folder: of the array.
      shape: that it has.
      dtype: that it has.

    Returns:
      The rows; None where they do not lie in their files as they do in memory.
    """
    if not shape:
        return None
    try:
        grid = json.loads((folder / ABOUT).read_text())["chunk_grid"]
        per_file, *rest = grid["configuration"]["chunk_shape"]
    except (OSError, ValueError, KeyError):
        return None
    if tuple(rest) != shape[1:]:
        return None
    zeros = ["0"] * len(rest)
    names = ["/".join([str(i), *zeros]) for i in range(-(-shape[0] // per_file))]
    files = [folder / "c" / name for name in names]
    rows = Rows(files, per_file, shape, np.dtype(dtype))
    plain = all(_is_plain(file, per_file * rows.row_bytes) for file in files)
    return rows if plain else None


def _is_plain(file: Path, size: int) -> bool:
    """Whether a file holds so many bytes just as memory does.

    Zarr's codec ``sharding_indexed`` appends an index to the data: 16 bytes with the
    start and length of its only chunk, and a checksum of 4.
    """
    try:
        with file.open("rb") as content:
            if content.seek(0, os.SEEK_END) != size + 20:
                return False
            content.seek(-20, os.SEEK_END)
            start, count = np.frombuffer(content.read(16), "<u8")
    except OSError:
        return False
    return (start, count) == (0, size)
