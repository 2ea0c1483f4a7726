"""JSON lines with any columns: an object a line."""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.json

from data_prep.reading import text_log
from data_prep.reading.click_log import ReadSizes
from data_prep.reading.column_values import TIME_TYPES, likeliest_type
from data_prep.reading.columns import LogColumns
from tron_jax.errors import UserError

# A row that begins with null, a byte-order mark in front or not.
_NULL_FIRST = re.compile(rb"(?:[ \t\r\n]|\xef\xbb\xbf)*null")
_NULL_LATER = re.compile(rb"\n(?:[ \t\r]|\xef\xbb\xbf)*null")


class JsonLog(text_log.TableLog):
    """A file of JSON lines; the types of its fields are judged by the first lines."""

    header = False

    def __init__(self, path: Path, columns: LogColumns, sizes: ReadSizes) -> None:
        """Opens a file and reads its first lines."""
        super().__init__(path, columns, sizes)
        rows = _sample(path, self._head)
        needed = columns.find(path, list(dict.fromkeys(n for row in rows for n in row)))
        values = {
            name: [row[name] for row in rows if row.get(name) is not None]
            for name in needed
        }
        types = {name: _type_of_most(values[name]) for name in needed}
        self.id_bytes = text_log.mean_id_bytes(values[columns.session])
        self.text_items = pa.types.is_string(types[columns.item])
        for name in needed:  # whole numbers at first must not forbid others later
            is_id = name in (columns.session, columns.item)
            if pa.types.is_integer(types[name]) and not is_id:
                types[name] = pa.float64()
        self._text_times: dict[str, pa.DataType] = {}
        if columns.time is not None and pa.types.is_string(types[columns.time]):
            texts = [str(value) for value in values[columns.time]]
            self._text_times = {columns.time: likeliest_type(texts, TIME_TYPES)}
        self._schema = pa.schema(list(types.items()))

    def _parse_table(self, data: bytes, where: str) -> pa.Table:
        try:
            table = parse_json_lines(data, self._schema)
        except pa.ArrowInvalid as error:
            problem = _problem(data) or text_log.plain_problem(error)
            raise UserError(f"{where}: {problem}") from error
        for name, time_type in self._text_times.items():
            try:
                times = table[name].cast(time_type)
            except pa.ArrowInvalid as error:
                problem = f"column {name!r}: {text_log.plain_problem(error)}"
                raise UserError(f"{where}, {problem}") from error
            table = table.set_column(table.column_names.index(name), name, times)
        return text_log.require_row_per_line(
            table, data, f"{where}: expected one row a line"
        )


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
    sample = lines[: text_log.SAMPLE_LINES]
    good = [line for line in sample if _problem(line) is None]
    if not good:
        raise UserError(f"{path}: row 1: {_problem(lines[0])}")
    return [json.loads(line) for line in good]


def _problem(line: bytes) -> str | None:
    """Returns what is wrong with a line as JSON, if anything is."""
    try:
        row = json.loads(line)
    except UnicodeDecodeError as error:
        return f"invalid UTF-8 at byte {error.start + 1}"
    except (ValueError, RecursionError) as error:
        return f"not JSON: {error}"
    return None if isinstance(row, dict) else "expected a JSON object"


def _type_of_most(values: list[Any]) -> pa.DataType:
    """Returns the type of most values; string where there are none."""
    known = {str: pa.string(), int: pa.int64(), float: pa.float64()}
    if not values:
        return pa.string()
    (most, _), *_ = Counter(map(type, values)).most_common(1)
    example = next(value for value in values if type(value) is most)
    return known.get(most) or pa.array([example]).type
