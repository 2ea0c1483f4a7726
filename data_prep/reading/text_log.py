"""Logs of text: what their readers have in common.

A row is a line: what one line holds by itself decides whether it is malformed.
"""

import abc
import contextlib
import re
from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from data_prep.clicks.batches import ClickBatch
from data_prep.reading.bad_rows import BadRows
from data_prep.reading.click_log import Kinds, ReadSizes
from data_prep.reading.columns import (
    LogColumns,
    ReadRows,
    to_clicks,
    with_partition,
)
from data_prep.reading.places import RawFile, partition_of
from data_prep.reading.text_files import (
    COMPRESSIONS,
    Block,
    TextFile,
    last_line_end,
)
from data_prep.reading.texts import likeliest_type

CORE_BYTES = 1 << 22  # parsed by one core at a time
SAMPLE_LINES = 1000  # by which the types of columns are judged

_HEAD_BYTES = 1 << 20  # in which those lines are looked for
_ABSENT_BYTES = 1 << 26  # in which a field is looked for that those lines lack
_SMALL = 64  # bytes that a compressed nothing has at most


class TextLog(abc.ABC):
    """A ``ClickLog`` of lines; a subclass says how they become clicks.

    header_lines: so many lines at the beginning hold names, or nothing, instead.
    """

    header_lines: int
    id_bytes = 8
    kinds = Kinds()
    ordered_by_time: bool | None = None
    types: Mapping[str, str] = {}

    def __init__(self, file: TextFile, rows: int) -> None:
        """A log of about so many rows."""
        self.path = file.path
        self.rows = rows
        self._file = file

    def batches(self, kinds: Kinds, bad: BadRows) -> Generator[ClickBatch]:
        """Yields the log's clicks, as a ``ClickLog`` does."""
        with contextlib.closing(self._file.blocks(self.header_lines)) as blocks:
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

    _needed: Sequence[str]  # columns
    _text_types: Mapping[str, pa.DataType]  # of those of times and of the order

    def __init__(
        self, raw: RawFile, file: TextFile, head: bytes, columns: LogColumns
    ) -> None:
        """A file that ``open_text`` opened, and its beginning."""
        self._name, self._columns = raw.name, columns
        self._folders = partition_of(raw.path)
        line_bytes = len(head) // max(1, head.count(b"\n")) + 1
        super().__init__(file, file.plain_size * 5 // (4 * line_bytes))

    def _completed(self, sample: list[Any]) -> list[Any]:
        """Adds later rows to a sample, so that it has a value of each needed column.

        As long as it has none, nothing tells text that is a time from a number.
        """
        lacking = self._lacking(sample)
        if not lacking:
            return sample
        done = 0
        with contextlib.closing(self._file.blocks(self.header_lines)) as blocks:
            for block in blocks:
                lines = self._split(block)
                for at in range(0, len(lines), SAMPLE_LINES):
                    rows = self._sample(lines[at : at + SAMPLE_LINES], lacking)
                    if lacking <= self._lacking(rows):
                        continue
                    longer = [*sample, *rows]
                    left = lacking & self._lacking(longer)
                    if left != lacking:
                        sample, lacking = longer, left
                    if not lacking:
                        return sample
                done += len(block.data)
                if done >= _ABSENT_BYTES:
                    # To look for a name that is misspelt must not take for ever.
                    lacking -= self._absent(sample)
        return sample

    @abc.abstractmethod
    def _sample(self, lines: Sequence[bytes], lacking: Collection[str] = ()) -> list:
        """Parses lines to sound rows, but for those that surely lack these columns."""

    @abc.abstractmethod
    def _lacking(self, rows: list[Any]) -> set[str]:
        """Returns the needed columns that have no value in rows of ``_sample``."""

    def _absent(self, rows: list[Any]) -> set[str]:
        """Returns the needed columns that no row names."""
        return set()

    def _keep_types(self, sample: Mapping[str, Sequence[str]]) -> None:
        """Judges times and the order by some values of each needed column."""
        self._text_types = {
            name: likeliest_type(sample[name], types)
            for name, types in self._columns.text_types().items()
        }
        kinds = self._text_types
        self.types = {n: str(kinds.get(n, pa.string())) for n in self._needed}
        order = self._columns.order
        self.ordered_by_time = None
        if order is not None and sample[order]:
            self.ordered_by_time = pa.types.is_timestamp(self._text_types[order])

    def _parse_block(
        self, block: Block, kinds: Kinds, bad: BadRows
    ) -> ClickBatch | None:
        rows = self._read_rows(block)
        table = with_partition(rows.table, self._needed, self._folders)
        rows = rows._replace(table=table)
        return to_clicks(rows, self._columns, self._text_types, kinds, bad)

    def _read_rows(self, block: Block) -> ReadRows:
        numbers = self._row_numbers(block)
        if not _has_blank_line(block.data):
            table = self._read_at_once(block.data)
            if table is not None and table.num_rows == len(numbers):
                return ReadRows(self.path, table, numbers)
        lines = self._split(block)
        # pyarrow's readers do not agree on what makes a line blank.
        filled = np.array([bool(line.strip(b" \r")) for line in lines])
        if not filled.all():
            lines = [line for line, kept in zip(lines, filled, strict=True) if kept]
            numbers = numbers[filled]
            table = self._read_at_once(b"\n".join(lines))
            if table is not None and table.num_rows == len(numbers):
                return ReadRows(self.path, table, numbers)
        return self._read_each(lines, numbers)

    def _row_numbers(self, block: Block) -> np.ndarray:
        """Returns the number of each row of a block, [rows] int64."""
        return np.arange(block.first_line, block.first_line + block.num_lines)

    def _split(self, block: Block) -> list[bytes]:
        """Returns the rows of a block."""
        return block.data.removesuffix(b"\n").split(b"\n")

    def describe(self) -> list[dict[str, object]]:
        """Returns name, size and hash of the file, once it was read."""
        return [self._file.describe() | {"file": self._name}]

    @abc.abstractmethod
    def _read_at_once(self, data: bytes) -> pa.Table | None:
        """Reads lines to a table of the needed columns; None where it cannot."""

    @abc.abstractmethod
    def _read_each(self, lines: Sequence[bytes], numbers: np.ndarray) -> ReadRows:
        """Reads the lines with these numbers, none of them blank; finds bad ones."""


def open_text(
    path: Path,
    sizes: ReadSizes,
    last_end: Callable[[bytes, bool], tuple[int, bool]] = last_line_end,
) -> tuple[TextFile, bytes]:
    """Opens a file, compressed or not, and reads its beginning; see ``TextFile``."""
    codec = COMPRESSIONS.get(path.suffix.lower())
    file = TextFile(path, sizes.text_bytes, codec, last_end)
    return file, file.first_lines(_HEAD_BYTES)


def is_blank(path: Path) -> bool:
    """Whether a file holds nothing, no header either, as a part of a log may."""
    size = path.stat().st_size
    if not size or size > _SMALL:
        return not size
    return not open_text(path, ReadSizes())[1].strip()


def _has_blank_line(data: bytes) -> bool:
    return data.startswith((b"\n", b"\r\n")) or b"\n\n" in data or b"\n\r\n" in data


def longest_line(data: bytes) -> int:
    """Returns a bound on the longest line, which must fit a block of pyarrow's."""
    step = CORE_BYTES // 4
    ends = [data.rfind(b"\n", 0, end) for end in range(step, len(data) + step, step)]
    return 2 * max(b - a for a, b in zip([0, *ends], [*ends, len(data)], strict=True))


def mean_id_bytes(ids: Sequence[object]) -> int:
    """Returns what an id takes as text, together with its offset."""
    size = sum(len(str(one).encode("utf-8", "replace")) for one in ids)
    return size // max(1, len(ids)) + 5


def plain_problem(error: pa.ArrowInvalid) -> str:
    """Returns pyarrow's message without row numbers, which are not those of a file."""
    problem = str(error).splitlines()[0]
    return re.sub(r"(CSV|JSON) parse error: (Row #\d+: )?| in row \d+", "", problem)
