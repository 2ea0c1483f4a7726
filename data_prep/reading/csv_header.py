"""The header of a CSV file: the names of its columns, and what stands between."""

import csv
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from data_prep.reading.columns import LogColumns
from tron_jax.errors import UserError

DELIMITERS = (",", ";", "\t", "|")
_SPELLED = {"tab": "\t", "\\t": "\t"}
_SEP = re.compile(r'"?sep=(.)"?', re.IGNORECASE)  # as Excel begins a file


class CsvForm(NamedTuple):
    """How a log of CSV is written, as far as that does not show.

    delimiter: None where the header shows it; quoted_newlines: whether what is within
    quotes may hold line breaks, so that a row is more than a line.
    """

    delimiter: str | None = None
    quoted_newlines: bool = False


class Header(NamedTuple):
    """The header of a file.

    lines: so many it takes; padded: whether there are blanks around names, so that
    those around ids mean nothing either.
    """

    names: list[str]
    delimiter: str
    lines: int
    padded: bool


def read_delimiter(given: str) -> str:
    """Returns the sign that ``--delimiter`` gives; UserError where it gives none."""
    sign = _SPELLED.get(given, given)
    if len(sign) != 1 or not sign.isascii() or sign.isalnum() or sign in '"\r\n\0':
        raise UserError(f"--delimiter={given}: expected one sign, such as ; or tab")
    return sign


def read_header(
    path: Path,
    head: str,
    columns: LogColumns,
    folders: Iterable[str],
    form: CsvForm,
    usual: str,
) -> Header:
    """Finds the delimiter by which the header has the needed columns.

    Args:
      path: the file, for messages.
      head: its first lines.
      columns: the needed ones.
      folders: columns that the file's folders say, where its header does not.
      form: how the file is written, as far as that is known.
      usual: the delimiter of such files, which is tried first.

    Raises:
      UserError: where a column is missing or there twice.
    """
    first, _, rest = head.partition("\n")
    stated, number = _SEP.fullmatch(first.strip()), 1
    if stated is not None:
        first, _, rest = rest.partition("\n")
        usual, number = stated[1], 2
    inner = _lines_within(path, first, rest, number) if form.quoted_newlines else []
    lines = number + len(inner)
    line = "\n".join([first, *inner]).rstrip("\r")
    signs = (usual, *DELIMITERS) if form.delimiter is None else (form.delimiter,)
    for sign in signs:
        exact = _names(path, line, sign, number)
        for padded, names in ((False, exact), (True, [n.strip() for n in exact])):
            if columns.are_in(_with_folders(names, folders)):
                return Header(names, sign, lines, padded)
    names = _names(path, line, max(signs, key=line.count), number)
    columns.find(path, _with_folders([name.strip() for name in names], folders))
    raise AssertionError("columns that are missing are there")


def _with_folders(names: list[str], folders: Iterable[str]) -> list[str]:
    return [*names, *(name for name in folders if name not in names)]


def _lines_within(path: Path, first: str, rest: str, number: int) -> list[str]:
    """Returns the lines below a header's first one that its quotes make part of it."""
    lines, quotes = [], first.count('"')
    for line in rest.split("\n"):
        if quotes % 2 == 0:
            return lines
        lines.append(line)
        quotes += line.count('"')
    if quotes % 2:
        raise UserError(f"{path}: row {number}: a quote in the header is open")
    return lines


def _names(path: Path, line: str, delimiter: str, number: int) -> list[str]:
    if "\r" in line.replace("\r\n", "\n"):
        what = "a bare CR; expected lines that end in LF"
        raise UserError(f"{path}: row {number}: {what}")
    try:
        return next(csv.reader([line], delimiter=delimiter), [])
    except csv.Error as error:
        what = f"no header of a CSV file: {error}"
        raise UserError(f"{path}: row {number}: {what}") from error
