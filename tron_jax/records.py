"""What a run tells: lines of ``metrics.jsonl``, and a progress bar on the terminal."""

import collections
import contextlib
import errno
import json
import math
import numbers
import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self, TextIO

from tron_jax.errors import UserError
from tron_jax.storage.files import replacing

FIRST_KEYS = ("step", "epoch", "time")
RATE_WINDOW = 30.0  # seconds


class MetricsWriter:
    """Appends one JSON object a line; what is written is in the file at once."""

    def __init__(self, path: str | os.PathLike[str]):
        """Opens the file for appending, or makes it."""
        self.path = Path(path)
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

    def sync(self) -> None:
        """Puts the lines on disk, as must be before a checkpoint stands for them."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

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
            if not isinstance(record["step"], int):
                raise TypeError("step is no integer")
        except (ValueError, TypeError, KeyError) as error:
            if number == len(lines):
                break  # torn, or the nothing after the last newline
            raise UserError(f"{path}, line {number}: not a line of metrics") from error
        records.append(record)
    return records


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


class Progress:
    """One line on the terminal that says how far a pass is; silent elsewhere.

    ``training  epoch 3   43%  80,400/186,670 sessions  1,210/s  1:28 left  loss 6.21``
    """

    def __init__(
        self,
        label: str,
        total: int,
        *,
        unit: str,
        done: int = 0,
        every: float = 0.2,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        """Starts the clock.

        Args:
          label: what is going on.
          total: how many units there are.
          unit: the plural that is counted, such as "sessions".
          done: units that were done before the clock started, as in a resumed epoch.
          every: seconds between two drawings at least.
          stream: stderr, unless a test says otherwise.
          clock: seconds that only rise.
        """
        self.label = label
        self.total = total
        self._unit = unit
        self._every = every
        self._stream = sys.stderr if stream is None else stream
        self._shown = self._stream.isatty()
        self._clock = clock
        # (time, units done) of the last RATE_WINDOW seconds, oldest first.
        self._past = collections.deque([(clock(), done)])
        self._drawn = -math.inf

    def __enter__(self) -> Self:
        """Returns itself."""
        return self

    def __exit__(self, kind: object, value: object, traceback: object) -> None:
        """Wipes the line."""
        self.clear()

    def update(self, done: int, **values: float) -> None:
        """Redraws the line, if it is time.

        Args:
          done: units done by now, of the total.
          **values: what else to show, such as ``loss=6.21``.
        """
        now = self._clock()
        if not self._shown or (now - self._drawn < self._every and done < self.total):
            return
        self._drawn = now
        while len(self._past) > 1 and now - self._past[1][0] > RATE_WINDOW:
            self._past.popleft()
        self._past.append((now, done))
        width = shutil.get_terminal_size().columns - 1
        line = self._line(done, values)[:width]
        self._draw(f"\r{line}\x1b[K")

    def clear(self) -> None:
        """Wipes the line, so that something else can be printed there."""
        if self._shown:
            self._draw("\r\x1b[K")
        self._drawn = -math.inf

    def _draw(self, text: str) -> None:
        """Writes to the terminal; one that is gone must not end the run."""
        try:
            self._stream.write(text)
            self._stream.flush()
        except OSError:
            self._shown = False

    def _line(self, done: int, values: Mapping[str, float]) -> str:
        (start, before), (now, _) = self._past[0], self._past[-1]
        rate = (done - before) / (now - start) if now > start else 0.0
        parts = [
            self.label,
            f"{done / max(self.total, 1):4.0%}",
            f"{done:,}/{self.total:,} {self._unit}",
        ]
        if rate > 0:
            left = _clock_time((self.total - done) / rate)
            parts += [f"{_short(rate)}/s", f"{left} left"]
        parts += [f"{name} {value:.4g}" for name, value in values.items()]
        return "  ".join(parts)


def _short(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"


def _clock_time(seconds: float) -> str:
    """Returns '0:42', '12:05' or '3:04:05'."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    tail = f"{minutes:02}:{seconds:02}"
    return f"{hours}:{tail}" if hours else tail.removeprefix("0")
