"""Raw text files read once, in blocks of whole lines, hashed on the way."""

import contextlib
import gzip
import hashlib
import io
import zlib
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from data_prep.reading.click_log import read_ahead
from tron_jax.errors import UserError

# Compressions by the ending of a name; None: known by the file's first bytes instead.
COMPRESSIONS = {".gz": None, ".bz2": "bz2", ".zst": "zstd", ".lz4": "lz4"}

_LONGEST_LINE = 1 << 28  # what is longer is no line
_GZIP_RATIO = 8  # plain bytes per compressed one, more than logs have
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class Block(NamedTuple):
    """Some whole lines of a file; ``first_line`` counts from 1, as editors do."""

    data: bytes
    first_line: int
    num_lines: int


class TextFile:
    """A text file, plain or compressed, without its byte-order mark.

    size: bytes on disk; bytes_read: how many of them ``blocks`` has read.
    """

    def __init__(self, path: Path, block_bytes: int, codec: str | None = None) -> None:
        """Checks that the file can be opened.

        Blocks have about ``block_bytes``. Gzip is known by its first bytes; ``codec``
        is another compression, as pyarrow calls it.
        """
        self.path = path
        self._block_bytes = block_bytes
        if not path.exists():
            raise UserError(f"{path}: no such file")
        if path.is_dir():
            raise UserError(f"{path}: a folder; expected a file")
        if not path.is_file():
            what = "a pipe or a device, which cannot be read twice"
            raise UserError(f"{path}: {what}; expected a file")
        try:
            self.size = path.stat().st_size
            with path.open("rb") as file:
                gzipped = file.read(2) == b"\x1f\x8b"
        except OSError as error:
            raise UserError(f"{path}: cannot be read: {error.strerror}") from error
        if not self.size:
            raise UserError(f"{path}: the file is empty")
        self._codec = "gzip" if gzipped else codec

    @property
    def plain_size(self) -> int:
        """Bytes of text: known, or an upper guess where compressed."""
        return self.size * _GZIP_RATIO if self._codec else self.size

    def head(self, size: int = 4096) -> bytes:
        """Returns the first bytes of the text, decompressed."""
        with self.path.open("rb") as raw:
            head = self._read(self._decompressed(raw), size)
        return head.removeprefix(_BYTE_ORDER_MARK)

    def blocks(self, header: bool) -> Generator[Block]:
        """Yields the file's lines in blocks, but for blocks that are blank.

        A thread reads on meanwhile. ``header`` leaves the first line out.
        """
        self.bytes_read, self._digest = 0, hashlib.sha256()
        for block in self._whole_blocks():
            if header and block.first_line == 1:
                body = block.data.partition(b"\n")[2]
                block = Block(body, 2, block.num_lines - 1)
            if block.data and not block.data.isspace():
                yield block

    def _whole_blocks(self) -> Iterator[Block]:
        line, rest = 1, b""
        with contextlib.closing(read_ahead(self._pieces())) as pieces:
            for data in pieces:
                end = data.rfind(b"\n") + 1
                if not end:
                    rest += data
                    if len(rest) > _LONGEST_LINE:
                        what = f"longer than {_LONGEST_LINE:,} bytes"
                        raise UserError(f"{self.path}: line {line}: {what}")
                    continue
                lines = rest + data[:end]
                rest = data[end:]
                num_lines = lines.count(b"\n")
                yield Block(lines, line, num_lines)
                line += num_lines
            if rest:
                yield Block(rest, line, 1)

    def _pieces(self) -> Generator[bytes]:
        """Yields the text as it is read, lines cut anywhere."""
        with _ObservedFile(self.path, self._note_read) as raw:
            file = self._decompressed(raw)
            mark = _BYTE_ORDER_MARK
            while data := self._read(file, self._block_bytes):
                yield data.removeprefix(mark)
                mark = b""

    def _decompressed(self, raw: Any) -> Any:
        """Decompresses an open file where it needs to be."""
        if self._codec is None:
            return raw
        if self._codec == "gzip":
            return gzip.GzipFile(fileobj=raw)
        return pa.CompressedInputStream(pa.PythonFile(raw, "r"), self._codec)

    def _read(self, file: Any, size: int) -> bytes:
        try:
            return file.read(size)
        except EOFError as error:
            problem = "gzip, but cut off before its end"
            raise UserError(f"{self.path}: {problem}") from error
        except (OSError, zlib.error) as error:
            problem = f"damaged {self._codec}" if self._codec else "cannot be read"
            raise UserError(f"{self.path}: {problem}: {error}") from error

    def describe(self) -> dict[str, object]:
        """Returns name, size and hash, once the blocks were read to the end."""
        digest = self._digest.hexdigest()
        return {"file": self.path.name, "bytes": self.size, "sha256": digest}

    def _note_read(self, data: bytes) -> None:
        """Counts and hashes bytes as they lie in the file."""
        self._digest.update(data)
        self.bytes_read += len(data)


class _ObservedFile(io.FileIO):
    """A file that hands what is read from it to an observer as well."""

    def __init__(self, path: Path, observe: Callable[[bytes], None]) -> None:
        super().__init__(path)
        self._observe = observe

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        self._observe(data)
        return data
