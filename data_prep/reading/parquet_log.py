"""Parquet with any columns: a file, or a folder of files, partitioned or not."""

import hashlib
import os
from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset

from data_prep.clicks.batches import ClickBatch
from data_prep.reading.bad_rows import BadRows
from data_prep.reading.checked import compute
from data_prep.reading.click_log import Kinds, ReadSizes
from data_prep.reading.columns import (
    LogColumns,
    ReadRows,
    require_one_order,
    to_clicks,
    with_partition,
)
from data_prep.reading.ids import is_text as is_text_id
from data_prep.reading.nested import (
    Field,
    fields_of_schema,
    in_elements,
    is_list,
    refuse_holders,
    spread,
    type_at,
)
from data_prep.reading.places import RawFile, partition_of
from data_prep.reading.texts import is_text, likeliest_type, plain_texts
from data_prep.reading.times import is_moment
from tron_jax.errors import UserError

_HEAD = 1000  # rows by which text is judged
_LIST = 16  # so many times fewer rows, or more, are read at once where some are lists


class Part(NamedTuple):
    """A file of a log, whose columns may have other types than those of its siblings.

    name: of the file from the log's folder on; names: of the needed columns; partition:
    what the folders that it lies in say of all of its rows, as text, unless the file
    says it too; fields: where the needed columns are that it has; text_types: what text
    that is a time or an order stands for; types: of the needed columns, in words;
    kinds: of them, as far as their types show; ordered_by_time: whether the order is
    one of times, None where nothing shows.
    """

    path: Path
    name: str
    rows: int
    names: Sequence[str]
    partition: Mapping[str, str | None]
    fields: Mapping[str, Field]
    text_types: Mapping[str, pa.DataType]
    types: Mapping[str, str]
    kinds: Kinds
    ordered_by_time: bool | None


