"""Files of recommendations: a row an item of a list, in Parquet or JSON lines."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Generator, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tron_jax.errors import UserError
from tron_jax.files import replacing

Write = Callable[[pa.Table], None]


class Lists(NamedTuple):
    """Lists of items, each for a prediction.

    Attributes:
      session: [predictions] the user's own ids.
      event: [predictions] int32 clicks of the session that were seen.
      items: [predictions, k] int32 the model's numbers, 0 = none.
      scores: [predictions, k] float32.
      popular: [predictions] bool, whether the model knew none of the clicks, and the
        most popular items stand in.
    """

    session: pa.Array
    event: np.ndarray
    items: np.ndarray
    scores: np.ndarray
    popular: np.ndarray


def rows_of(lists: Lists, raw_ids: pa.Array, *, every_event: bool) -> pa.Table:
    """Lays lists out as rows: session, event, rank, item, score, popular.

    Args:
      lists: of predictions.
      raw_ids: [items] the user's own ids of the model's items, in order.
      every_event: whether a session has several lists, which ``event`` tells apart.

    Returns:
      A row for each item; ``score`` is null where the popular stand in.
    """
    prediction, place = np.nonzero(lists.items)
    popular = lists.popular[prediction]
    columns = {
        "session": lists.session.take(pa.array(prediction)),
        "event": pa.array(lists.event[prediction]),
        "rank": pa.array((place + 1).astype(np.int32)),
        "item": raw_ids.take(pa.array(lists.items[prediction, place] - 1)),
        "score": pa.array(lists.scores[prediction, place], mask=popular),
        "popular": pa.array(popular),
    }
    if not every_event:
        del columns["event"]
    return pa.table(columns)


def check(path: Path) -> None:
    """Raises UserError where a folder is in the way, or no writer knows the ending."""
    if path.suffix.lower() not in WRITERS:
        known = " or ".join(WRITERS)
        raise UserError(f"--out={path}: expected a name that ends in {known}")
    if path.is_dir():
        raise UserError(f"--out={path} is a folder; expected a file")


@contextlib.contextmanager
def writer(path: Path) -> Generator[Write]:
    """Gives a function that writes tables to a file, which is there when all are.

    Args:
      path: see ``check``.
    """
    with replacing(path) as new, WRITERS[path.suffix.lower()](new) as write:
        yield write


@contextlib.contextmanager
def _parquet(path: Path) -> Generator[Write]:
    with contextlib.ExitStack() as stack:
        opened: list[pq.ParquetWriter] = []

        def write(table: pa.Table) -> None:
            if not opened:
                opened.append(stack.enter_context(pq.ParquetWriter(path, table.schema)))
            opened[0].write_table(table)

        yield write


@contextlib.contextmanager
def _json_lines(path: Path) -> Generator[Write]:
    with path.open("w", encoding="utf-8") as file:

        def write(table: pa.Table) -> None:
            columns = [_in_json(column) for column in table.columns]
            names = [json.dumps(name) for name in table.column_names]
            form = "{{" + ", ".join(f"{name}: {{}}" for name in names) + "}}\n"
            file.writelines(map(form.format, *columns))

        yield write


def _in_json(column: pa.ChunkedArray) -> Iterable[Any]:
    """The values of a column as JSON has them."""
    if pa.types.is_floating(column.type):
        return (f"{x:.9g}" if x is not None else "null" for x in column.to_pylist())
    if pa.types.is_boolean(column.type) or pa.types.is_string(column.type):
        coded = column.combine_chunks().dictionary_encode()
        texts = [
            json.dumps(x, ensure_ascii=False) for x in coded.dictionary.to_pylist()
        ]
        return (texts[i] for i in coded.indices.to_numpy())
    return pc.cast(column, pa.string()).to_pylist()


WRITERS = {".parquet": _parquet, ".jsonl": _json_lines}
