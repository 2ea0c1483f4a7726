"""CSV with any columns, below a header."""

import csv
from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from data_prep.reading import text_log
from data_prep.reading.bad_rows import Fault
from data_prep.reading.checked import NULLS, always, compute, shown
from data_prep.reading.click_log import Kinds, ReadSizes
from data_prep.reading.columns import LogColumns, ReadRows
from data_prep.reading.csv_header import CsvForm, read_header
from data_prep.reading.orders import are_exact
from data_prep.reading.places import RawFile
from data_prep.reading.quoted_rows import last_row_end, longest_row, split_rows
from data_prep.reading.text_files import Block, last_line_end
from data_prep.reading.texts import is_value, read_as

OnOdd = Callable[[pyarrow.csv.InvalidRow], str]

_TEXT = pa.dictionary(pa.int32(), pa.string())
_OPEN = "expected one row a line; a quote is open or holds a line break"
_HINT = " (which --quoted_newlines allows)"


class CsvLog(text_log.TableLog):
    """A CSV file; the types of its columns are judged by the first lines."""

    kinds = Kinds(text_sessions=True, text_items=True)  # 007 is not 7

    def __init__(
        self,
        file: RawFile,
        columns: LogColumns,
        sizes: ReadSizes,
        form: CsvForm,
        usual: str,
    ) -> None:
        """Opens a file and reads its first lines; ``usual`` as of ``read_header``."""
        self._quoted = form.quoted_newlines
        last_end = last_row_end if self._quoted else last_line_end
        text, head = text_log.open_text(file.path, sizes, last_end)
        super().__init__(file, text, head, columns)
        lines = head.decode("utf-8", "replace")
        header = read_header(file.path, lines, columns, self._folders, form, usual)
        self._names, self._delimiter, self.header_lines, self._padded = header
        names = dict.fromkeys([*self._folders, *self._names])
        self._needed = columns.find(file.path, list(names))
        body = b"".join(head.split(b"\n", header.lines)[header.lines :])
        first = self._split(Block(body, header.lines + 1, 0))
        rows = self._completed(self._sample(first[: text_log.SAMPLE_LINES]))
        sample = {name: [value or ""] for name, value in self._folders.items()}
        sample |= {name: [r[i] for r in rows] for i, name in enumerate(self._names)}
        self.id_bytes = sum(
            text_log.mean_id_bytes(sample[name]) for name in columns.keys(sample)
        )
        self._keep_types(sample)
        types = {n: read_as(sample[n], kind) for n, kind in self._text_types.items()}
        self._ids = [n for n in columns.ids(sample) if n in self._names]
        types |= dict.fromkeys(self._ids, _TEXT)
        self._types = {n: kind for n, kind in types.items() if n in self._names}
        # A line that is surely sound: whatever makes another row of it is not.
        self._plain = self._delimiter.join("0" * len(self._names))

    def _sample(
        self, lines: Sequence[bytes], lacking: Collection[str] = ()
    ) -> list[list[str]]:
        rows = (_cells(line, self._delimiter) for line in lines)
        return [row for row in rows if len(row) == len(self._names)]

    def _lacking(self, rows: list[list[str]]) -> set[str]:
        at = {n: self._names.index(n) for n in self._needed if n in self._names}
        return {n for n, i in at.items() if not any(is_value(row[i]) for row in rows)}

    def _row_numbers(self, block: Block) -> np.ndarray:
        return split_rows(block)[1] if self._quoted else super()._row_numbers(block)

    def _split(self, block: Block) -> list[bytes]:
        return split_rows(block)[0] if self._quoted else super()._split(block)

    def _read_rows(self, block: Block) -> ReadRows:
        rows = super()._read_rows(block)
        return rows._replace(table=self._unpadded(rows.table)) if self._padded else rows

    def _unpadded(self, table: pa.Table) -> pa.Table:
        """Takes the blanks from around ids, and quotes that stood behind a blank."""
        quotes = pc.ReplaceSubstringOptions('^"(.*)"$', r"\1")
        for name in self._ids:
            bare = compute("ascii_trim_whitespace", table[name].cast(pa.string()))
            bare = compute("replace_substring_regex", bare, options=quotes)
            at = table.column_names.index(name)
            table = table.set_column(at, name, bare.dictionary_encode())
        return table

    def _parse(self, data: bytes, types: Mapping[str, pa.DataType], *on_odd_row: OnOdd):
        return parse_csv_lines(
            data,
            self._names,
            self._delimiter,
            types,
            NULLS,
            *on_odd_row,
            newlines=self._quoted,
        )

    def _read_at_once(self, data: bytes) -> pa.Table | None:
        # An open quote in the last line shows only where something follows.
        last = data.rstrip(b"\r\n").rpartition(b"\n")[2]
        if not self._quoted and last.count(b'"') % 2 and self._is_open(last):
            return None
        try:
            table = self._parse(data, self._types)
        except pa.ArrowInvalid:
            return None
        order = self._columns.order
        return table if order not in self._types or are_exact(table[order]) else None

    def _read_each(self, lines: Sequence[bytes], numbers: np.ndarray) -> ReadRows:
        for is_open in (self._is_open, self._makes_no_row, _needs_a_look):
            shut = [not is_open(line) for line in lines]
            kept = np.array(shut, bool)
            some = [line for line, good in zip(lines, shut, strict=True) if good]
            problem = f": {_OPEN}{'' if self._quoted else _HINT}"
            faults = [Fault(numbers[~kept], always(problem))]
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

        types = {
            n: pa.binary() if n in self._text_types else _TEXT for n in self._types
        }
        empty = {name: pa.array([], kind) for name, kind in types.items()}
        table = pa.table(empty)
        if lines:
            data = b"\n".join(lines)
            try:
                table = self._parse(data, types, leave_out)
            except pa.ArrowInvalid:  # no row ends in a block of pyarrow's
                return None
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


