"""Raw click logs of any common format, as Arrow tables in the order of their rows."""

import contextlib
import hashlib
import io
import json
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.csv
import pyarrow.dataset
import pyarrow.json

from data_prep.columns import Place, microseconds, order_numbers, raw_ids
from data_prep.errors import UserError
from data_prep.parts import Batch

_CSV = {".csv": ",", ".tsv": "\t"}
_JSON = {".jsonl", ".ndjson", ".json"}
_PARQUET = {".parquet", ".pq"}
COMPRESSED = {".gz": None, ".bz2": "bz2", ".zst": "zstd", ".lz4": "lz4"}
NULLS = ["", "NULL", "null", "\\N", "NaN", "nan"]


class Columns(NamedTuple):
    """Names of a log's columns; None where it has no such column."""

    session: str
    item: str
    time: str | None = None
    order: str | None = None


def read_log(path: Path, columns: Columns, time_unit: str = "s") -> Batch:
    """Reads a CSV, JSON lines or Parquet log, whose format the name's ending tells.

    Args:
      path: a file (``.csv``, ``.tsv``, ``.jsonl``, ``.ndjson``, ``.json``,
        ``.parquet``, the text ones compressed or not) or a folder of Parquet files,
        partitioned or not.
      columns: which columns to take.
      time_unit: of numeric times, "s" or "ms".

    Returns:
      The log in one batch, every column checked.
    """
    table, first_row = _read(path, columns)
    if not table.num_rows:
        return _no_events()

    return checked(table, path, columns, first_row, time_unit)


def checked(
    table: pa.Table, path: Path, columns: Columns, first_row: int, time_unit: str
) -> Batch:
    """Checks rows as they were read and brings each column to its type.

    Args:
      table: the needed columns.
      path: where they are from.
      columns: their names.
      first_row: the number of the first row in the file.
      time_unit: of numeric times.

    Returns:
      The rows.
    """

    def place(column: str) -> Place:
        return Place(path, column, first_row)

    session, item = (raw_ids(table[name], place(name)) for name in columns[:2])
    batch = Batch(session, item)
    if columns.time is not None:
        times = microseconds(table[columns.time], place(columns.time), time_unit)
        batch = batch._replace(time=times.cast(pa.int64()).to_numpy())
    if columns.order is not None:
        order = order_numbers(table[columns.order], place(columns.order))
        batch = batch._replace(order=order.to_numpy())
    return batch


def _no_events() -> Batch:
    """Makes a log of no rows."""
    ids = pa.array([], pa.int64())
    return Batch(ids, ids)


def describe_source(path: Path, role: str) -> list[dict[str, object]]:
    """Names the files behind a log by name, size and hash, without their folder."""
    files = [path]
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
    described: list[dict[str, object]] = []
    for file in files:
        with file.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        name = file.relative_to(path.parent).as_posix()
        size = file.stat().st_size
        described.append({"role": role, "file": name, "bytes": size, "sha256": digest})
    return described


def _read(path: Path, columns: Columns) -> tuple[pa.Table, int]:
    """Reads the needed columns, and tells the number of the first row of data."""
    if not path.exists():
        raise UserError(f"{path}: no such file or folder")
    if path.is_dir():
        return _read_parquet(path, columns), 1
    if not path.stat().st_size:
        raise UserError(f"{path}: the file is empty")
    kind, delimiter = format_of(path)
    if kind == "csv":
        return _read_csv(path, columns, delimiter), 2
    if kind == "json":
        return _read_json(path, columns), 1
    return _read_parquet(path, columns), 1


def format_of(path: Path) -> tuple[str, str]:
    """Tells csv (and its delimiter), json or parquet by the name's ending."""
    suffixes = [s.lower() for s in path.suffixes if s.lower() not in COMPRESSED]
    ending = suffixes[-1] if suffixes else ""
    if path.is_dir() or ending in _PARQUET:
        return "parquet", ""
    if ending in _CSV:
        return "csv", _CSV[ending]
    if ending in _JSON:
        return "json", ""
    known = ", ".join(sorted({*_CSV, *_JSON, *_PARQUET}))
    raise UserError(f"{path}: unknown format; expected a name that ends in {known}")


def check_columns(path: Path, present: list[str], columns: Columns) -> list[str]:
    """Refuses a missing or doubled column; returns those needed, each once."""
    for flag, name in columns._asdict().items():
        if name is not None and present.count(name) != 1:
            what = "no" if name not in present else "more than one"
            names = ", ".join(present)
            raise UserError(
                f"{path}: {what} column {name!r} (--{flag}); it has {names}"
            )
    return list(dict.fromkeys(name for name in columns if name is not None))


def _read_csv(path: Path, columns: Columns, delimiter: str) -> pa.Table:
    """Reads a CSV file; ids stay as they are written, whatever they look like."""
    try:
        parse, convert = csv_options(path, columns, delimiter)
        return pyarrow.csv.read_csv(path, None, parse, convert)
    except (pa.ArrowInvalid, OSError) as error:
        raise csv_error(path, columns, delimiter, error) from error


