"""Parquet with any columns: a file, or a folder of files, partitioned or not."""

import hashlib
from collections.abc import Generator, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset

from data_prep.clicks.batches import ClickBatch
from data_prep.reading.bad_rows import BadRows, Rows, parse_good_rows
from data_prep.reading.click_log import ReadSizes
from data_prep.reading.columns import LogColumns, to_clicks
from tron_jax.errors import UserError


class ParquetLog:
    """A ``ClickLog`` of Parquet."""

    def __init__(self, path: Path, columns: LogColumns, sizes: ReadSizes) -> None:
        """Opens a file or a folder and reads its schema."""
        self.path, self._columns = path, columns
        self._batch_rows = sizes.parquet_rows
        self._data = _open(path)
        self._names = columns.find(path, self._data.schema.names)
        self.text_items = self._is_text(columns.item)
        self.rows, self.id_bytes = self._data.count_rows(), 8
        if self.rows and self._is_text(columns.session):
            head = self._data.head(1000, columns=[columns.session])
            head = _without_dictionaries(head)
            self.id_bytes = head.nbytes // max(1, len(head)) + 1

    def _is_text(self, column: str) -> bool:
        kind = self._data.schema.field(column).type
        if pa.types.is_dictionary(kind):
            kind = kind.value_type
        return not (pa.types.is_integer(kind) or pa.types.is_floating(kind))

    def batches(self, text: bool, bad: BadRows) -> Generator[ClickBatch]:
        """Yields the log's clicks, as a ``ClickLog`` does."""

        def parse(table: Rows, first: int) -> ClickBatch:
            return to_clicks(table, self.path, self._columns, first, text)

        self._rows_read = 0
        try:
            for table in self._tables():
                first = self._rows_read + 1
                try:
                    batch = parse(table, first)
                except UserError:
                    batch = parse_good_rows(parse, table, first, bad)
                self._rows_read += len(table)
                if batch is not None:
                    yield batch
        except (pa.ArrowInvalid, pa.ArrowTypeError, OSError) as error:
            raise _unreadable(self.path, error) from error

    def _tables(self) -> Iterator[pa.Table]:
        # One row group at a time and no more of it than is asked for: several would be
        # read ahead otherwise, however large they are.
        batches = self._data.to_batches(
            columns=self._names,
            batch_size=self._batch_rows,
            batch_readahead=1,
            fragment_readahead=1,
            use_threads=False,
            fragment_scan_options=pyarrow.dataset.ParquetFragmentScanOptions(
                use_buffered_stream=True, pre_buffer=False
            ),
        )
        for rows in batches:
            if len(rows):
                yield _without_dictionaries(pa.Table.from_batches([rows]))

    def progress(self) -> tuple[str, int, int]:
        """Returns how many rows were read, and of how many."""
        return "rows", self._rows_read, self.rows

    def describe(self) -> list[dict[str, object]]:
        """Returns name, size and hash of each file."""
        files = [self.path]
        if self.path.is_dir():
            files = sorted(file for file in self.path.rglob("*") if file.is_file())
        described: list[dict[str, object]] = []
        for file in files:
            with file.open("rb") as stream:
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
            name = file.relative_to(self.path.parent).as_posix()
            size = file.stat().st_size
            described.append({"file": name, "bytes": size, "sha256": digest})
        return described


def _open(path: Path) -> pyarrow.dataset.FileSystemDataset:
    try:
        data = pyarrow.dataset.dataset(path, format="parquet", partitioning="hive")
    except (pa.ArrowInvalid, pa.ArrowTypeError, OSError) as error:
        raise _unreadable(path, error) from error
    if not data.files:
        raise UserError(f"{path}: the folder holds no Parquet file")
    return data


def _unreadable(path: Path, error: Exception) -> UserError:
    return UserError(f"{path}: not readable as Parquet: {str(error).splitlines()[0]}")


def _without_dictionaries(table: pa.Table) -> pa.Table:
    """Turns categories, which may stand in any order, back to plain values."""
    for index, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type):
            plain = table[index].cast(field.type.value_type)
            table = table.set_column(index, field.name, plain)
    return table
