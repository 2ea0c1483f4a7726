"""The files of a raw log: one, those of a folder, or those that a pattern matches."""

import glob
import os
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tron_jax.errors import UserError

_NO_VALUE = "__HIVE_DEFAULT_PARTITION__"


class RawFile(NamedTuple):
    """A file of a log, and its name from the folder or pattern on that it is of."""

    path: Path
    name: str


def list_files(place: Path) -> list[RawFile]:
    """Lists the files of a log in raw order, that of their paths.

    Names that begin with . or _ are none, but for partitions by such a key.

    Args:
      place: a file, a folder, or a pattern with ``*``, ``?``, ``[`` or ``**``.

    Raises:
      UserError: where there is none, or what is there cannot be read twice.
    """
    if place.is_file():
        return [RawFile(place, place.name)]
    if place.exists() and not place.is_dir():
        what = "a pipe or a device, which cannot be read twice"
        raise UserError(f"{place}: {what}; expected a file or a folder")
    pattern = not place.exists()
    if pattern and not glob.has_magic(str(place)):
        raise UserError(f"{place}: no such file or folder")
    try:
        found = sorted(_matching(place) if pattern else _walk(place, frozenset()))
    except OSError as error:
        why = os.strerror(error.errno or 0)
        raise UserError(f"{place}: cannot be read: {why}") from error
    if not found:
        what = "the folder holds no Parquet file, CSV or JSON lines"
        raise UserError(f"{place}: {'no file matches' if pattern else what}")
    top = _literal(place) if pattern else place
    return [
        RawFile(Path(file), Path(file).relative_to(top.parent).as_posix())
        for file in found
    ]


def _literal(pattern: Path) -> Path:
    """Returns the folder above the first wildcard."""
    parts = pattern.parts
    first = next(n for n, part in enumerate(parts) if glob.has_magic(part))
    return Path(*parts[:first])


def _matching(pattern: Path) -> Iterator[str]:
    # Normalised, as of a folder; each once, as ** matches files and what they lie in.
    files: set[str] = set()
    named = frozenset(pattern.parts)
    for match in glob.iglob(str(pattern), recursive=True):
        path = Path(match)
        if any(_is_hidden(part) for part in path.parts if part not in named):
            continue
        if path.is_dir():
            files.update(_walk(path, frozenset()))
        else:
            files.add(str(path))
    yield from files


def _walk(folder: Path, above: frozenset[str]) -> Iterator[str]:
    """Yields the files below a folder, whose real path is one of ``above`` if it loops.

    What begins with . or _ is none, but for a partition by a key with such a name.
    """
    real = os.path.realpath(folder)
    if real in above:
        raise UserError(f"{folder}: a link to a folder that it lies in")
    with os.scandir(folder) as entries:
        listed = list(entries)
    for entry in listed:
        if _is_hidden(entry.name):
            continue
        if entry.is_dir():
            yield from _walk(folder / entry.name, above | {real})
        elif not os.path.exists(entry.path):
            raise UserError(f"{entry.path}: a link to a file that is not there")
        else:
            yield str(folder / entry.name)


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or (name.startswith("_") and "=" not in name)


def partition_of(path: Path) -> dict[str, str | None]:
    """Reads ``key=value`` off the names of the folders that a file lies in."""
    found: dict[str, str | None] = {}
    for folder in path.parts[:-1]:
        key, equals, value = folder.partition("=")
        if equals:
            value = _unquoted(value)
            found[_unquoted(key)] = None if value == _NO_VALUE else value
    return found


def _unquoted(text: str) -> str:
    """Replaces %20 and the like; text that is then no UTF-8 stays as it is written."""
    try:
        return urllib.parse.unquote(text, errors="strict")
    except UnicodeDecodeError:
        return text