class ParquetLog:
    """A ``ClickLog`` of Parquet; each part is read by its own schema."""

    def __init__(
        self,
        path: Path,
        files: Sequence[RawFile],
        columns: LogColumns,
        sizes: ReadSizes,
    ) -> None:
        """Opens files and reads the schemas; ``path`` is where they are."""
        self.path, self._columns = path, columns
        self._batch_rows = sizes.parquet_rows
        opened = (_open_part(file, columns, len(files) == 1) for file in files)
        self._parts = [part for part in opened if part is not None]
        if not self._parts:
            raise UserError(f"{path}: no rows in any of {len(files)} Parquet files")
        orders = [(part.path, part.ordered_by_time) for part in self._parts]
        self.ordered_by_time = require_one_order(orders, columns)
        self.types = self._parts[0].types
        self.kinds = Kinds()
        for part in self._parts:
            self.kinds |= part.kinds
        self._raw_rows = sum(part.rows for part in self._parts)
        self.rows = round(self._raw_rows * _events_of(self._parts[0]))
        self.id_bytes = 8
        if self.kinds.text_sessions:
            self.id_bytes = self._mean_id_bytes()

    def _mean_id_bytes(self) -> int:
        part = self._parts[0]
        keys = self._columns.keys({*part.fields, *part.partition})
        heads = [_head(_open(part.path), part, name) for name in keys]
        return sum(head.nbytes // max(1, len(head)) + 1 for head in heads)

    def batches(self, kinds: Kinds, bad: BadRows) -> Generator[ClickBatch]:
        """Yields the log's clicks, as a ``ClickLog`` does."""
        self._rows_read = 0
        for part in self._parts:
            first = 1
            for table in self._tables(part):
                numbers = np.arange(first, first + len(table))
                rows = spread(ReadRows(part.path, table, numbers), part.fields)
                plain = with_partition(_plain(rows.table), part.names, part.partition)
                rows = rows._replace(table=plain)
                batch = to_clicks(rows, self._columns, part.text_types, kinds, bad)
                first += len(table)
                self._rows_read += len(table)
                if batch is not None:
                    yield batch

    def _tables(self, part: Part) -> Iterator[pa.Table]:
        # A row of lists is many events.
        lists = any(where.in_list is not None for where in part.fields.values())
        fewer = max(_LIST, round(_events_of(part))) if lists else 1
        # One row group at a time and no more of it than is asked for: several would be
        # read ahead otherwise, however large they are.
        try:
            batches = _open(part.path).to_batches(
                columns=_projection(part.fields),
                batch_size=max(1, self._batch_rows // fewer),
                batch_readahead=1,
                fragment_readahead=1,
                use_threads=False,
                fragment_scan_options=pyarrow.dataset.ParquetFragmentScanOptions(
                    use_buffered_stream=True, pre_buffer=False
                ),
            )
            for rows in batches:
                if len(rows):
                    yield _picked(rows, part.fields)
        except (pa.ArrowException, OSError, UnicodeError) as error:
            raise _unreadable(part.path, error) from error

    def progress(self) -> tuple[str, int, int]:
        """Returns how many rows were read, and of how many."""
        return "rows", self._rows_read, self._raw_rows

    def describe(self) -> list[dict[str, object]]:
        """Returns name, size and hash of each part."""
        described: list[dict[str, object]] = []
        for part in self._parts:
            try:
                with part.path.open("rb") as stream:
                    digest = hashlib.file_digest(stream, "sha256").hexdigest()
                size = part.path.stat().st_size
            except OSError as error:
                raise _unreadable(part.path, error) from error
            described.append({"file": part.name, "bytes": size, "sha256": digest})
        return described


def _open(path: Path) -> pyarrow.dataset.FileSystemDataset:
    # As nanoseconds, which would be the default, Spark's INT96 ends in 2262 and wraps.
    spark = pyarrow.dataset.ParquetReadOptions(coerce_int96_timestamp_unit="us")
    parquet = pyarrow.dataset.ParquetFileFormat(read_options=spark)
    try:
        return pyarrow.dataset.dataset(path, format=parquet, partitioning=None)
    except (pa.ArrowException, OSError, UnicodeError) as error:
        raise _unreadable(path, error) from error


def _open_part(file: RawFile, columns: LogColumns, alone: bool) -> Part | None:
    """Reads the schema of a part, and its first rows where a column is text.

    Returns None for a part without rows, unless it is ``alone``: its columns, which it
    may lack, say nothing.
    """
    path = file.path
    data = _open(path)
    fields = fields_of_schema(data.schema)
    partition = {k: v for k, v in partition_of(path).items() if k not in fields}
    judged_as = columns.text_types()
    try:
        rows = data.count_rows()
        if not (rows or alone):
            return None
        present = [*_each_name(data.schema, fields), *partition]
        names = columns.find(path, present)
        found = {name: fields[name] for name in names if name in fields}
        part = Part(
            path, file.name, rows, names, partition, found, {}, {}, Kinds(), None
        )
        types = {name: _type_of(data.schema, part, name) for name in names}
        holders = {n for n, kind in types.items() if pa.types.is_struct(kind)}
        refuse_holders(path, found, present, holders)
        text_types = {
            name: _judge(data, part, name, judged_as[name])
            for name in names
            if name in judged_as and is_text(types[name])
        }
    except (pa.ArrowException, OSError, UnicodeError) as error:
        raise _unreadable(path, error) from error
    keys = columns.keys(types)
    text_keys = len(keys) > 1 or is_text_id(types[keys[0]])
    kinds = Kinds(text_keys, is_text_id(types[columns.item]))
    by_time = None
    if (
        rows
        and columns.order is not None
        and not pa.types.is_null(types[columns.order])
    ):
        by_time = is_moment((types | text_types)[columns.order])
    in_words = {name: str(text_types.get(name, types[name])) for name in names}
    return part._replace(
        text_types=text_types, types=in_words, kinds=kinds, ordered_by_time=by_time
    )


def _type_of(schema: pa.Schema, part: Part, name: str) -> pa.DataType:
    if name in part.partition:
        return pa.string()
    kind = type_at(schema, part.fields[name])
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _judge(
    data: pyarrow.dataset.Dataset,
    part: Part,
    name: str,
    types: Sequence[pa.DataType],
) -> pa.DataType:
    texts = plain_texts(_head(data, part, name))
    return likeliest_type([text for text in texts.to_pylist() if text], types)


def _head(data: pyarrow.dataset.Dataset, part: Part, name: str) -> pa.ChunkedArray:
    """Reads some of the first values of a column, and on where they are all null."""
    if name in part.partition:
        return pa.chunked_array([[part.partition[name]]], pa.string())
    fields = {name: part.fields[name]}
    projection = _projection(fields)
    values = pa.chunked_array([], _type_of(data.schema, part, name))
    for batch in data.to_batches(
        columns=projection, batch_size=_HEAD, use_threads=False
    ):
        column = _picked(batch, fields)[name]
        if is_list(column.type):
            column = compute("list_flatten", column)
        values = _plain(pa.table({name: column}))[name]
        if values.null_count < len(values):
            break
    return values


def _events_of(part: Part) -> float:
    """Returns how many events a row is, judged by the first."""
    for name, where in part.fields.items():
        if where.in_list is not None:
            data = _open(part.path)
            rows = min(part.rows, _HEAD)
            return max(1.0, len(_head(data, part, name)) / max(1, rows))
    return 1.0


def _projection(fields: Mapping[str, Field]) -> list[str] | dict[str, Any]:
    """Returns what of a file is to be read."""
    if all(where.is_plain for where in fields.values()):
        return list(fields)
    return {name: pc.field(*where.path) for name, where in fields.items()}


def _picked(rows: pa.RecordBatch, fields: Mapping[str, Field]) -> pa.Table:
    table = pa.Table.from_batches([rows])
    if all(where.is_plain for where in fields.values()):
        return table
    columns = {n: in_elements(table[n], where) for n, where in fields.items()}
    return pa.table(columns)


def _each_name(schema: pa.Schema, fields: Mapping[str, Field]) -> list[str]:
    """Lists columns by name, one that is there twice twice."""
    return [*schema.names, *(name for name in fields if name not in schema.names)]


def _unreadable(path: Path, error: Exception) -> UserError:
    if isinstance(error, OSError) and error.errno:
        return UserError(f"{path}: cannot be read: {os.strerror(error.errno)}")
    why = (str(error) or type(error).__name__).splitlines()[0]
    why = why.rpartition("Is this a 'parquet' file?: ")[2]
    if "magic bytes not found" in why and path.suffix.lower() not in (
        ".parquet",
        ".pq",
    ):
        why = "magic bytes not found; a name of text ends in .csv, .jsonl or the like"
    return UserError(f"{path}: not readable as Parquet: {why}")


def _plain(table: pa.Table) -> pa.Table:
    """Turns categories back to plain values."""
    for index, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type):
            plain = table[index].cast(field.type.value_type)
            table = table.set_column(index, field.name, plain)
    return table
