"""Where a run's figures are written: ``metrics.jsonl``, one JSON object a line.

All lines of a run, of training and of evaluation, pass through ``MetricsWriter.write``:
whoever wants them elsewhere too (as ``tensorboard.py`` does, or a tracking service)
passes a ``Sink``.
"""

import contextlib
import errno
import json
import math
import numbers
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, Self

from tron_jax.errors import UserError
from tron_jax.files import flush, replacing

FIRST_KEYS = ("step", "epoch", "time")


class Sink(Protocol):
    """Who gets each line once it is in the file; a fault of his must not be raised."""

    def write(self, line: Mapping[str, Any]) -> None:
        """Takes a line, all of plain Python."""

    def close(self) -> None:
        """Knows that no more come."""


class MetricsWriter:
    """Appends lines to the file of a run; what is written is in it at once."""

    def __init__(self, path: str | os.PathLike[str], sinks: Sequence[Sink] = ()):
        """Opens the file for appending, or makes it.

        Args:
          path: of the file.
          sinks: get each line as well, and are closed with the file.
        """
        self.path = Path(path)
        self._sinks = sinks
        try:
            self._file = self.path.open("ab", buffering=0)
        except OSError as error:
            raise self._unwritable(error) from error

    def __enter__(self) -> Self:
        """Returns itself."""
        return self

    def __exit__(self, kind: object, value: object, traceback: object) -> None:
        """Closes the file."""
        self.close()

    def write(self, record: Mapping[str, Any]) -> None:
        """Appends a line: step, epoch and time first, the rest in the order given.

        Args:
          record: values that JSON holds, or scalars of NumPy; a number that is not
            finite is a fault of the caller.
        """
        rest = [key for key in record if key not in FIRST_KEYS]
        line = {key: _plain(key, record[key]) for key in (*FIRST_KEYS, *rest)}
        text = (json.dumps(line, allow_nan=False) + "\n").encode()
        before = os.fstat(self._file.fileno()).st_size
        try:
            written = self._file.write(text)
            if written != len(text):  # a full disk takes what still fits
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            with contextlib.suppress(OSError):
                self._file.truncate(before)
            raise self._unwritable(error) from error
        for sink in self._sinks:
            sink.write(line)

    def sync(self) -> None:
        """Forces the lines onto the disk, before a checkpoint relies on them."""
        try:
            flush(self._file.fileno())
        except OSError as error:
            raise self._unwritable(error) from error

    def close(self) -> None:
        """Closes the file and the sinks."""
        self._file.close()
        for sink in self._sinks:
            sink.close()

    def _unwritable(self, error: OSError) -> UserError:
        return UserError(f"cannot write {self.path}: {error.strerror}")


def _plain(key: str, value: Any) -> Any:
    """Returns a number as Python's own, so that JSON spells it one way."""
    if isinstance(value, str | bool | None):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        if not math.isfinite(value):
            raise ValueError(f"{key} is {value}, which JSON cannot hold")
        return float(value)
    raise TypeError(f"{key} is a {type(value).__name__}, not a number or string")


def read(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Returns the lines of a metrics file; a last one cut short is left out.

    Args:
      path: what a ``MetricsWriter`` wrote, perhaps while it was killed.

    Raises:
      UserError: if the file is missing, or a line is not one of ours.
    """
    try:
        lines = Path(path).read_bytes().split(b"\n")
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
            _check(record)
        except (ValueError, TypeError, KeyError) as error:
            if number == len(lines):
                break  # torn, or the nothing after the last newline
            raise UserError(
                f"{path}, line {number}: not a line of metrics; remove or repair it"
            ) from error
        records.append(record)
    return records


def _check(record: Any) -> None:
    """Raises unless a line says of which state it is."""
    if type(record["step"]) is not int:
        raise TypeError("step is no integer")
    for key, value in record.items():
        if isinstance(value, numbers.Real) and not math.isfinite(value):
            raise ValueError(f"{key} is not finite")
    for key in FIRST_KEYS:
        if not isinstance(record[key], numbers.Real):
            raise TypeError(f"{key} is no number")


def truncate_after(path: str | os.PathLike[str], step: int) -> int:
    """Drops the lines beyond a step, and a last one cut short, at once or not at all.

    A run that resumes from the checkpoint of ``step`` will write them again.

    Args:
      path: a metrics file, which need not exist.
      step: lines of this step stay; -1 drops all.

    Returns:
      The number of whole lines dropped.
    """
    path = Path(path)
    if not path.exists():
        return 0
    records = read(path)
    kept = [record for record in records if record["step"] <= step]
    content = "".join(json.dumps(record) + "\n" for record in kept).encode()
    if content == path.read_bytes():
        return 0
    try:
        with replacing(path) as new:
            new.write_bytes(content)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error
    return len(records) - len(kept)
