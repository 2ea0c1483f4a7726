"""Original files of public data sets: whole numbers as ids, lines of a known form.

A block of lines is parsed by pyarrow. Where that fails or cannot be trusted, the block
is parsed again line by line in Python, which either succeeds (the block is unusual) or
names the line (it is malformed).
"""

import abc
import contextlib
import re
from collections.abc import Generator
from pathlib import Path

import numpy as np
import pyarrow as pa

from data_prep.clicks.batches import ClickBatch
from data_prep.reading.bad_rows import BadRows, Fault
from data_prep.reading.checked import compute
from data_prep.reading.click_log import Kinds, ReadSizes, WiderKindsError
from data_prep.reading.recognise import recognise
from data_prep.reading.text_files import Block, TextFile
from data_prep.reading.text_log import TextLog
from tron_jax.errors import UserError

Click = tuple[str, str, int]  # session, item, microseconds since 1970

_YEAR_9999 = 253_402_300_800_000_000  # microseconds since 1970
_TEXT = Kinds(text_sessions=True, text_items=True)
_WHOLE_NUMBER = re.compile(r"-?[0-9]+")  # 007 too, which is read as 7 as pyarrow does


class PublicLog(TextLog):
    """A ``ClickLog`` of one public format, which a subclass knows.

    name: of the file, for messages; expected: what its first line should be;
    row_bytes: the least that a row takes, about.
    """

    name: str
    expected: str
    row_bytes: int

    def __init__(self, path: Path, sizes: ReadSizes) -> None:
        """Opens a file; refuses one whose first line is not of the format."""
        file = TextFile(path, sizes.text_bytes)
        head = file.head()
        first = head.partition(b"\n")[0].decode("utf-8", "replace").strip()
        if not self._accepts(first):
            found = recognise(head)
            found = f"; it looks like {found}" if found else ""
            raise UserError(
                f"{path}: row 1: not {self.name}: expected {self.expected}, found "
                f"{first[:80]!r}{found}"
            )
        super().__init__(file, file.plain_size // self.row_bytes)

    @abc.abstractmethod
    def _accepts(self, first: str) -> bool:
        """Whether the first line is of the format; called once, before any other."""

    @abc.abstractmethod
    def _read_table(self, data: bytes, id_type: pa.DataType) -> pa.Table:
        """Reads whole lines at once; raises pa.ArrowInvalid where that fails."""

    @abc.abstractmethod
    def _to_clicks(self, table: pa.Table) -> ClickBatch | None:
        """Makes clicks of such a table; None where it cannot be trusted."""

    @abc.abstractmethod
    def _parse_line(self, line: str) -> list[Click]:
        """Parses one line; raises ValueError with what is wrong."""

    def batches(self, kinds: Kinds, bad: BadRows) -> Generator[ClickBatch]:
        """Yields the log's clicks; refuses a log without any."""
        empty = True
        for batch in super().batches(kinds, bad):
            empty = empty and not len(batch.session)
            yield batch
        if empty:
            raise UserError(f"{self.path}: no clicks; expected {self.name}")

    def _parse_block(
        self, block: Block, kinds: Kinds, bad: BadRows
    ) -> ClickBatch | None:
        id_type = pa.string() if kinds.text_items else pa.int64()
        batch = None
        with contextlib.suppress(pa.ArrowInvalid):
            table = self._read_table(block.data, id_type)
            # An open quote swallows lines without an error; blank ones count as well.
            if table.num_rows == block.num_lines:
                batch = self._to_clicks(table)
        return self._line_by_line(block, id_type, bad) if batch is None else batch

    def _line_by_line(
        self, block: Block, id_type: pa.DataType, bad: BadRows
    ) -> ClickBatch:
        clicks: list[Click] = []
        rows: list[int] = []
        problems: list[str] = []
        for number, line in enumerate(block.data.split(b"\n"), start=block.first_line):
            line = line.removesuffix(b"\r")
            if not line.strip():
                continue
            try:
                clicks += self._parse_line(_decode(line))
            except ValueError as error:
                shown = line[:60].decode("utf-8", "replace")
                rows.append(number)
                problems.append(f": {error}, in {shown!r}")
        bad.add(self.path, [Fault(np.array(rows, np.int64), problems.__getitem__)])
        sessions = _as_ids([session for session, _, _ in clicks], id_type)
        items = _as_ids([item for _, item, _ in clicks], id_type)
        times = np.array([time for *_, time in clicks], np.int64)
        return ClickBatch(sessions, items, times)


def _decode(line: bytes) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"invalid UTF-8 at byte {error.start + 1}") from error


def _as_ids(texts: list[str], id_type: pa.DataType) -> pa.Array:
    ids = pa.array(texts, pa.string())
    if pa.types.is_integer(id_type) and not all(map(_WHOLE_NUMBER.fullmatch, texts)):
        raise WiderKindsError(_TEXT)
    try:
        return ids.cast(id_type)
    except pa.ArrowInvalid as error:  # more digits than fit
        raise WiderKindsError(_TEXT) from error


def read_id(text: str) -> str:
    """Reads an id as it is written, without the spaces around it."""
    text = text.strip()
    if not text:
        raise ValueError("an empty id")
    return text


def are_plain(ids: pa.Array | pa.ChunkedArray) -> bool:
    """Whether ``read_id`` would take all ids as they are."""
    if not pa.types.is_string(ids.type):
        return True
    bare = compute("utf8_trim_whitespace", ids)
    shortest = compute("min", compute("binary_length", ids)).as_py()
    return shortest != 0 and bare.equals(ids)


def check_time(microseconds: int) -> int:
    """Refuses a time before 1970 or after 9999."""
    if not 0 <= microseconds < _YEAR_9999:
        side = "before 1970" if microseconds < 0 else "after the year 9999"
        raise ValueError(f"a time out of range, {side}")
    return microseconds


def times_in_range(times: np.ndarray, unit: int = 1) -> bool:
    """Whether no time, in units of so many microseconds, is before 1970 or too late."""
    limit = _YEAR_9999 // unit
    return bool(times.min(initial=0) >= 0 and times.max(initial=0) < limit)
