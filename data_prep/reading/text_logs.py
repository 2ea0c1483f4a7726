"""CSV and JSON lines of any columns, parsed some lines at a time.

A row is a line: what one line holds by itself decides whether it is malformed.
"""

import contextlib
import csv
import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.csv

from data_prep.reading.columns import parses
from data_prep.reading.json_lines import parse_json_lines
from data_prep.reading.tables import NULLS, Columns, check_columns
from tron_jax.errors import UserError

_BLOCK = 1 << 22  # bytes that one core parses at a time
_SAMPLE = 1000  # lines by which a column's type is judged

_TIMES = (pa.timestamp("ns", "UTC"), pa.timestamp("ns"))


class TextLog(Protocol):
    """How lines become a table of the needed columns."""

    header: int  # lines to skip
    text_ids: tuple[bool, bool]  # whether session and item ids are text
    id_bytes: int  # of a session's id, about

    def table(self, data: bytes, first: int) -> pa.Table:
        """Parses lines, the first of which has this number; raises UserError."""
        ...


class CsvLog:
    """CSV lines; columns' types are judged by the first of them."""

    header = 1
    text_ids: tuple[bool, bool] = True, True  # as they are written: 007 is not 7

    def __init__(self, path: Path, columns: Columns, delimiter: str, head: bytes):
        """Looks at the first lines."""
        self._path = path
        line, _, rest = head.decode("utf-8", "replace").partition("\n")
        self._names = _header(path, line.rstrip("\r"), delimiter)
        self._time = columns.time
        needed = check_columns(path, self._names, columns)
        sample = self._sample(rest, delimiter)
        self.id_bytes = _mean_bytes(sample[columns.session])
        types = {}
        if columns.order is not None:
            kinds = (pa.int64(), pa.float64(), *_TIMES)
            types[columns.order] = _kind_of(sample[columns.order], kinds)
        if columns.time is not None:
            kinds = (pa.float64(), *_TIMES)
            types[columns.time] = _kind_of(sample[columns.time], kinds)
        text = pa.dictionary(pa.int32(), pa.string())
        types |= {columns.session: text, columns.item: text}
        self._parse = pyarrow.csv.ParseOptions(delimiter=delimiter)
        self._convert = pyarrow.csv.ConvertOptions(
            include_columns=needed,
            column_types=types,
            null_values=NULLS,
            strings_can_be_null=True,
        )

    def _sample(self, text: str, delimiter: str) -> dict[str, list[str]]:
        """The first values of each column."""
        rows = []
        with contextlib.suppress(csv.Error):
            for row in csv.reader(text.split("\n")[:_SAMPLE], delimiter=delimiter):
                if len(row) == len(self._names):
                    rows.append(row)
        return {name: [r[i] for r in rows] for i, name in enumerate(self._names)}

    def table(self, data: bytes, first: int) -> pa.Table:
        """Parses lines, the first of which has this number; raises UserError."""
        where = f"{self._path}: row {first}"
        last = data.rstrip(b"\r\n").rpartition(b"\n")[2]
        if last.count(b'"') % 2:  # an open quote shows only where something follows
            self._table(last + b"\n" + last, where)
        return self._table(data, where)

    def _table(self, data: bytes, where: str) -> pa.Table:
        read = pyarrow.csv.ReadOptions(column_names=self._names, block_size=_BLOCK)
        try:
            table = pyarrow.csv.read_csv(
                pa.BufferReader(data), read, self._parse, self._convert
            )
        except pa.ArrowInvalid as error:
            what = _explain_csv(_plain(str(error)), self._names, self._time)
            raise UserError(f"{where}: {what}") from error
        what = "expected one row a line; a quote is open or holds a line break"
        return _one_a_line(table, data, f"{where}: {what}")


