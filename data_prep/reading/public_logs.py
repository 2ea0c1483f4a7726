"""Files of a known format read as batches of clicks; what is malformed is named.

A block of lines is parsed by pyarrow. Where that fails or cannot be trusted, the block
is parsed again line by line in Python, which either succeeds (the block is unusual) or
names the line (it is malformed).
"""

import re
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

import numpy as np
import pyarrow as pa

from data_prep.clicks.batches import ClickBatch
from data_prep.reading.recognise import looks_like
from data_prep.reading.text_files import Block, RawFile
from tron_jax.console.messages import warn
from tron_jax.console.stages import Stages
from tron_jax.errors import UserError

YEAR_9999 = 253_402_300_800_000_000  # microseconds since 1970

Click = tuple[str, str, int]  # session, item, microseconds since 1970

_SHOWN = 3  # bad rows told apart
_WHOLE = re.compile(r"-?[0-9]+")  # 007 too, which is read as 7 as pyarrow does


class TextIdsError(Exception):
    """Ids that are no whole numbers were met while reading whole numbers."""


class Format(Protocol):
    """How a file of a known format is read."""

    name: str
    expected: str  # what its first line should be, for messages

    def header_lines(self, first: str) -> int | None:
        """How many lines to skip, given the first; None where it is no such file."""
        ...

    def parse(self, block: Block, text: bool) -> ClickBatch | None:
        """Parses whole lines at once, ids as text or whole numbers; None: cannot."""
        ...

    def parse_line(self, line: str) -> list[Click]:
        """Parses one line; raises ValueError with what is wrong."""
        ...


class BadRows:
    """Malformed rows: the first is an error, or all are skipped and counted."""

    def __init__(self, skip: bool) -> None:
        """Has met none yet."""
        self.skip = skip
        self.count = 0
        self.first: list[str] = []

    def add(self, where: str) -> None:
        """Counts one, or raises."""
        if not self.skip:
            raise UserError(f"{where} (--skip_bad_rows leaves such rows out)")
        self.count += 1
        if len(self.first) < _SHOWN:
            self.first.append(where)

    def tell(self) -> None:
        """Warns of those that were left out."""
        if self.count:
            rows = "row" if self.count == 1 else "rows"
            more = "; …" if self.count > len(self.first) else ""
            told = "; ".join(self.first)
            warn(f"{self.count:,} malformed {rows} left out: {told}{more}")


def read_clicks(
    raw: RawFile,
    form: Format,
    bad: BadRows,
    text: bool,
    progress: Stages,
) -> Iterator[ClickBatch]:
    """Yields a file's clicks in raw order.

    Args:
      raw: the file.
      form: its format.
      bad: what to do with malformed rows.
      text: read ids as text; else as whole numbers, and TextIdsError is raised where
        there are others.
      progress: told after each block.

    Yields:
      The clicks of some lines; none where they hold none.
    """
    empty = True
    with ThreadPoolExecutor(1) as ahead:
        pending: list[Future[ClickBatch]] = []
        for block in raw.bodies(check_head(raw, form)):
            pending.append(ahead.submit(_parse, raw, form, bad, block, text))
            if len(pending) > 1:
                batch = pending.pop(0).result()
                empty = empty and not len(batch.session)
                yield batch
                progress.count("bytes", raw.bytes_read, raw.size)
        for last in pending:
            batch = last.result()
            empty = empty and not len(batch.session)
            yield batch
    if empty:
        raise UserError(f"{raw.path}: no clicks; expected {form.name}")


def _parse(
    raw: RawFile, form: Format, bad: BadRows, block: Block, text: bool
) -> ClickBatch:
    """Parses a block at once, or line by line where that cannot be."""
    batch = form.parse(block, text)
    return _parse_lines(raw, form, bad, block, text) if batch is None else batch


def check_head(raw: RawFile, form: Format) -> int:
    """Returns how many lines to skip; refuses a file that begins otherwise."""
    head = raw.head()
    first = head.partition(b"\n")[0].decode("utf-8", "replace").strip()
    skip = form.header_lines(first)
    if skip is None:
        looks = looks_like(head)
        looks = f"; it looks like {looks}" if looks else ""
        raise UserError(
            f"{raw.path}: row 1: not {form.name}: expected {form.expected}, found "
            f"{first[:80]!r}{looks}"
        )
    return skip


def _parse_lines(
    raw: RawFile, form: Format, bad: BadRows, block: Block, text: bool
) -> ClickBatch:
    """Parses a block line by line."""
    clicks: list[Click] = []
    for number, line in enumerate(block.data.split(b"\n"), start=block.first_line):
        line = line.removesuffix(b"\r")
        if not line.strip():
            continue
        try:
            clicks += form.parse_line(_decode(line))
        except ValueError as error:
            shown = line[:60].decode("utf-8", "replace")
            bad.add(f"{raw.path}: row {number}: {error}, in {shown!r}")
    return _batch(clicks, text)


def _decode(line: bytes) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"invalid UTF-8 at byte {error.start + 1}") from error


def _batch(clicks: list[Click], text: bool) -> ClickBatch:
    columns = []
    for index in range(2):
        ids = pa.array([click[index] for click in clicks], pa.string())
        if not text:
            if not all(map(_WHOLE.fullmatch, ids.to_pylist())):
                raise TextIdsError
            try:
                ids = ids.cast(pa.int64())
            except pa.ArrowInvalid as error:  # more digits than fit
                raise TextIdsError from error
        columns.append(ids)
    times = np.array([click[2] for click in clicks], np.int64)
    return ClickBatch(columns[0], columns[1], times)


def plain_id(text: str) -> str:
    """Reads an id as it is written, without the spaces around it."""
    text = text.strip()
    if not text:
        raise ValueError("an empty id")
    return text


def check_time(microseconds: int) -> int:
    """Refuses times before 1970 and after 9999."""
    if not 0 <= microseconds < YEAR_9999:
        side = "before 1970" if microseconds < 0 else "after the year 9999"
        raise ValueError(f"a time out of range, {side}")
    return microseconds


def times_in_range(times: np.ndarray) -> bool:
    """Whether all times are after 1970 and before 9999."""
    return not len(times) or bool(times.min() >= 0 and times.max() < YEAR_9999)
