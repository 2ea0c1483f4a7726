"""Anybody's click log, read in batches so that memory stays bounded."""

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pyarrow as pa
import pyarrow.dataset

from data_prep.clicks.batches import ClickBatch
from data_prep.reading.bad_rows import Rows, ahead, good_rows
from data_prep.reading.public_logs import BadRows
from data_prep.reading.tables import (
    COMPRESSED,
    Columns,
    check_columns,
    checked,
    describe_source,
    format_of,
    open_parquet,
    plain_values,
)
from data_prep.reading.text_files import RawFile
from data_prep.reading.text_logs import CsvLog, JsonLog, TextLog
from tron_jax.console.stages import Stages
from tron_jax.errors import UserError

_ROWS = 1 << 20  # of Parquet, read together
_HEAD = 1 << 20  # bytes of text by which a log is judged


class LogStream(Protocol):
    """A log that is read batch by batch.

    rows: how many it has, rather too many than too few; id_bytes: of a session's id,
    about; text_ids: whether session and item ids have to be read as text.
    """

    rows: int
    id_bytes: int
    text_ids: tuple[bool, bool]

    def batches(
        self, text: tuple[bool, bool], bad: BadRows, progress: Stages
    ) -> Iterator[ClickBatch]:
        """Yields the rows, every column checked, ids as text or as whole numbers."""
        ...

    def describe(self, role: str) -> list[dict[str, object]]:
        """Names the files for stats.json, once they were read."""
        ...


def open_log(path: Path, columns: Columns, time_unit: str) -> LogStream:
    """Opens a log of a format that its name's ending tells.

    Args:
      path: a file (``.csv``, ``.tsv``, ``.jsonl``, ``.ndjson``, ``.json``,
        ``.parquet``, the text ones compressed or not) or a folder of Parquet files,
        partitioned or not.
      columns: which columns to take.
      time_unit: of numeric times, "s" or "ms".

    Returns:
      The log, looked at but not read.
    """
    if not path.exists():
        raise UserError(f"{path}: no such file or folder")
    kind, delimiter = format_of(path)
    if kind == "parquet":
        return _ParquetStream(path, columns, time_unit)
    raw = RawFile(path, COMPRESSED.get(path.suffix.lower()))
    head = raw.head(_HEAD)
    if kind == "csv":
        log: TextLog = CsvLog(path, columns, delimiter, head)
    else:
        log = JsonLog(path, columns, head)
    return _TextStream(raw, head, log, columns, time_unit)


class _TextStream:
    """CSV or JSON lines."""

    def __init__(
        self, raw: RawFile, head: bytes, log: TextLog, columns: Columns, time_unit: str
    ) -> None:
        self._raw, self._log = raw, log
        self._columns, self._time_unit = columns, time_unit
        line_bytes = len(head) // max(1, head.count(b"\n")) + 1
        self.rows = raw.plain_size * 5 // (4 * line_bytes)
        self.id_bytes, self.text_ids = log.id_bytes, log.text_ids

    def batches(
        self, text: tuple[bool, bool], bad: BadRows, progress: Stages
    ) -> Iterator[ClickBatch]:
        for batch in ahead(self._read(bad)):
            yield _typed(batch, text)
            progress.count("bytes", self._raw.bytes_read, self._raw.size)

    def _read(self, bad: BadRows) -> Iterator[ClickBatch]:
        for block in self._raw.bodies(self._log.header):
            batch = None
            try:
                batch = self._parse(block.data, block.first_line)
            except UserError:
                lines = block.data.removesuffix(b"\n").split(b"\n")
                # pyarrow's readers do not agree on what makes a line blank.
                lines = [line if line.strip(b" \r") else b"" for line in lines]
                batch = good_rows(self._parse_lines, lines, block.first_line, bad)
            if batch is not None:
                yield batch

    def _parse_lines(self, lines: Rows, first: int) -> ClickBatch:
        return self._parse(b"\n".join(lines), first)

    def _parse(self, data: bytes, first: int) -> ClickBatch:
        if not data.strip(b" \r\n"):
            ids = pa.array([], pa.string()).dictionary_encode()
            return ClickBatch(ids, ids)
        table = self._log.table(data, first)
        return checked(table, self._raw.path, self._columns, first, self._time_unit)

    def describe(self, role: str) -> list[dict[str, object]]:
        return [self._raw.describe(role)]


class _ParquetStream:
    """A Parquet file or a folder of them."""

    def __init__(self, path: Path, columns: Columns, time_unit: str) -> None:
        self._path, self._columns, self._time_unit = path, columns, time_unit
        self._data = open_parquet(path)
        self._names = check_columns(path, self._data.schema.names, columns)
        types = [self._data.schema.field(name).type for name in columns[:2]]
        self.text_ids = not _is_number(types[0]), not _is_number(types[1])
        self.rows, self.id_bytes = self._data.count_rows(), 8
        if self.text_ids[0] and self.rows:
            head = plain_values(self._data.head(1000, columns=[columns.session]))
            self.id_bytes = head.nbytes // max(1, len(head)) + 1

    def batches(
        self, text: tuple[bool, bool], bad: BadRows, progress: Stages
    ) -> Iterator[ClickBatch]:
        read = 0
        for batch in ahead(self._read(bad)):
            read += len(batch.session)
            yield _typed(batch, text)
            progress.count("rows", read, self.rows)

    def _read(self, bad: BadRows) -> Iterator[ClickBatch]:
        first = 1
        options = pyarrow.dataset.ParquetFragmentScanOptions(
            use_buffered_stream=True, pre_buffer=False
        )
        # One row group at a time and no more of it than is asked for: several would be
        # read ahead otherwise, however large they are.
        batches = self._data.to_batches(
            columns=self._names,
            batch_size=_ROWS,
            batch_readahead=1,
            fragment_readahead=1,
            use_threads=False,
            fragment_scan_options=options,
        )
        try:
            for rows in batches:
                table = plain_values(pa.Table.from_batches([rows]))
                try:
                    batch = self._parse(table, first) if len(table) else None
                except UserError:
                    batch = good_rows(self._parse, table, first, bad)
                if batch is not None:
                    yield batch
                first += len(table)
        except (pa.ArrowInvalid, pa.ArrowTypeError, OSError) as error:
            what = str(error).splitlines()[0]
            raise UserError(f"{self._path}: not readable as Parquet: {what}") from error

    def _parse(self, table: Rows, first: int) -> ClickBatch:
        return checked(table, self._path, self._columns, first, self._time_unit)

    def describe(self, role: str) -> list[dict[str, object]]:
        return describe_source(self._path, role)


def _is_number(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return pa.types.is_integer(kind) or pa.types.is_floating(kind)


def _typed(batch: ClickBatch, text: tuple[bool, bool]) -> ClickBatch:
    if text[0]:
        batch = batch._replace(session=as_text(batch.session))
    return batch._replace(item=as_text(batch.item)) if text[1] else batch


def as_text(ids: pa.Array) -> pa.Array:
    """Turns ids, by a dictionary or not, to strings."""
    if not pa.types.is_dictionary(ids.type):
        return ids.cast(pa.string())
    texts = ids.dictionary.cast(pa.string())
    return pa.DictionaryArray.from_arrays(ids.indices, texts)