def csv_error(
    path: Path, columns: Columns, delimiter: str, error: Exception
) -> UserError:
    """Reads a file again by one thread, which knows the row, to say what is wrong."""
    names: list[str] = []
    one = pyarrow.csv.ReadOptions(use_threads=False)
    parse, convert = pyarrow.csv.ParseOptions(delimiter=delimiter), None
    with contextlib.suppress(pa.ArrowInvalid, OSError):
        with pyarrow.csv.open_csv(path, parse_options=parse) as head:
            names = head.schema.names
        parse, convert = csv_options(path, columns, delimiter)
    try:
        with pyarrow.csv.open_csv(path, one, parse, convert) as reader:
            for _ in reader:
                pass
    except (pa.ArrowInvalid, OSError) as problem:
        error = problem
    return UserError(f"{path}: {explain_csv(str(error), names)}")


def csv_options(
    path: Path, columns: Columns, delimiter: str
) -> tuple[pyarrow.csv.ParseOptions, pyarrow.csv.ConvertOptions]:
    """Decides by a file's first block how its columns are read."""
    parse = pyarrow.csv.ParseOptions(delimiter=delimiter)
    with pyarrow.csv.open_csv(path, parse_options=parse) as head:
        schema = head.schema
    names = check_columns(path, schema.names, columns)
    types = _csv_types(schema, columns)
    convert = pyarrow.csv.ConvertOptions(
        include_columns=names,
        column_types=types,
        null_values=NULLS,
        strings_can_be_null=True,
    )
    return parse, convert


def _csv_types(schema: pa.Schema, columns: Columns) -> dict[str, pa.DataType]:
    """Types to read: a first block of whole seconds must not forbid fractions later."""
    types = {}
    if columns.order is not None:
        types[columns.order] = schema.field(columns.order).type
    if columns.time is not None:
        guess = schema.field(columns.time).type
        if pa.types.is_integer(guess) or pa.types.is_floating(guess):
            types[columns.time] = pa.float64()
        elif pa.types.is_timestamp(guess):
            types[columns.time] = pa.timestamp("ns", guess.tz)
        else:
            types[columns.time] = pa.string()
    text = pa.dictionary(pa.int32(), pa.string())
    return types | {columns.session: text, columns.item: text}


def explain_csv(problem: str, names: list[str]) -> str:
    """Says what pyarrow found in our words: row and column instead of their indices."""
    problem = problem.splitlines()[0].replace("Row #", "row ")
    for index, name in enumerate(names):
        problem = problem.replace(f"In CSV column #{index}:", f"column {name!r},")
    return problem


def _read_json(path: Path, columns: Columns) -> pa.Table:
    """Reads one JSON object a line."""
    try:
        table = pyarrow.json.read_json(path)
    except (pa.ArrowInvalid, OSError) as error:
        at = bad_json_line(path) or str(error).splitlines()[0]
        raise UserError(f"{path}: {at}") from error
    return table.select(check_columns(path, table.column_names, columns))


def bad_json_line(path: Path) -> str | None:
    """Finds the first line at fault, which pyarrow names per block.

    Args:
      path: a JSON lines file that could not be read.

    Returns:
      What is wrong with the line: it is no JSON object, or one of its values is of
      another kind than in the lines before; None where neither is so.
    """
    kinds: dict[str, type] = {}
    with io.BufferedReader(pa.input_stream(str(path))) as lines:
        for number, line in enumerate(lines, start=1):
            try:
                row = json.loads(line) if line.strip() else {}
            except ValueError as error:
                return f"row {number}: not JSON: {error}"
            if not isinstance(row, dict):
                return f"row {number}: expected a JSON object"
            for name, value in row.items():
                kind = float if type(value) is int else type(value)
                before = kinds.setdefault(name, kind) if value is not None else kind
                if kind is not before:
                    was = "number" if before is float else before.__name__
                    return f"row {number}: column {name!r} was a {was}, now {value!r}"
    return None


def _read_parquet(path: Path, columns: Columns) -> pa.Table:
    """Reads a Parquet file or a folder, partitioned by ``name=value`` or not."""
    data = open_parquet(path)
    names = check_columns(path, data.schema.names, columns)
    try:
        return plain_values(data.to_table(columns=names))
    except (pa.ArrowInvalid, pa.ArrowTypeError, OSError) as error:
        what = str(error).splitlines()[0]
        raise UserError(f"{path}: not readable as Parquet: {what}") from error


def open_parquet(path: Path) -> pyarrow.dataset.FileSystemDataset:
    """Opens a Parquet file or a folder of them."""
    try:
        data = pyarrow.dataset.dataset(path, format="parquet", partitioning="hive")
    except (pa.ArrowInvalid, pa.ArrowTypeError, OSError) as error:
        what = str(error).splitlines()[0]
        raise UserError(f"{path}: not readable as Parquet: {what}") from error
    if not data.files:
        raise UserError(f"{path}: the folder holds no Parquet file")
    return data


def plain_values(table: pa.Table) -> pa.Table:
    """Turns categories, which may stand in any order, back to plain values."""
    for index, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type):
            plain = table[index].cast(field.type.value_type)
            table = table.set_column(index, field.name, plain)
    return table
