"""Diginetica's and Yoochoose's click files."""

import csv
import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from data_prep.clicks.batches import DAY, ClickBatch
from data_prep.reading.public_logs import Click, check_time, plain_id, times_in_range
from data_prep.reading.text_files import Block

_BLOCK = 1 << 22  # bytes that one core parses at a time
_EPOCH = datetime.date(1970, 1, 1)
_MICROSECOND = datetime.timedelta(microseconds=1)
_LATEST_MS = 2**53  # milliseconds, beyond any time: keeps products in int64


class Diginetica:
    """``train-item-views.csv``: an item viewed, its day and milliseconds since."""

    name = "Diginetica's train-item-views.csv"
    expected = "the header sessionId;userId;itemId;timeframe;eventdate"

    def __init__(self) -> None:
        """Takes the columns' places from the header, once it is read."""
        self._columns: list[str] = []

    def header_lines(self, first: str) -> int | None:
        """Reads the header, in either spelling."""
        names = [_plain(name) for name in first.split(";")]
        needed = ("sessionid", "itemid", "timeframe", "eventdate")
        if any(names.count(name) != 1 for name in needed):
            return None
        self._columns = names
        return 1

    def parse(self, block: Block, text: bool) -> ClickBatch | None:
        """Parses whole lines at once."""
        types = {"timeframe": pa.int64(), "eventdate": pa.date32()}
        table = _read(block, ";", self._columns, types, ("sessionid", "itemid"), text)
        if table is None:
            return None
        days = table["eventdate"].cast(pa.int32()).to_numpy().astype(np.int64)
        ms = table["timeframe"].to_numpy()
        if len(ms) and (ms.min() < 0 or ms.max() > _LATEST_MS):
            return None
        return _checked(table, ("sessionid", "itemid"), days * DAY + ms * 1000)

    def parse_line(self, line: str) -> list[Click]:
        """Parses one line."""
        fields = dict(zip(self._columns, _split(line, ";", self._columns), strict=True))
        day = fields["eventdate"].strip()
        try:
            date = datetime.date.fromisoformat(day)
        except ValueError as error:
            what = f"eventdate {day!r} is no date such as 2016-05-09"
            raise ValueError(what) from error
        try:
            ms = int(fields["timeframe"])
        except ValueError as error:
            what = f"timeframe {fields['timeframe']!r} is no number of milliseconds"
            raise ValueError(what) from error
        if ms < 0:
            raise ValueError(f"timeframe {ms} out of range, below 0")
        time = check_time((date - _EPOCH).days * DAY + ms * 1000)
        return [(plain_id(fields["sessionid"]), plain_id(fields["itemid"]), time)]


class Yoochoose:
    """``yoochoose-clicks.dat``: session, time, item, category; no header."""

    name = "Yoochoose's yoochoose-clicks.dat"
    expected = "no header and rows such as 1,2014-04-07T10:51:09.277Z,214536502,0"

    def __init__(self) -> None:
        """Expects a category, which old copies may lack."""
        self._columns = ["session", "time", "item", "category"]

    def header_lines(self, first: str) -> int | None:
        """Judges by the first row, which must not be a header."""
        fields = first.split(",")
        if len(fields) not in (3, 4) or _looks_named(fields):
            return None
        self._columns = self._columns[: len(fields)]
        return 0

    def parse(self, block: Block, text: bool) -> ClickBatch | None:
        """Parses whole lines at once."""
        types = {"time": pa.timestamp("us", tz="UTC")}
        table = _read(block, ",", self._columns, types, ("session", "item"), text)
        if table is None:
            return None
        times = table["time"].cast(pa.int64()).to_numpy()
        return _checked(table, ("session", "item"), times)

    def parse_line(self, line: str) -> list[Click]:
        """Parses one line."""
        session, time, item, *_ = _split(line, ",", self._columns)
        try:
            moment = datetime.datetime.fromisoformat(time.strip())
        except ValueError as error:
            what = f"{time!r} is no time such as 2014-04-07T10:51:09.277Z"
            raise ValueError(what) from error
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=datetime.UTC)
        epoch = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
        microseconds = check_time((moment - epoch) // _MICROSECOND)
        return [(plain_id(session), plain_id(item), microseconds)]


def _plain(name: str) -> str:
    return name.strip().strip('"').replace("_", "").lower()


def _looks_named(fields: list[str]) -> bool:
    """Whether a first row is a header: its time is one word."""
    return not any(sign.isdigit() for sign in fields[1])


def _read(
    block: Block,
    delimiter: str,
    columns: list[str],
    types: dict[str, pa.DataType],
    ids: tuple[str, str],
    text: bool,
) -> pa.Table | None:
    """Reads lines without a header; None where any is not as it should be."""
    types = types | dict.fromkeys(ids, pa.string() if text else pa.int64())
    try:
        table = pyarrow.csv.read_csv(
            pa.BufferReader(block.data),
            pyarrow.csv.ReadOptions(column_names=columns, block_size=_BLOCK),
            pyarrow.csv.ParseOptions(delimiter=delimiter),
            pyarrow.csv.ConvertOptions(
                include_columns=list(types), column_types=types, null_values=[]
            ),
        )
    except pa.ArrowInvalid:
        return None
    # An open quote swallows lines without an error; blank lines are counted as well.
    return table if table.num_rows == block.num_lines else None


def _checked(
    table: pa.Table, ids: tuple[str, str], times: np.ndarray
) -> ClickBatch | None:
    """Makes a batch where all ids are given and all times in range."""
    session, item = (table[name].combine_chunks() for name in ids)
    if session.null_count or item.null_count or not times_in_range(times):
        return None
    if pa.types.is_string(session.type) and not (_trimmed(session) and _trimmed(item)):
        return None
    return ClickBatch(session, item, times)


def _trimmed(ids: pa.Array) -> bool:
    """Whether text ids are neither empty nor begin or end with spaces."""
    plain = pc.call_function("utf8_trim_whitespace", [ids])
    shortest = pc.call_function("binary_length", [ids]).to_numpy().min(initial=1)
    return shortest > 0 and plain.equals(ids)


def _split(line: str, delimiter: str, columns: list[str]) -> list[str]:
    """Splits a line into as many fields as there are columns."""
    fields = line.split(delimiter)
    if '"' in line:
        try:
            fields = next(csv.reader([line], delimiter=delimiter, strict=False))
        except csv.Error as error:
            raise ValueError(f"not CSV: {error}") from error
    if len(fields) != len(columns):
        raise ValueError(f"{len(columns)} columns expected, {len(fields)} found")
    return fields
