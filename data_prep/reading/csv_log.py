"""CSV with any columns, below a header; comma- or tab-separated."""

import contextlib
import csv
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.csv

from data_prep.reading import text_log
from data_prep.reading.click_log import ReadSizes
from data_prep.reading.column_values import NULLS, TIME_TYPES, likeliest_type
from data_prep.reading.columns import LogColumns
from tron_jax.errors import UserError


class CsvLog(text_log.TableLog):
    """A CSV file; the types of its columns are judged by the first lines."""

    header = True
    text_items = True  # as they are written: 007 is not 7

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
        text = pa.dictionary(pa.int32(), pa.string())
        types = {}
        if columns.order is not None:
            number_or_time = (pa.int64(), *TIME_TYPES)
            types[columns.order] = likeliest_type(sample[columns.order], number_or_time)
        if columns.time is not None:
            types[columns.time] = likeliest_type(sample[columns.time], TIME_TYPES)
        types |= {columns.session: text, columns.item: text}
        self._delimiter, self._types = delimiter, {name: types[name] for name in needed}

    def _sample(self, text: str, delimiter: str) -> dict[str, list[str]]:
        """Returns the first values of each column."""
        rows = []
        lines = text.split("\n")[: text_log.SAMPLE_LINES]
        with contextlib.suppress(csv.Error):
            for row in csv.reader(lines, delimiter=delimiter):
                if len(row) == len(self._names):
                    rows.append(row)
        return {name: [r[i] for r in rows] for i, name in enumerate(self._names)}

    def _parse_table(self, data: bytes, where: str) -> pa.Table:
        last = data.rstrip(b"\r\n").rpartition(b"\n")[2]
        if last.count(b'"') % 2:  # an open quote shows only where something follows
            self._read(last + b"\n" + last, where)
        return self._read(data, where)

    def _read(self, data: bytes, where: str) -> pa.Table:
        try:
            table = parse_csv_lines(
                data, self._names, self._delimiter, self._types, NULLS
            )
        except pa.ArrowInvalid as error:
            raise UserError(f"{where}: {self._explain(error)}") from error
        problem = "expected one row a line; a quote is open or holds a line break"
        return text_log.require_row_per_line(table, data, f"{where}: {problem}")

    def _explain(self, error: pa.ArrowInvalid) -> str:
        """Returns what pyarrow found, with a column's name instead of its index."""
        problem = text_log.plain_problem(error)
        pattern = r"In CSV column #(\d+): (.*?)(?:: invalid value (.*))?$"
        if (found := re.match(pattern, problem)) is None:
            return problem
        name, problem, value = self._names[int(found[1])], found[2], found[3]
        if value is not None:
            wanted = "time" if name == self._columns.time else "number"
            problem = f"{value} is no {wanted}"
        return f"column {name!r}: {problem}"


def parse_csv_lines(
    data: bytes,
    names: Sequence[str],
    delimiter: str,
    types: Mapping[str, pa.DataType],
    nulls: Sequence[str] = (),
) -> pa.Table:
    """Parses whole lines to a table of those columns that have a type.

    There is a row for each line, unless a quote is open or a line is blank. Raises
    pa.ArrowInvalid where a line is malformed.
    """
    return pyarrow.csv.read_csv(
        pa.BufferReader(data),
        pyarrow.csv.ReadOptions(
            column_names=names,
            block_size=text_log.CORE_BYTES,
            # By one thread, a line with several faults is refused for its first.
            use_threads=len(data) > text_log.CORE_BYTES,
        ),
        pyarrow.csv.ParseOptions(delimiter=delimiter),
        pyarrow.csv.ConvertOptions(
            include_columns=list(types),
            column_types=types,
            null_values=nulls,
            strings_can_be_null=True,
        ),
    )


def _column_names(path: Path, header: str, delimiter: str) -> list[str]:
    if "\r" in header:
        raise UserError(f"{path}: row 1: a bare CR; expected lines that end in LF")
    try:
        return next(csv.reader([header], delimiter=delimiter), [])
    except csv.Error as error:
        raise UserError(f"{path}: row 1: no header of a CSV file: {error}") from error
