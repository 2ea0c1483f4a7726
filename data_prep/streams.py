"""Anybody's large click log, read in batches so that memory stays bounded."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.dataset
import pyarrow.json

from data_prep.errors import UserError
from data_prep.parts import Batch
from data_prep.readers import (
    COMPRESSED,
    Columns,
    bad_json_line,
    check_columns,
    checked,
    csv_error,
    csv_options,
    format_of,
    open_parquet,
    plain_values,
)

LARGE = 1 << 28  # bytes of a log from which it is read in batches

_BLOCK = 1 << 25  # bytes of text parsed together
_ROWS = 1 << 20  # of Parquet, read together
_TEXT_ROW = 20  # bytes of a row of text, at least, about
_COMPRESSION = 8  # plain bytes per compressed one, more than logs have


def is_large(path: Path) -> bool:
    """Whether a log is to be read in batches."""
    if path.is_dir():
        sizes = (file.stat().st_size for file in path.rglob("*") if file.is_file())
        return sum(sizes) > LARGE
    return path.exists() and path.stat().st_size > LARGE


def guess_rows(path: Path) -> int:
    """Guesses from its size how many rows a log has: rather too many than too few."""
    kind, _ = format_of(path)
    if kind == "parquet":
        return open_parquet(path).count_rows()
    size = path.stat().st_size // _TEXT_ROW
    compressed = path.suffix.lower() in COMPRESSED
    return size * _COMPRESSION if compressed else size


def text_ids(path: Path, columns: Columns) -> tuple[bool, bool]:
    """Whether session and item ids have to be read as text."""
    kind, _ = format_of(path)
    if kind == "csv":
        return True, True
    schema = open_parquet(path).schema if kind == "parquet" else _json_schema(path)
    check_columns(path, schema.names, columns)
    session, item = (schema.field(name).type for name in columns[:2])
    return not _is_number(session), not _is_number(item)


def _is_number(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return pa.types.is_integer(kind) or pa.types.is_floating(kind)


def stream_log(
    path: Path, columns: Columns, time_unit: str, text: tuple[bool, bool]
) -> Iterator[Batch]:
    """Reads a log as ``read_log`` does, a batch at a time.

    Args:
      path: the log.
      columns: which columns to take.
      time_unit: of numeric times, "s" or "ms".
      text: whether session and item ids are read as text.

    Yields:
      Its rows, every column checked.
    """
    kind, delimiter = format_of(path)
    row = 1
    if kind == "csv":
        tables, row = _csv_tables(path, columns, delimiter), 2
    elif kind == "json":
        tables = _json_tables(path, columns)
    else:
        tables = _parquet_tables(path, columns)
    for table in tables:
        if not table.num_rows:
            continue
        batch = checked(table, path, columns, row, time_unit)
        row += table.num_rows
        if text[0]:
            batch = batch._replace(session=batch.session.cast(pa.string()))
        if text[1]:
            batch = batch._replace(item=batch.item.cast(pa.string()))
        yield batch


def _csv_tables(path: Path, columns: Columns, delimiter: str) -> Iterator[pa.Table]:
    try:
        parse, convert = csv_options(path, columns, delimiter)
        read = pyarrow.csv.ReadOptions(block_size=_BLOCK)
        with pyarrow.csv.open_csv(path, read, parse, convert) as reader:
            for batch in reader:
                yield pa.Table.from_batches([batch])
    except (pa.ArrowInvalid, OSError) as error:
        raise csv_error(path, columns, delimiter, error) from error


def _json_schema(path: Path) -> pa.Schema:
    try:
        with pyarrow.json.open_json(path) as reader:
            return reader.schema
    except (pa.ArrowInvalid, OSError) as error:
        raise _bad_json(path, error) from error


def _json_tables(path: Path, columns: Columns) -> Iterator[pa.Table]:
    schema = _json_schema(path)
    names = check_columns(path, schema.names, columns)
    fields = [(name, _wide(schema.field(name).type)) for name in names]
    for place, name in enumerate(names):
        if name in columns[:2]:
            fields[place] = (name, schema.field(name).type)
    parse = pyarrow.json.ParseOptions(
        explicit_schema=pa.schema(fields), unexpected_field_behavior="ignore"
    )
    read = pyarrow.json.ReadOptions(block_size=_BLOCK)
    try:
        with pyarrow.json.open_json(path, read, parse) as reader:
            for batch in reader:
                yield pa.Table.from_batches([batch]).select(names)
    except (pa.ArrowInvalid, OSError) as error:
        raise _bad_json(path, error) from error


def _wide(kind: pa.DataType) -> pa.DataType:
    """Type for times and numbers: the first block may lack fractions."""
    if pa.types.is_timestamp(kind):
        return pa.string()
    return pa.float64() if pa.types.is_integer(kind) else kind


def _bad_json(path: Path, error: Exception) -> UserError:
    at = bad_json_line(path) or str(error).splitlines()[0]
    return UserError(f"{path}: {at}")


def _parquet_tables(path: Path, columns: Columns) -> Iterator[pa.Table]:
    data = open_parquet(path)
    names = check_columns(path, data.schema.names, columns)
    batches = data.to_batches(
        columns=names, batch_size=_ROWS, batch_readahead=2, fragment_readahead=1
    )
    try:
        for batch in batches:
            yield plain_values(pa.Table.from_batches([batch]))
    except (pa.ArrowInvalid, pa.ArrowTypeError, OSError) as error:
        what = str(error).splitlines()[0]
        raise UserError(f"{path}: not readable as Parquet: {what}") from error
