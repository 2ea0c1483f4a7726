"""JSON lines with any columns: an object a line."""

import contextlib
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.json

from data_prep.reading import text_log
from data_prep.reading.click_log import Kinds, ReadSizes
from data_prep.reading.columns import LogColumns, ReadRows
from data_prep.reading.json_lines import parse_line, read_each
from data_prep.reading.nested import (
    Field,
    as_read,
    element_type,
    fields_in_empty_lists,
    fields_of_objects,
    pick,
    refuse_holders,
    schema_of,
    spread,
    value_at,
)
from data_prep.reading.orders import are_exact
from data_prep.reading.places import RawFile
from data_prep.reading.text_files import Block
from data_prep.reading.texts import is_value
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
        rows = self._completed(self._first_rows(head))
        fields = self._fields_of(rows)
        present = [*fields, *(name for name in self._folders if name not in fields)]
        self._needed = columns.find(file.path, present)
        self._fields = {name: fields[name] for name in self._needed if name in fields}
        values = {
            name: list(_values_of(rows, where)) for name, where in self._fields.items()
        }
        holders = {n for n, some in values.items() if _are_objects(some)}
        refuse_holders(file.path, self._fields, present, holders)
        self.rows = self.rows * _events_of(rows, self._fields) // len(rows)
        self._types = {name: _type_of_most(some) for name, some in values.items()}
        values |= {n: [v] for n, v in self._folders.items() if n not in fields}
        keys, self._ids = columns.keys(present), columns.ids(present)
        self.id_bytes = sum(text_log.mean_id_bytes(values[name]) for name in keys)
        texts = [
            any(type(v) is str for v in values[n]) for n in (keys[0], columns.item)
        ]
        self.kinds = Kinds(texts[0] or len(keys) > 1, texts[1])
        by_float = columns.time_form.types[0] == pa.float64()  # which holds all alike
        if by_float and self._types.get(str(columns.time)) == pa.int64():
            self._types[str(columns.time)] = pa.float64()
        self._keep_types({name: list(map(str, some)) for name, some in values.items()})
        plain = {n: str(kind) for n, kind in self._types.items() if n in self._ids}
        self.types = {**self.types, **plain}

    def _first_rows(self, head: bytes) -> list[dict[str, Any]]:
        """Returns the objects among the first lines."""
        lines = [line for line in head.split(b"\n") if line.strip()]
        if not lines:
            raise UserError(f"{self.path}: no rows; expected JSON lines")
        rows = self._sample(lines[: text_log.SAMPLE_LINES])
        if not rows:
            try:
                parse_line(lines[0])
            except ValueError as error:
                raise UserError(f"{self.path}: row 1: {error}") from error
        return rows

    def _sample(
        self, lines: Sequence[bytes], lacking: Collection[str] = ()
    ) -> list[dict[str, Any]]:
        values = _values_in(lacking)
        rows: list[dict[str, Any]] = []
        for line in lines:
            # A name may also be spelt by escapes.
            if lacking and not (b"\\" in line or values.search(line)):
                continue
            with contextlib.suppress(ValueError):
                rows.append(parse_line(line))
        return rows

    def _fields_of(self, rows: list[dict[str, Any]]) -> dict[str, Field]:
        fields = fields_of_objects(rows)
        wanted = self._columns.wanted(fields)
        return fields | fields_in_empty_lists(wanted, rows, fields)

    def _lacking(self, rows: list[dict[str, Any]]) -> set[str]:
        fields = self._fields_of(rows)
        wanted = self._columns.wanted([*fields, *self._folders])
        return {
            name
            for name in wanted
            if not (
                any(is_value(str(value)) for value in _values_of(rows, fields[name]))
                if name in fields
                else name in self._folders
            )
        }

    def _absent(self, rows: list[dict[str, Any]]) -> set[str]:
        return self._lacking(rows) - self._fields_of(rows).keys()

    def _read_at_once(self, data: bytes) -> pa.Table | None:
        try:
            table = parse_json_lines(data, schema_of(self._types, self._fields))
        except pa.ArrowInvalid:
            return None
        if not all(where.is_plain for where in self._fields.values()):
            table = pick(table, self._fields)
        return table if all(map(are_exact, table.columns)) else None

    def _read_rows(self, block: Block) -> ReadRows:
        return spread(super()._read_rows(block), self._fields)

    def _read_each(self, lines: Sequence[bytes], numbers: np.ndarray) -> ReadRows:
        names = list(self._types)
        rows = read_each(self.path, lines, numbers, self._fields, self._ids)
        # Where times are text, numbers are none, whatever else is in their block.
        of_text = {n: t for n, t in self._text_types.items() if n in self._types}
        dates = [n for n, t in of_text.items() if pa.types.is_timestamp(t)]
        types = dict(
            zip(names, map(element_type, rows.table.schema.types), strict=True)
        )
        types |= dict.fromkeys(dates, pa.string())
        if len(rows.table):
            self._types = types
        return rows._replace(table=rows.table.cast(as_read(types, self._fields)))


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
            block_size=max(text_log.CORE_BYTES, text_log.longest_line(data))
        ),
        pyarrow.json.ParseOptions(
            explicit_schema=schema, unexpected_field_behavior="ignore"
        ),
    )


def _values_in(names: Collection[str]) -> re.Pattern[bytes]:
    """Returns what is in each line that has a value of some columns."""
    inner = {name.rpartition(".")[2] for name in names}
    inner |= {name.removesuffix("[]") for name in inner}
    ends = b"|".join(re.escape(name.encode()) for name in inner)
    return re.compile(rb'(?:%b)"\s*:(?!\s*(?:null|\[\s*\]))' % ends)


def _values_of(rows: list[dict[str, Any]], where: Field) -> Iterator[Any]:
    """Yields what there is of a field, those of lists one by one."""
    for row in rows:
        value = value_at(row, where)
        in_list = where.in_list is not None and isinstance(value, list)
        yield from (one for one in (value if in_list else [value]) if one is not None)


def _are_objects(values: list[Any]) -> bool:
    return bool(values) and all(type(value) is dict for value in values)


def _events_of(rows: list[dict[str, Any]], fields: Mapping[str, Field]) -> int:
    """Returns how many events there are in rows."""
    for where in fields.values():
        if where.in_list is not None:
            lists = (value_at(row, where) for row in rows)
            return sum(len(one) if isinstance(one, list) else 1 for one in lists)
    return len(rows)


def _type_of_most(values: list[Any]) -> pa.DataType:
    """Returns the type of most values; string where there are none."""
    known = {str: pa.string(), int: pa.int64(), float: pa.float64()}
    counts = Counter(type(value) for value in values if type(value) in known)
    if not counts:
        return pa.string()
    ((most, _),) = counts.most_common(1)
    large = most is int and max(v for v in values if type(v) is int) >= 2**63
    return pa.uint64() if large else known[most]
