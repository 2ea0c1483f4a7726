"""Logs of text: what their readers have in common.

A row is a line: what one line holds by itself decides whether it is malformed.
"""

import abc
import contextlib
import re
from collections.abc import Generator, Sequence
from pathlib import Path

import pyarrow as pa

from data_prep.clicks.batches import ClickBatch
from data_prep.reading.bad_rows import BadRows, Rows, parse_good_rows
from data_prep.reading.click_log import ReadSizes
from data_prep.reading.columns import LogColumns, to_clicks
from data_prep.reading.text_files import COMPRESSIONS, Block, TextFile
from tron_jax.errors import UserError

CORE_BYTES = 1 << 22  # parsed by one core at a time
SAMPLE_LINES = 1000  # by which the types of columns are judged

_HEAD_BYTES = 1 << 20  # in which those lines are looked for


class TextLog(abc.ABC):
    """A ``ClickLog`` of lines; a subclass says how they become clicks.

    header: whether the first line holds names instead.
    """

    header: bool
    id_bytes = 8
    text_items = False

    def __init__(self, file: TextFile, rows: int) -> None:
        """A log of about so many rows."""
        self.path = file.path
        self.rows = rows
        self._file = file

    def batches(self, text: bool, bad: BadRows) -> Generator[ClickBatch]:
        """Yields the log's clicks, as a ``ClickLog`` does."""
        with contextlib.closing(self._file.blocks(self.header)) as blocks:
            for block in blocks:
                batch = self._parse_block(block, text, bad)
                if batch is not None:
                    yield batch

    @abc.abstractmethod
    def _parse_block(self, block: Block, text: bool, bad: BadRows) -> ClickBatch | None:
        """Parses whole lines; None where they hold no click."""

    def progress(self) -> tuple[str, int, int]:
        """Returns how many bytes of the file were read, and of how many."""
        return "bytes", self._file.bytes_read, self._file.size

    def describe(self) -> list[dict[str, object]]:
        """Returns name, size and hash of the file, once it was read."""
        return [self._file.describe()]


class TableLog(TextLog):
    """A log with any columns; a subclass says how lines become a table of them."""

    def __init__(self, path: Path, columns: LogColumns, sizes: ReadSizes) -> None:
        """Opens a file, of which ``_head`` is the beginning."""
        codec = COMPRESSIONS.get(path.suffix.lower())
        file = TextFile(path, sizes.text_bytes, codec)
        self._columns = columns
        self._head = file.head(_HEAD_BYTES)
        line_bytes = len(self._head) // max(1, self._head.count(b"\n")) + 1
        super().__init__(file, file.plain_size * 5 // (4 * line_bytes))

    def _parse_block(self, block: Block, text: bool, bad: BadRows) -> ClickBatch | None:
        def parse(data: bytes, first: int) -> ClickBatch | None:
            if not data.strip(b" \r\n"):
                return None
            table = self._parse_table(data, f"{self.path}: row {first}")
            return to_clicks(table, self.path, self._columns, first, text)

        def parse_lines(lines: Rows, first: int) -> ClickBatch | None:
            return parse(b"\n".join(lines), first)

        try:
            return parse(block.data, block.first_line)
        except UserError:
            lines = block.data.removesuffix(b"\n").split(b"\n")
            # pyarrow's readers do not agree on what makes a line blank.
            lines = [line if line.strip(b" \r") else b"" for line in lines]
            return parse_good_rows(parse_lines, lines, block.first_line, bad)

    @abc.abstractmethod
    def _parse_table(self, data: bytes, where: str) -> pa.Table:
        """Parses lines, not all of them blank, to a table of the needed columns.

        Names ``where``, a file and row, in the UserError about a malformed one.
        """


def require_row_per_line(table: pa.Table, data: bytes, message: str) -> pa.Table:
    """Refuses lines that make more or fewer rows, as where a quote is left open."""
    data = b"\n" + data.removesuffix(b"\n") + b"\n"
    lines = data.count(b"\n") - 1
    if b"\n\n" in data or b"\n\r\n" in data:
        lines = sum(bool(line.strip(b"\r")) for line in data.split(b"\n"))
    if table.num_rows != lines:
        raise UserError(message)
    return table


def mean_id_bytes(ids: Sequence[object]) -> int:
    """Returns what an id takes as text, together with its offset."""
    size = sum(len(str(one).encode("utf-8", "replace")) for one in ids)
    return size // max(1, len(ids)) + 5


def plain_problem(error: pa.ArrowInvalid) -> str:
    """Returns pyarrow's message without row numbers, which are not those of a file."""
    problem = str(error).splitlines()[0]
    changed = r"Column\(/(.*)\) changed from (.*) to (.*)"
    problem = re.sub(changed, r"column '\1' was a \2, now a \3", problem)
    return re.sub(r"(CSV|JSON) parse error: (Row #\d+: )?| in row \d+", "", problem)
