"""Raw text files read once, in blocks of whole lines, hashed on the way."""

import gzip
import hashlib
import io
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from tron_jax.errors import UserError

BLOCK = 1 << 25  # bytes of a block, about
LONGEST_LINE = 1 << 28  # a line beyond is no line
GZIP_RATIO = 8  # plain bytes per compressed one, more than logs have

_BOM = b"\xef\xbb\xbf"


class Block(NamedTuple):
    """Some whole lines of a file; ``first_line`` counts from 1, as editors do."""

    data: bytes
    first_line: int
    num_lines: int


class RawFile:
    """A text file, plain or compressed, without its byte-order mark.

    Gzip is known by its first bytes; ``codec`` names another compression.
    """

    def __init__(self, path: Path, codec: str | None = None) -> None:
        """Looks the file up; it is opened by ``blocks``."""
        self.path = path
        self._codec = codec
        if not path.exists():
            raise UserError(f"{path}: no such file")
        if path.is_dir():
            raise UserError(f"{path}: a folder; expected a file")
        try:
            self.size = path.stat().st_size
            with path.open("rb") as file:
                self._gzip = file.read(2) == b"\x1f\x8b"
        except OSError as error:
            raise UserError(f"{path}: cannot be read: {error.strerror}") from error
        if not self.size:
            raise UserError(f"{path}: the file is empty")
        self.compressed = self._gzip or codec is not None
        self.bytes_read = 0
        self._digest = hashlib.sha256()

    @property
    def plain_size(self) -> int:
        """Bytes of text: known, or an upper guess where compressed."""
        return self.size * GZIP_RATIO if self.compressed else self.size

    def head(self, size: int = 4096) -> bytes:
        """Returns the first bytes of the text, decompressed."""
        with self.path.open("rb") as raw:
            try:
                return self._text(raw).read(size).removeprefix(_BOM)
            except (EOFError, OSError, zlib.error) as error:
                raise self._unreadable(error) from error

    def blocks(self) -> Iterator[Block]:
        """Yields the file's lines in blocks; reads one ahead in a thread."""
        line = 1
        with self.path.open("rb") as raw, ThreadPoolExecutor(1) as ahead:
            file = self._text(_Hashed(raw, self))
            pending = ahead.submit(self._read, file)
            rest = b""
            begun = False
            while data := pending.result():
                pending = ahead.submit(self._read, file)
                if not begun:
                    data = data.removeprefix(_BOM)
                    begun = True
                cut = data.rfind(b"\n") + 1
                if not cut:
                    rest += data
                    if len(rest) > LONGEST_LINE:
                        what = f"longer than {LONGEST_LINE:,} bytes"
                        raise UserError(f"{self.path}: line {line}: {what}")
                    continue
                whole = rest + data[:cut]
                rest = data[cut:]
                num_lines = whole.count(b"\n")
                yield Block(whole, line, num_lines)
                line += num_lines
            if rest:
                yield Block(rest, line, 1)

    def bodies(self, skip: int) -> Iterator[Block]:
        """Yields the blocks without the first lines and without blank blocks."""
        for block in self.blocks():
            if skip:
                body = block.data.partition(b"\n")[2]
                block = Block(body, block.first_line + skip, block.num_lines - skip)
                skip = 0
            if block.data and not block.data.isspace():
                yield block

    def _text(self, raw: Any) -> Any:
        """Decompresses an open file where it needs to be."""
        if self._gzip:
            return gzip.GzipFile(fileobj=raw)
        if self._codec is None:
            return raw
        return pa.CompressedInputStream(pa.PythonFile(raw, "r"), self._codec)

    def _read(self, file: Any) -> bytes:
        try:
            return file.read(BLOCK)
        except (EOFError, OSError, zlib.error) as error:
            raise self._unreadable(error) from error

    def _unreadable(self, error: Exception) -> UserError:
        if isinstance(error, EOFError):
            return UserError(f"{self.path}: gzip, but cut off before its end")
        what = (
            f"damaged {self._codec or 'gzip'}" if self.compressed else "cannot be read"
        )
        return UserError(f"{self.path}: {what}: {error}")

    def describe(self, role: str) -> dict[str, object]:
        """Names the file for stats.json, once its blocks were read to the end."""
        return {
            "role": role,
            "file": self.path.name,
            "bytes": self.size,
            "sha256": self._digest.hexdigest(),
        }

    def took(self, data: bytes) -> None:
        """Counts and hashes bytes as they lie in the file."""
        self._digest.update(data)
        self.bytes_read += len(data)


class _Hashed(io.RawIOBase):
    """Passes a file through, telling its ``RawFile`` what went by."""

    def __init__(self, raw: io.BufferedReader, owner: RawFile) -> None:
        self._raw, self._owner = raw, owner

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data = self._raw.read(size)
        self._owner.took(data)
        return data
