"""Which reader opens which log: begin here to add a format."""

import functools
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from data_prep.reading.click_log import ClickLog, ReadSizes
from data_prep.reading.columns import LogColumns
from data_prep.reading.csv_header import CsvForm
from data_prep.reading.csv_log import CsvLog
from data_prep.reading.json_log import JsonLog
from data_prep.reading.many_logs import ManyLogs
from data_prep.reading.otto_jsonl import OttoLog
from data_prep.reading.parquet_log import ParquetLog
from data_prep.reading.places import RawFile, list_files
from data_prep.reading.public_csv import DigineticaLog, YoochooseLog
from data_prep.reading.public_log import PublicLog
from data_prep.reading.text_files import COMPRESSIONS
from data_prep.reading.text_log import is_blank
from tron_jax.errors import UserError


class LogForm(NamedTuple):
    """What is to be known of a log with any columns.

    columns: which of them are read; csv: how CSV is written.
    """

    columns: LogColumns
    csv: CsvForm = CsvForm()


def _open_csv(file: RawFile, form: LogForm, sizes: ReadSizes, usual: str) -> ClickLog:
    return CsvLog(file, form.columns, sizes, form.csv, usual)


def _open_json(file: RawFile, form: LogForm, sizes: ReadSizes) -> ClickLog:
    return JsonLog(file, form.columns, sizes)


# Logs of text with any columns, by how a name ends (before that of a compression).
TEXT: dict[str, Callable[[RawFile, LogForm, ReadSizes], ClickLog]] = {
    ".csv": functools.partial(_open_csv, usual=","),
    ".txt": functools.partial(_open_csv, usual="\t"),
    ".tsv": functools.partial(_open_csv, usual="\t"),
    ".jsonl": _open_json,
    ".ndjson": _open_json,
    ".json": _open_json,
}
PARQUET = (".parquet", ".pq")  # and any file of a folder without text

# The original files of public data sets, whose columns are known.
PUBLIC: dict[str, Callable[[Path, ReadSizes], PublicLog]] = {
    "diginetica": DigineticaLog,
    "yoochoose": YoochooseLog,
    "otto": OttoLog,
}


def open_log(places: Sequence[Path], form: LogForm, sizes: ReadSizes) -> ClickLog:
    """Opens a log with any columns, of which only the beginning is read.

    Args:
      places: files whose names end as in ``TEXT`` or ``PARQUET``, those of text
        compressed or not; folders of such files, partitioned or not; or patterns.
      form: what is to be known of it.
      sizes: how much to read at once.

    Raises:
      UserError: where there is no such file, format or column, or a file twice.
    """
    files = [
        (file, ending)
        for place in places
        for file, ending in _with_endings(place, list_files(place))
    ]
    _refuse_twice([file for file, _ in files])
    if len(files) > 1:
        filled = [(f, e) for f, e in files if e in PARQUET or not is_blank(f.path)]
        files = filled or files
    logs: list[ClickLog] = []
    for ending, some in itertools.groupby(files, key=lambda pair: pair[1]):
        same = [file for file, _ in some]
        if ending in PARQUET:
            logs.append(ParquetLog(places[0], same, form.columns, sizes))
        else:
            logs += [TEXT[ending](file, form, sizes) for file in same]
    return logs[0] if len(logs) == 1 else ManyLogs(places[0], logs, form.columns)


def _with_endings(place: Path, files: list[RawFile]) -> list[tuple[RawFile, str]]:
    """Says of each file of a log which of ``TEXT`` it is, or one of ``PARQUET``."""
    endings = [_ending(file.path) for file in files]
    of_text = any(ending in TEXT for ending in endings)
    for index, (file, ending) in enumerate(zip(files, endings, strict=True)):
        if ending in PARQUET or (place.is_dir() and not of_text):
            endings[index] = PARQUET[0]
        elif ending not in TEXT:
            known = ", ".join(sorted((*TEXT, *PARQUET)))
            what = f"unknown format; expected a name that ends in {known}"
            raise UserError(f"{file.path}: {what}")
    return list(zip(files, endings, strict=True))


def _ending(path: Path) -> str:
    endings = [ending.lower() for ending in path.suffixes]
    return next((e for e in reversed(endings) if e not in COMPRESSIONS), "")


def _refuse_twice(files: list[RawFile]) -> None:
    seen: dict[Path, RawFile] = {}
    for file in files:
        other = seen.setdefault(file.path.resolve(), file)
        if other is not file:
            also = "" if other.path == file.path else f", also as {other.path}"
            raise UserError(f"{file.path}: given twice{also}; its clicks would be, too")
