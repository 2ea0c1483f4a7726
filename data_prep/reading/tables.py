"""What the readers of anybody's log have in common, whatever its format."""

import hashlib
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.dataset

from data_prep.clicks.batches import ClickBatch
from data_prep.reading.columns import Place, microseconds, order_numbers, raw_ids
from tron_jax.errors import UserError

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


def checked(
    table: pa.Table, path: Path, columns: Columns, first_row: int, time_unit: str
) -> ClickBatch:
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
    batch = ClickBatch(session, item)
    if columns.time is not None:
        times = microseconds(table[columns.time], place(columns.time), time_unit)
        batch = batch._replace(time=times.cast(pa.int64()).to_numpy())
    if columns.order is not None:
        order = order_numbers(table[columns.order], place(columns.order))
        batch = batch._replace(order=order.to_numpy())
    return batch


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
