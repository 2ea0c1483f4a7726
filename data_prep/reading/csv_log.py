"""CSV with any columns, below a header; comma- or tab-separated."""

import contextlib
import csv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv

from data_prep.reading import text_log
from data_prep.reading.bad_rows import Fault
from data_prep.reading.checked import NULLS, shown
from data_prep.reading.click_log import Kinds, ReadSizes
from data_prep.reading.columns import LogColumns, ReadRows
from data_prep.reading.orders import are_exact
from data_prep.reading.texts import likeliest_type, read_as
from tron_jax.errors import UserError

_TEXT = pa.dictionary(pa.int32(), pa.string())
_OPEN = "expected one row a line; a quote is open or holds a line break"


class CsvLog(text_log.TableLog):
    """A CSV file; the types of its columns are judged by the first lines."""

    header = True
    kinds = Kinds(text_sessions=True, text_items=True)  # 007 is not 7

    def __init__(
        self, path: Path, columns: LogColumns, sizes: ReadSizes, delimiter: str
    ) -> None:
        """Opens a file and reads its first lines."""
        super().__init__(path, columns, sizes)
        names, _, rest = self._head.decode("utf-8", "replace").partition("\n")
        self._names = _column_names(path, names.rstrip("\r"), delimiter)
        needed = columns.find(path, self._names)
        sample = self._sample(rest, delimiter)
        self.id_bytes = text_log.mean_id_bytes(sample[columns.session])
        self._text_types = {
            name: likeliest_type(sample[name], types)
            for name, types in columns.text_types().items()
        }
        types = {n: read_as(sample[n], kind) for n, kind in self._text_types.items()}
        types |= {columns.session: _TEXT, columns.item: _TEXT}
        self._delimiter, self._types = delimiter, {name: types[name] for name in needed}
        # A line that is surely sound: whatever makes another row of it is not.
        self._plain = delimiter.join("0" * len(self._names))

    def _sample(self, text: str, delimiter: str) -> dict[str, list[str]]:
        """Returns the first values of each column."""
        rows = []
        lines = text.split("\n")[: text_log.SAMPLE_LINES]
        with contextlib.suppress(csv.Error):
            for row in csv.reader(lines, delimiter=delimiter):
                if len(row) == len(self._names):
                    rows.append(row)
        return {name: [r[i] for r in rows] for i, name in enumerate(self._names)}

    def _read_at_once(self, data: bytes) -> pa.Table | None:
        # An open quote in the last line shows only where something follows.
        last = data.rstrip(b"\r\n").rpartition(b"\n")[2]
        if last.count(b'"') % 2 and self._is_open(last):
            return None
        try:
            table = parse_csv_lines(
                data, self._names, self._delimiter, self._types, NULLS
            )
        except pa.ArrowInvalid:
            return None
        order = self._columns.order
        return table if order is None or are_exact(table[order]) else None

    def _read_each(self, lines: Sequence[bytes], numbers: np.ndarray) -> ReadRows:
        for is_open in (self._is_open, self._makes_no_row, _needs_a_look):
            shut = [not is_open(line) for line in lines]
            kept = np.array(shut, bool)
            some = [line for line, good in zip(lines, shut, strict=True) if good]
            faults = [Fault(numbers[~kept], lambda n: f": {_OPEN}")]
            read = self._read_texts(some, numbers[kept])
            if read is not None:
                return read._replace(faults=[*faults, *read.faults])
        raise AssertionError("lines that make a row each do not make as many together")

    def _read_texts(
        self, lines: Sequence[bytes], numbers: np.ndarray
    ) -> ReadRows | None:
        """Reads lines, times and orders as text; None where lines make no row each."""
        odd: list[tuple[int, str]] = []

        def leave_out(row: pyarrow.csv.InvalidRow) -> str:
            found = (
                f"{row.expected_columns} columns expected, {row.actual_columns} found"
            )
            odd.append((row.number - 1, f": {found}: {shown(row.text)}"))
            return "skip"

        types = dict.fromkeys(self._text_types, pa.binary()) | {
            name: _TEXT for name in self._columns[:2] if name not in self._text_types
        }
        empty = {name: pa.array([], kind) for name, kind in types.items()}
        table = pa.table(empty)
        if lines:
            data = b"\n".join(lines)
            table = parse_csv_lines(
                data, self._names, self._delimiter, types, NULLS, leave_out
            )
        if table.num_rows + len(odd) != len(lines):
            return None
        at = np.array([index for index, _ in odd], np.int64)
        kept = np.ones(len(lines), bool)
        kept[at] = False
        fault = Fault(numbers[at], lambda n: odd[n][1])
        return ReadRows(self.path, table, numbers[kept], [fault])

    def _is_open(self, line: bytes) -> bool:
        """Whether a line ends within quotes, or another begins within it."""
        if not _needs_a_look(line):
            return False
        if len(line) > csv.field_size_limit():
            return self._makes_no_row(line)
        text = line.decode("utf-8", "replace").removesuffix("\r")
        try:
            rows = list(csv.reader([text, self._plain], delimiter=self._delimiter))
        except csv.Error:
            return True
        return len(rows) != 2

    def _makes_no_row(self, line: bytes) -> bool:
        """Whether pyarrow thinks so, which Python may read otherwise."""
        both = [line, self._plain.encode()]
        return _needs_a_look(line) and not self._read_texts(both, np.zeros(2, int))


def _needs_a_look(line: bytes) -> bool:
    return b'"' in line or b"\r" in line.removesuffix(b"\r")


def parse_csv_lines(
    data: bytes,
    names: Sequence[str],
    delimiter: str,
    types: Mapping[str, pa.DataType],
    nulls: Sequence[str] = (),
    on_odd_row: Callable[[pyarrow.csv.InvalidRow], str] | None = None,
) -> pa.Table:
    """Parses whole lines to a table of those columns that have a type.

    There is a row for each line, unless a quote is open or a line is blank. Raises
    pa.ArrowInvalid where a line is malformed; but with ``on_odd_row``, lines of more or
    fewer columns are given to it, with their number from 1, and text may be no UTF-8.
    """
    return pyarrow.csv.read_csv(
        pa.BufferReader(data),
        pyarrow.csv.ReadOptions(
            column_names=names,
            block_size=text_log.CORE_BYTES,
            use_threads=on_odd_row is None,  # with threads, lines are not counted
        ),
        pyarrow.csv.ParseOptions(delimiter=delimiter, invalid_row_handler=on_odd_row),
        pyarrow.csv.ConvertOptions(
            include_columns=list(types),
            column_types=types,
            null_values=nulls,
            strings_can_be_null=True,
            check_utf8=on_odd_row is None,
        ),
    )


def _column_names(path: Path, header: str, delimiter: str) -> list[str]:
    if "\r" in header:
        raise UserError(f"{path}: row 1: a bare CR; expected lines that end in LF")
    try:
        return next(csv.reader([header], delimiter=delimiter), [])
    except csv.Error as error:
        raise UserError(f"{path}: row 1: no header of a CSV file: {error}") from error