def _cells(line: bytes, delimiter: str) -> list[str]:
    """Splits a row, however long a cell; [] where that cannot be done."""
    text = line.decode("utf-8", "replace").removesuffix("\r")
    if '"' not in text:
        return text.split(delimiter)
    limit = csv.field_size_limit(len(text))
    try:
        return next(csv.reader([text], delimiter=delimiter), [])
    except csv.Error:
        return []
    finally:
        csv.field_size_limit(limit)


def _needs_a_look(line: bytes) -> bool:
    return b'"' in line or b"\r" in line.removesuffix(b"\r")


def parse_csv_lines(
    data: bytes,
    names: Sequence[str],
    delimiter: str,
    types: Mapping[str, pa.DataType],
    nulls: Sequence[str] = (),
    on_odd_row: OnOdd | None = None,
    *,
    newlines: bool = False,
) -> pa.Table:
    """Parses whole lines to a table of those columns that have a type.

    There is a row for each line, unless a quote is open or a line is blank. Raises
    pa.ArrowInvalid where a line is malformed; but with ``on_odd_row``, lines of more or
    fewer columns are given to it, with their number from 1, and text may be no UTF-8.
    With ``newlines``, there is a row for each that ends outside of quotes instead.
    """
    # A row must fit a block of pyarrow's.
    longest = text_log.longest_line(data)
    if newlines and len(data) > text_log.CORE_BYTES:
        longest = longest_row(data)
    return pyarrow.csv.read_csv(
        pa.BufferReader(data),
        pyarrow.csv.ReadOptions(
            column_names=names,
            block_size=max(text_log.CORE_BYTES, longest),
            use_threads=on_odd_row is None,  # with threads, lines are not counted
        ),
        pyarrow.csv.ParseOptions(
            delimiter=delimiter,
            newlines_in_values=newlines,
            invalid_row_handler=on_odd_row,
        ),
        pyarrow.csv.ConvertOptions(
            include_columns=list(types),
            column_types=types,
            null_values=nulls,
            strings_can_be_null=True,
            check_utf8=on_odd_row is None,
        ),
    )
