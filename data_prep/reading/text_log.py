"""Logs of text: what their readers have in common.

A row is a line: what one line holds by itself decides whether it is malformed.
"""

import abc
import contextlib
import re
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from data_prep.clicks.batches import ClickBatch
from data_prep.reading.bad_rows import BadRows
from data_prep.reading.click_log import Kinds, ReadSizes
from data_prep.reading.columns import LogColumns, ReadRows, to_clicks
from data_prep.reading.text_files import COMPRESSIONS, Block, TextFile

CORE_BYTES = 1 << 22  # parsed by one core at a time
SAMPLE_LINES = 1000  # by which the types of columns are judged

_HEAD_BYTES = 1 << 20  # in which those lines are looked for


class TextLog(abc.ABC):
    """A ``ClickLog`` of lines; a subclass says how they become clicks.

    header: whether the first line holds names instead.
    """

    header: bool
    id_bytes = 8
    kinds = Kinds()

    def __init__(self, file: TextFile, rows: int) -> None:
        """A log of about so many rows."""
        self.path = file.path
        self.rows = rows
        self._file = file

    def batches(self, kinds: Kinds, bad: BadRows) -> Generator[ClickBatch]:
        """Yields the log's clicks, as a ``ClickLog`` does."""
        with contextlib.closing(self._file.blocks(self.header)) as blocks:
            for block in blocks:
                batch = self._parse_block(block, kinds, bad)
                if batch is not None:
                    yield batch

    @abc.abstractmethod
    def _parse_block(
        self, block: Block, kinds: Kinds, bad: BadRows
    ) -> ClickBatch | None:
        """Parses whole lines; None where they hold no click."""

    def progress(self) -> tuple[str, int, int]:
        """Returns how many bytes of the file were read, and of how many."""
        return "bytes", self._file.bytes_read, self._file.size

    def describe(self) -> list[dict[str, object]]:
        """Returns name, size and hash of the file, once it was read."""
        return [self._file.describe()]


class TableLog(TextLog):
    """A log with any columns; a subclass says how lines become a table of them.

    A block of lines is read at once, by types that suit most. Where that fails, it is
    read again in a way that finds out which lines are at fault, all in one pass.
    """

    _text_types: Mapping[str, pa.DataType]  # of columns of times and of the order

    def __init__(self, path: Path, columns: LogColumns, sizes: ReadSizes) -> None:
        """Opens a file, of which ``_head`` is the beginning."""
        codec = COMPRESSIONS.get(path.suffix.lower())
        file = TextFile(path, sizes.text_bytes, codec)
        self._columns = columns
        self._head = file.head(_HEAD_BYTES)
        line_bytes = len(self._head) // max(1, self._head.count(b"\n")) + 1
        super().__init__(file, file.plain_size * 5 // (4 * line_bytes))

    def _parse_block(
        self, block: Block, kinds: Kinds, bad: BadRows
    ) -> ClickBatch | None:
        rows = self._read_rows(block)
        return to_clicks(rows, self._columns, self._text_types, kinds, bad)

    def _read_rows(self, block: Block) -> ReadRows:
        numbers = np.arange(block.first_line, block.first_line + block.num_lines)
        if not _has_blank_line(block.data):
            table = self._read_at_once(block.data)
            if table is not None and table.num_rows == len(numbers):
                return ReadRows(self.path, table, numbers)
        lines = block.data.removesuffix(b"\n").split(b"\n")
        # pyarrow's readers do not agree on what makes a line blank.
        filled = np.array([bool(line.strip(b" \r")) for line in lines])
        if not filled.all():
            lines = [line for line, kept in zip(lines, filled, strict=True) if kept]
            numbers = numbers[filled]
            table = self._read_at_once(b"\n".join(lines))
            if table is not None and table.num_rows == len(numbers):
                return ReadRows(self.path, table, numbers)
        return self._read_each(lines, numbers)

    @abc.abstractmethod
    def _read_at_once(self, data: bytes) -> pa.Table | None:
        """Reads lines to a table of the needed columns; None where it cannot."""

    @abc.abstractmethod
    def _read_each(self, lines: Sequence[bytes], numbers: np.ndarray) -> ReadRows:
        """Reads the lines with these numbers, none of them blank; finds bad ones."""


def _has_blank_line(data: bytes) -> bool:
    return data.startswith((b"\n", b"\r\n")) or b"\n\n" in data or b"\n\r\n" in data


def mean_id_bytes(ids: Sequence[object]) -> int:
    """Returns what an id takes as text, together with its offset."""
    size = sum(len(str(one).encode("utf-8", "replace")) for one in ids)
    return size // max(1, len(ids)) + 5


def plain_problem(error: pa.ArrowInvalid) -> str:
    """Returns pyarrow's message without row numbers, which are not those of a file."""
    problem = str(error).splitlines()[0]
    return re.sub(r"(CSV|JSON) parse error: (Row #\d+: )?| in row \d+", "", problem)
