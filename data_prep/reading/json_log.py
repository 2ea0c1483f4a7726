"""JSON lines with any columns: an object a line."""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.json

from data_prep.reading import text_log
from data_prep.reading.click_log import Kinds, ReadSizes
from data_prep.reading.columns import LogColumns, ReadRows
from data_prep.reading.json_lines import parse_line, read_each
from data_prep.reading.orders import are_exact
from data_prep.reading.places import RawFile
from tron_jax.errors import UserError

# A row that begins with null, a byte-order mark in front or not.
_NULL_FIRST = re.compile(rb"(?:[ \t\r\n]|\xef\xbb\xbf)*null")
_NULL_LATER = re.compile(rb"\n(?:[ \t\r]|\xef\xbb\xbf)*null")


class JsonLog(text_log.TableLog):
    """A file of JSON lines; the types of its fields are judged by the first lines.

    A block that has others is read line by line, and the next one by its types.
    """

    header_lines = 0

    def __init__(self, file: RawFile, columns: LogColumns, sizes: ReadSizes) -> None:
        """Opens a file and reads its first lines."""
        text, head = text_log.open_text(file.path, sizes)
        super().__init__(file, text, head, columns)
        rows = _sample(file.path, head)
        present = dict.fromkeys([*(n for row in rows for n in row), *self._folders])
        values = {
            name: [row[name] for row in rows if row.get(name) is not None]
            for name in columns.find(file.path, list(present))
        }
        in_file = [name for name in values if any(name in row for row in rows)]
        self._types = {name: _type_of_most(values[name]) for name in in_file}
        values |= {n: [v] for n, v in self._folders.items() if n not in in_file}
        self.id_bytes = text_log.mean_id_bytes(values[columns.session])
        self.kinds = Kinds(
            *(any(isinstance(v, str) for v in values[name]) for name in columns[:2])
        )
        by_float = columns.time_form.types[0] == pa.float64()  # which holds all alike
        if by_float and self._types.get(str(columns.time)) == pa.int64():
            self._types[str(columns.time)] = pa.float64()
        self._keep_types({name: list(map(str, some)) for name, some in values.items()})

    def _read_at_once(self, data: bytes) -> pa.Table | None:
        try:
            table = parse_json_lines(data, pa.schema(list(self._types.items())))
        except pa.ArrowInvalid:
            return None
        return table if all(map(are_exact, table.columns)) else None

    def _read_each(self, lines: Sequence[bytes], numbers: np.ndarray) -> ReadRows:
        names = list(self._types)
        rows = read_each(self.path, lines, numbers, names, self._columns[:2])
        # Where times are text, numbers are none, whatever else is in their block.
        of_text = {n: t for n, t in self._text_types.items() if n in self._types}
        dates = [n for n, t in of_text.items() if pa.types.is_timestamp(t)]
        types = dict(zip(names, rows.table.schema.types, strict=True))
        types |= dict.fromkeys(dates, pa.string())
        if len(rows.table):
            self._types = types
        return rows._replace(table=rows.table.cast(pa.schema(list(types.items()))))


def parse_json_lines(data: bytes, schema: pa.Schema) -> pa.Table:
    """Parses whole lines, each a JSON object, to a table of those fields.

    A field that a line lacks is null. Raises pa.ArrowInvalid where a line is malformed
    or null; two objects on a line make two rows.
    """
    if _NULL_FIRST.match(data) or _NULL_LATER.search(data):
        # As the first row of a block, it would end the process (pyarrow 26).
        raise pa.ArrowInvalid("JSON parse error: expected an object, found null")
    return pyarrow.json.read_json(
        pa.BufferReader(data),
        pyarrow.json.ReadOptions(
            block_size=max(text_log.CORE_BYTES, _longest_line(data))
        ),
        pyarrow.json.ParseOptions(
            explicit_schema=schema, unexpected_field_behavior="ignore"
        ),
    )


def _longest_line(data: bytes) -> int:
    """Returns a bound on the longest line, which must fit a block of pyarrow's."""
    step = text_log.CORE_BYTES // 4
    ends = [data.rfind(b"\n", 0, end) for end in range(step, len(data) + step, step)]
    return 2 * max(b - a for a, b in zip([0, *ends], [*ends, len(data)], strict=True))


def _sample(path: Path, head: bytes) -> list[dict[str, Any]]:
    """Returns the objects among the first lines."""
    lines = [line for line in head.split(b"\n") if line.strip()]
    if not lines:
        raise UserError(f"{path}: no rows; expected JSON lines")
    rows: list[dict[str, Any]] = []
    problems: list[str] = []
    for line in lines[: text_log.SAMPLE_LINES]:
        try:
            rows.append(parse_line(line))
        except ValueError as error:
            problems.append(str(error))
    if not rows:
        raise UserError(f"{path}: row 1: {problems[0]}")
    return rows


def _type_of_most(values: list[Any]) -> pa.DataType:
    """Returns the type of most values; string where there are none."""
    known = {str: pa.string(), int: pa.int64(), float: pa.float64()}
    counts = Counter(type(value) for value in values if type(value) in known)
    if not counts:
        return pa.string()
    ((most, _),) = counts.most_common(1)
    large = most is int and max(v for v in values if type(v) is int) >= 2**63
    return pa.uint64() if large else known[most]
