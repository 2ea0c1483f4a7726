"""Raw text files read once, in blocks of whole lines, hashed on the way."""

import gzip
import hashlib
import io
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from data_prep.errors import UserError

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
    """A text file, plain or gzip, without its byte-order mark."""

    def __init__(self, path: Path) -> None:
        """Looks the file up; it is opened by ``blocks``."""
        self.path = path
        if not path.exists():
            raise UserError(f"{path}: no such file")
        if path.is_dir():
            raise UserError(f"{path}: a folder; expected a file")
        try:
            self.size = path.stat().st_size
            with path.open("rb") as file:
                self.compressed = file.read(2) == b"\x1f\x8b"
        except OSError as error:
            raise UserError(f"{path}: cannot be read: {error.strerror}") from error
        if not self.size:
            raise UserError(f"{path}: the file is empty")
        self.bytes_read = 0
        self._digest = hashlib.sha256()

    @property
    def plain_size(self) -> int:
        """Bytes of text: known, or an upper guess where compressed."""
        return self.size * GZIP_RATIO if self.compressed else self.size

    def head(self, size: int = 4096) -> bytes:
        """Returns the first bytes of the text, decompressed."""
        with self.path.open("rb") as raw:
            file = gzip.GzipFile(fileobj=raw) if self.compressed else raw
            try:
                return file.read(size).removeprefix(_BOM)
            except (EOFError, OSError, zlib.error) as error:
                raise self._unreadable(error) from error

    def blocks(self) -> Iterator[Block]:
        """Yields the file's lines in blocks; reads one ahead in a thread."""
        line = 1
        with self.path.open("rb") as raw, ThreadPoolExecutor(1) as ahead:
            reader = _Hashed(raw, self)
            file = reader
            if self.compressed:
                file = gzip.GzipFile(fileobj=reader)
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

    def _read(self, file: io.IOBase) -> bytes:
        try:
            return file.read(BLOCK)
        except (EOFError, OSError, zlib.error) as error:
            raise self._unreadable(error) from error

    def _unreadable(self, error: Exception) -> UserError:
        if isinstance(error, EOFError):
            return UserError(f"{self.path}: gzip, but cut off before its end")
        what = "damaged gzip" if self.compressed else "cannot be read"
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
