"""Raw text files read once, in blocks of whole lines, hashed on the way."""

import codecs
import contextlib
import gzip
import hashlib
import io
import re
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
_WIDE = (  # encodings by what a text begins with, a mark or an ASCII character
    (rb"\xff\xfe\x00\x00|\x00\x00\xfe\xff", "utf-32"),
    (rb"\xff\xfe|\xfe\xff", "utf-16"),
    (rb"[^\x00]\x00[^\x00]\x00", "utf-16-le"),
    (rb"\x00[^\x00]\x00[^\x00]", "utf-16-be"),
)


class Block(NamedTuple):
    """Some whole lines of a file; ``first_line`` counts from 1, as editors do."""

    data: bytes
    first_line: int
    num_lines: int


def last_line_end(data: bytes, within: bool) -> tuple[int, bool]:
    """Finds where the last line ends, 0 where none does; no text is within quotes."""
    return data.rfind(b"\n") + 1, within


class TextFile:
    """A text file, plain or compressed, as UTF-8 without its byte-order mark.

    size: bytes on disk; bytes_read: how many of them ``blocks`` has read.
    """

    def __init__(
        self,
        path: Path,
        block_bytes: int,
        codec: str | None = None,
        last_end: Callable[[bytes, bool], tuple[int, bool]] = last_line_end,
    ) -> None:
        """Checks that the file can be opened.

        Blocks have about ``block_bytes``. Gzip is known by its first bytes; ``codec``
        is another compression, as pyarrow calls it. ``last_end`` says where a block can
        end, as ``last_line_end`` and ``quoted_rows.last_row_end`` do.
        """
        self.path = path
        self._block_bytes, self._last_end = block_bytes, last_end
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
        self._encoding: str | None = None
        first = self.head(4)
        for start, encoding in _WIDE:
            if re.match(start, first, re.DOTALL):
                self._encoding = encoding
                break

    @property
    def plain_size(self) -> int:
        """Bytes of text: known, or an upper guess where compressed."""
        return self.size * _GZIP_RATIO if self._codec else self.size

    def head(self, size: int = 4096) -> bytes:
        """Returns the first bytes of the text, decompressed."""
        with self.path.open("rb") as raw:
            head = self._read(self._plain(raw), size)
        return head.removeprefix(_BYTE_ORDER_MARK)

    def first_lines(self, size: int) -> bytes:
        """Returns the first lines of the text, of about so many bytes.

        There is one at least that is not blank, however long.
        """
        head, mark = b"", _BYTE_ORDER_MARK
        with self.path.open("rb") as raw:
            file = self._plain(raw)
            # What has no line yet doubles: to append a piece copies all before it.
            while data := self._read(file, max(size, len(head))):
                head += data.removeprefix(mark)
                mark = b""
                end = head.rfind(b"\n") + 1
                if len(head) >= size and not head[:end].isspace() and end:
                    return head[:end]
                if len(head) - end > _LONGEST_LINE:
                    raise self._too_long(head.count(b"\n") + 1)
        return head

    def blocks(self, header_lines: int) -> Generator[Block]:
        """Yields the file's lines in blocks, but for blocks that are blank.

        A thread reads on meanwhile. So many lines are left out at the beginning.
        """
        self.bytes_read, self._digest = 0, hashlib.sha256()
        for block in self._whole_blocks():
            while block.data and block.first_line <= header_lines:
                body = block.data.partition(b"\n")[2]
                block = Block(body, block.first_line + 1, block.num_lines - 1)
            if block.data and not block.data.isspace():
                yield block

    def _whole_blocks(self) -> Iterator[Block]:
        line, rest, within = 1, b"", False
        with contextlib.closing(read_ahead(self._pieces())) as pieces:
            for data in pieces:
                end, within = self._last_end(data, within)
                if not end:
                    rest += data
                    if len(rest) > _LONGEST_LINE:
                        raise self._too_long(line, "; a quote is open" * within)
                    continue
                lines = rest + data[:end]
                rest = data[end:]
                num_lines = lines.count(b"\n")
                yield Block(lines, line, num_lines)
                line += num_lines
            if within:
                what = "a quote is open to the end of the file"
                raise UserError(f"{self.path}: row {line}: {what}")
            if rest:
                yield Block(rest, line, rest.count(b"\n") + 1)

    def _too_long(self, line: int, more: str = "") -> UserError:
        what = f"longer than {_LONGEST_LINE:,} bytes"
        return UserError(f"{self.path}: line {line}: {what}{more}")

    def _pieces(self) -> Generator[bytes]:
        """Yields the text as it is read, lines cut anywhere."""
        with _ObservedFile(self.path, self._note_read) as raw:
            file = self._plain(raw)
            mark = _BYTE_ORDER_MARK
            while data := self._read(file, self._block_bytes):
                yield data.removeprefix(mark)
                mark = b""

    def _plain(self, raw: Any) -> Any:
        """Decompresses an open file, and brings it to UTF-8, where it needs to be."""
        file = raw
        if self._codec == "gzip":
            file = gzip.GzipFile(fileobj=raw)
        elif self._codec is not None:
            file = pa.CompressedInputStream(pa.PythonFile(raw, "r"), self._codec)
        return file if self._encoding is None else _AsUtf8(file, self._encoding)

    def _read(self, file: Any, size: int) -> bytes:
        try:
            return file.read(size)
        except EOFError as error:
            problem = "gzip, but cut off before its end"
            raise UserError(f"{self.path}: {problem}") from error
        except UnicodeError as error:
            name = str(self._encoding).upper()
            raise UserError(f"{self.path}: damaged {name}: {error}") from error
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


class _AsUtf8:
    """A file of wider characters, read as UTF-8."""

    def __init__(self, file: Any, encoding: str) -> None:
        self._file, self._decoder = file, codecs.getincrementaldecoder(encoding)()

    def read(self, size: int) -> bytes:
        text = ""
        while not text:
            data = self._file.read(size)
            text = self._decoder.decode(data, final=not data)
            if not data:
                break
        return text.encode("utf-8")


class _ObservedFile(io.FileIO):
    """A file that hands what is read from it to an observer as well."""

    def __init__(self, path: Path, observe: Callable[[bytes], None]) -> None:
        super().__init__(path)
        self._observe = observe

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        self._observe(data)
        return data
