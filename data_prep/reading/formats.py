"""Which reader opens which log: begin here to add a format."""

import functools
from collections.abc import Callable
from pathlib import Path

from data_prep.reading.click_log import ClickLog, ReadSizes
from data_prep.reading.columns import LogColumns
from data_prep.reading.csv_log import CsvLog
from data_prep.reading.json_log import JsonLog
from data_prep.reading.otto_jsonl import OttoLog
from data_prep.reading.parquet_log import ParquetLog
from data_prep.reading.public_csv import DigineticaLog, YoochooseLog
from data_prep.reading.public_log import PublicLog
from data_prep.reading.text_files import COMPRESSIONS
from tron_jax.errors import UserError

# Logs with any columns, by how a name ends (before the ending of a compression).
BY_ENDING: dict[str, Callable[[Path, LogColumns, ReadSizes], ClickLog]] = {
    ".csv": functools.partial(CsvLog, delimiter=","),
    ".tsv": functools.partial(CsvLog, delimiter="\t"),
    ".jsonl": JsonLog,
    ".ndjson": JsonLog,
    ".json": JsonLog,
    ".parquet": ParquetLog,
    ".pq": ParquetLog,
}
FOLDER = ".parquet"  # what the files of a folder are

# The original files of public data sets, whose columns are known.
PUBLIC: dict[str, Callable[[Path, ReadSizes], PublicLog]] = {
    "diginetica": DigineticaLog,
    "yoochoose": YoochooseLog,
    "otto": OttoLog,
}


def open_log(path: Path, columns: LogColumns, sizes: ReadSizes) -> ClickLog:
    """Opens a log with any columns, of which only the beginning is read.

    Args:
      path: a file whose name ends as in ``BY_ENDING``, compressed or not where it is
        text; or a folder of Parquet files, partitioned or not.
      columns: which columns to read.
      sizes: how much to read at once.

    Raises:
      UserError: where there is no such file, format or column.
    """
    if not path.exists():
        raise UserError(f"{path}: no such file or folder")
    endings = [ending.lower() for ending in path.suffixes]
    ending = next((e for e in reversed(endings) if e not in COMPRESSIONS), "")
    if path.is_dir():
        ending = FOLDER
    if ending not in BY_ENDING:
        known = ", ".join(sorted(BY_ENDING))
        raise UserError(f"{path}: unknown format; expected a name that ends in {known}")
    return BY_ENDING[ending](path, columns, sizes)