class JsonLog:
    """JSON lines; columns' types are judged by the first of them."""

    header = 0

    def __init__(self, path: Path, columns: Columns, head: bytes):
        """Looks at the first lines."""
        self._path = path
        lines = [line for line in head.split(b"\n") if line.strip()][:_SAMPLE]
        if not lines:
            raise UserError(f"{path}: no rows; expected JSON lines")
        rows = [row for line in lines if isinstance(row := _loaded(line), dict)]
        if not rows:
            raise UserError(f"{path}: row 1: {_json_fault(lines[0])}")
        present = list(dict.fromkeys(name for row in rows for name in row))
        needed = check_columns(path, present, columns)
        values = {
            name: [row[name] for row in rows if row.get(name) is not None]
            for name in needed
        }
        types = {name: _json_type(values[name]) for name in needed}
        self.id_bytes = _mean_bytes([str(id_) for id_ in values[columns.session]])
        session, item = (types[name] for name in columns[:2])
        self.text_ids = pa.types.is_string(session), pa.types.is_string(item)
        for name in needed[2:]:  # whole numbers at first must not forbid others later
            if pa.types.is_integer(types[name]):
                types[name] = pa.float64()
        self._times: dict[str, pa.DataType] = {}
        if columns.time is not None and pa.types.is_string(types[columns.time]):
            texts = [str(value) for value in values[columns.time]]
            self._times = {columns.time: _kind_of(texts, (pa.float64(), *_TIMES))}
        self._schema = pa.schema(list(types.items()))

    def table(self, data: bytes, first: int) -> pa.Table:
        """Parses lines, the first of which has this number; raises UserError."""
        where = f"{self._path}: row {first}"
        try:
            table = parse_json_lines(data, self._schema)
        except pa.ArrowInvalid as error:
            what = _json_fault(data) or _plain(str(error))
            raise UserError(f"{where}: {what}") from error
        for name, kind in self._times.items():
            try:
                times = table[name].cast(kind)
            except pa.ArrowInvalid as error:
                what = f"column {name!r}: {_plain(str(error))}"
                raise UserError(f"{where}, {what}") from error
            table = table.set_column(table.column_names.index(name), name, times)
        return _one_a_line(table, data, f"{where}: expected one row a line")


def _header(path: Path, line: str, delimiter: str) -> list[str]:
    """The names of a CSV file's columns."""
    if "\r" in line:
        raise UserError(f"{path}: row 1: a bare CR; expected lines that end in LF")
    try:
        return next(csv.reader([line], delimiter=delimiter), [])
    except csv.Error as error:
        raise UserError(f"{path}: row 1: no header of a CSV file: {error}") from error


def _mean_bytes(ids: list[str]) -> int:
    """What an id takes, with the offset that stands beside it."""
    return (
        sum(len(id_.encode("utf-8", "replace")) for id_ in ids) // max(1, len(ids)) + 5
    )


def _one_a_line(table: pa.Table, data: bytes, refusal: str) -> pa.Table:
    """Refuses lines that hold no row each, as where a quote is left open."""
    data = b"\n" + data.removesuffix(b"\n") + b"\n"
    lines = data.count(b"\n") - 1
    if b"\n\n" in data or b"\n\r\n" in data:
        lines = sum(bool(line.strip(b"\r")) for line in data.split(b"\n"))
    if table.num_rows != lines:
        raise UserError(refusal)
    return table


def _kind_of(values: Sequence[str], kinds: tuple[pa.DataType, ...]) -> pa.DataType:
    """The type that most values can be read as, the first of equals; else string."""
    scalars = [pa.scalar(value) for value in values if value not in NULLS]
    counts = [sum(parses(value, kind) for value in scalars) for kind in kinds]
    return kinds[counts.index(max(counts))] if max(counts) else pa.string()


def _json_type(values: list[Any]) -> pa.DataType:
    """The type of most values."""
    plain = {str: pa.string(), int: pa.int64(), float: pa.float64()}
    if not values:
        return pa.string()
    (kind, _), *_ = Counter(map(type, values)).most_common(1)
    first = next(value for value in values if type(value) is kind)
    return plain.get(kind) or pa.array([first]).type


def _loaded(line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):  # not UTF-8 among them
        return None


def _json_fault(line: bytes) -> str | None:
    """What is wrong with a line as JSON, if anything is."""
    try:
        row = json.loads(line)
    except UnicodeDecodeError as error:
        return f"invalid UTF-8 at byte {error.start + 1}"
    except (ValueError, RecursionError) as error:
        return f"not JSON: {error}"
    return None if isinstance(row, dict) else "expected a JSON object"


def _explain_csv(problem: str, names: list[str], time: str | None) -> str:
    """Says what pyarrow found in our words: a column's name instead of its index."""
    found = re.match(r"In CSV column #(\d+): (.*?)(?:: invalid value (.*))?$", problem)
    if found is None:
        return problem
    name, what, value = names[int(found[1])], found[2], found[3]
    if value is not None:
        what = f"{value} is no {'time' if name == time else 'number'}"
    return f"column {name!r}: {what}"


def _plain(problem: str) -> str:
    """The message of pyarrow's without its rows, which are counted in what it read."""
    problem = problem.splitlines()[0]
    changed = r"Column\(/(.*)\) changed from (.*) to (.*)"
    problem = re.sub(changed, r"column '\1' was a \2, now a \3", problem)
    return re.sub(r"(CSV|JSON) parse error: (Row #\d+: )?| in row \d+", "", problem)
