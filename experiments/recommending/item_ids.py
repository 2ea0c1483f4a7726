"""The user's own ids of items, and the numbers that a model has for them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from data_prep.clicks.batches import plain_ids
from data_prep.reading.checked import ColumnSource, nulls
from data_prep.reading.ids import read_ids
from tron_jax.console.messages import warn
from tron_jax.errors import UserError

SHOWN = 3  # ids in a message


def numbers_of(ids: pa.Array, raw_ids: pa.Array) -> np.ndarray:
    """The model's number of each id, 0 of one that it does not know.

    7 is the id ``7`` whether a file holds it as a number or as text; ``007`` is not.

    Args:
      ids: [ids] int64 or string.
      raw_ids: [items] those of the model's items, in order.

    Returns:
      [ids] int32, 1..items, or 0.
    """
    if ids.type != raw_ids.type:
        ids, raw_ids = ids.cast(pa.string()), raw_ids.cast(pa.string())
    found = pc.call_function("index_in", [ids], pc.SetLookupOptions(value_set=raw_ids))
    return (pc.fill_null(found, -1).to_numpy() + 1).astype(np.int32)


def examples(ids: pa.Array) -> str:
    """A few ids, for a message."""
    more = ", …" if len(ids) > SHOWN else ""
    return ", ".join(map(repr, ids[:SHOWN].to_pylist())) + more


def read_items(
    flag: str, path: Path, column: str, raw_ids: pa.Array, *, needed: bool
) -> np.ndarray:
    """Reads a file of items: the numbers of those that the model knows.

    Args:
      flag: that named the file, for messages.
      path: of Parquet or CSV with a column of ids, or else of text, one id a line.
      column: the column's name.
      raw_ids: [items] those of the model's items, in order.
      needed: whether there must be an item that the model knows.

    Returns:
      [known] int32, ascending and distinct.

    Raises:
      UserError: if it cannot be read, or lacks what is needed.
    """
    try:
        ids = _read_ids(path, column)
    except KeyError as error:
        raise UserError(f"{flag}={path}: no column {column!r}") from error
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        why = str(error).splitlines()[0]
        raise UserError(f"{flag}={path}: cannot be read ({why})") from error
    numbers = numbers_of(ids, raw_ids)
    if needed and not len(ids):
        raise UserError(f"{flag}={path}: no items in it; expected at least one")
    if needed and not numbers.any():
        raise UserError(
            f"{flag}={path}: the model knows none of its {len(ids):,} items "
            f"({examples(ids)}); its own are such as {examples(raw_ids)}"
        )
    if unknown := int((numbers == 0).sum()):
        warn(f"{flag}={path}: {unknown:,} of {len(ids):,} items are unknown")
    return np.unique(numbers[numbers > 0])


def _read_ids(path: Path, column: str) -> pa.Array:
    if path.suffix in (".parquet", ".pq"):
        table = pq.read_table(path)
    elif path.suffix in (".csv", ".tsv"):
        table = pyarrow.csv.read_csv(
            path,
            parse_options=pyarrow.csv.ParseOptions(
                delimiter="\t" if path.suffix == ".tsv" else ","
            ),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types={column: pa.string()}, include_columns=[column]
            ),
        )
    else:
        lines = (line.strip() for line in path.read_text("utf-8-sig").splitlines())
        return plain_ids(pa.array([line for line in lines if line], pa.string()))
    kind = table[column].type
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return _whole_numbers(table[column], ColumnSource(path, column))
    ids = table[column].combine_chunks().drop_null()
    return plain_ids(ids if pa.types.is_integer(ids.type) else ids.cast(pa.string()))


def _whole_numbers(column: pa.ChunkedArray, source: ColumnSource) -> pa.Array:
    """The ids that they are in a log, 7.0 that of 7; a gap is none.

    Raises:
      UserError: if one is no whole number, or a float that may have been rounded.
    """
    ids, faults = read_ids(column, source, as_text=False)
    missing = nulls(column)
    for marked, why in faults:
        if len(rows := np.flatnonzero(marked & ~missing)):
            raise source.error(why(rows[0]))
    ids = ids.filter(pa.array(~missing))
    return ids.dictionary_decode() if pa.types.is_dictionary(ids.type) else ids
