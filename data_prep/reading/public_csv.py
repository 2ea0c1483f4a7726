"""Diginetica's and Yoochoose's click files."""

import csv
import datetime

import numpy as np
import pyarrow as pa

from data_prep.clicks.batches import DAY, TIME, ClickBatch
from data_prep.reading.csv_log import parse_csv_lines
from data_prep.reading.public_log import (
    Click,
    PublicLog,
    are_plain,
    check_time,
    read_id,
    times_in_range,
)

_DAY_MS = DAY // 1000
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_MICROSECOND = datetime.timedelta(microseconds=1)


class DigineticaLog(PublicLog):
    """``train-item-views.csv``: an item viewed, its day and milliseconds since."""

    name = "Diginetica's train-item-views.csv"
    expected = "the header sessionId;userId;itemId;timeframe;eventdate"
    header_lines = 1
    row_bytes = 28

    def _accepts(self, first: str) -> bool:
        """Reads the header, in either spelling."""
        names = [
            name.strip().strip('"').replace("_", "").lower()
            for name in first.split(";")
        ]
        needed = ("sessionid", "itemid", "timeframe", "eventdate")
        self._columns = names
        return all(names.count(name) == 1 for name in needed)

    def _read_table(self, data: bytes, id_type: pa.DataType) -> pa.Table:
        types = {"sessionid": id_type, "itemid": id_type}
        types |= {"timeframe": pa.int64(), "eventdate": pa.date32()}
        return _parse(data, self._columns, ";", types)

    def _to_clicks(self, table: pa.Table) -> ClickBatch | None:
        days = table["eventdate"].cast(pa.int32()).to_numpy().astype(np.int64)
        timeframes = table["timeframe"].to_numpy()
        ms = days * _DAY_MS + timeframes  # below 0 where that is too much for int64
        if timeframes.min(initial=0) < 0 or not times_in_range(ms, unit=1000):
            return None
        return _with_ids(table["sessionid"], table["itemid"], ms * 1000)

    def _parse_line(self, line: str) -> list[Click]:
        fields = dict(zip(self._columns, _split(line, ";", self._columns), strict=True))
        day, timeframe = fields["eventdate"].strip(), fields["timeframe"]
        try:
            date = datetime.date.fromisoformat(day)
        except ValueError:
            message = f"eventdate {day!r} is no date such as 2016-05-09"
            raise ValueError(message) from None
        try:
            ms = int(timeframe)
        except ValueError:
            message = f"timeframe {timeframe!r} is no number of milliseconds"
            raise ValueError(message) from None
        if ms < 0:
            raise ValueError(f"timeframe {ms} out of range, below 0")
        time = check_time(((date - _EPOCH.date()).days * _DAY_MS + ms) * 1000)
        return [(read_id(fields["sessionid"]), read_id(fields["itemid"]), time)]


class YoochooseLog(PublicLog):
    """``yoochoose-clicks.dat``: session, time, item, category; no header."""

    name = "Yoochoose's yoochoose-clicks.dat"
    expected = "no header and rows such as 1,2014-04-07T10:51:09.277Z,214536502,0"
    header_lines = 0
    row_bytes = 36

    def _accepts(self, first: str) -> bool:
        """Judges by the first row; old copies lack the category."""
        fields = first.split(",")
        self._columns = ["session", "time", "item", "category"][: len(fields)]
        # Where the time has no digit, it is a name and the row a header.
        return len(fields) in (3, 4) and any(sign.isdigit() for sign in fields[1])

    def _read_table(self, data: bytes, id_type: pa.DataType) -> pa.Table:
        types = {"session": id_type, "item": id_type, "time": TIME}
        return _parse(data, self._columns, ",", types)

    def _to_clicks(self, table: pa.Table) -> ClickBatch | None:
        times = table["time"].cast(pa.int64()).to_numpy()
        if not times_in_range(times):
            return None
        return _with_ids(table["session"], table["item"], times)

    def _parse_line(self, line: str) -> list[Click]:
        session, time, item, *_ = _split(line, ",", self._columns)
        try:
            moment = datetime.datetime.fromisoformat(time.strip())
        except ValueError:
            message = f"{time!r} is no time such as 2014-04-07T10:51:09.277Z"
            raise ValueError(message) from None
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=datetime.UTC)
        microseconds = check_time((moment - _EPOCH) // _MICROSECOND)
        return [(read_id(session), read_id(item), microseconds)]


def _parse(
    data: bytes, columns: list[str], delimiter: str, types: dict[str, pa.DataType]
) -> pa.Table:
    """Reads whole lines at once, but for such as 0x10, which pyarrow takes for 16."""
    if b"0x" in data or b"0X" in data:
        raise pa.ArrowInvalid("hexadecimal digits, perhaps")
    return parse_csv_lines(data, columns, delimiter, types)


def _with_ids(
    session: pa.ChunkedArray, item: pa.ChunkedArray, times: np.ndarray
) -> ClickBatch | None:
    """Makes a batch; None where a text id is empty or has spaces around it."""
    if not (are_plain(session) and are_plain(item)):
        return None
    return ClickBatch(session.combine_chunks(), item.combine_chunks(), times)


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
