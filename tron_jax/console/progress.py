"""A line on the terminal that says how far a program is, and nothing anywhere else.

Our own, since tqdm raises where stderr is missing or gone, which would end a run that
has lost its terminal, and leaves a thread running.
"""

from __future__ import annotations

import collections
import math
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from typing import Self, TextIO

from tron_jax.console.messages import are_muted

RATE_WINDOW = 30.0  # seconds


def of_training(epoch: float, loss: float | None) -> dict[str, float]:
    """What the line of a training run shows besides how many sessions are done.

    Args:
      epoch: passes over the sessions so far.
      loss: mean of the last line of the log; None before the first.

    Returns:
      Values by name, for ``Progress.update``.
    """
    return {"epoch": epoch} | ({} if loss is None else {"loss": loss})


class Progress:
    """One line on the terminal that says how far a pass is; silent elsewhere.

    ``training  epoch 3   43%  80,400/186,670 sessions  1,210/s  1:28 left  loss 6.21``
    """

    def __init__(
        self,
        label: str,
        total: int | None,
        *,
        unit: str,
        done: int = 0,
        interval: float = 0.2,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        """Starts the clock.

        Args:
          label: what is going on.
          total: how many units there are; None where that is not known yet, and then
            the label is all that is shown. It may be set later, and so may ``unit``.
          unit: the plural that is counted, such as "sessions".
          done: units that were done before the clock started, as in a resumed epoch.
          interval: seconds between two drawings at least.
          stream: stderr, unless a test says otherwise.
          clock: seconds that only rise.
        """
        self.label = label
        self.total = total
        self.unit = unit
        self._interval = interval
        self._stream = sys.stderr if stream is None else stream
        self._shown = _is_terminal(self._stream) and not are_muted()
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
        complete = self.total is not None and done >= self.total
        if not self._shown or (now - self._drawn < self._interval and not complete):
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
        except (OSError, ValueError):  # ValueError: closed
            self._shown = False

    def _line(self, done: int, values: Mapping[str, float]) -> str:
        parts = [self.label]
        if self.total is not None:
            parts += self._done_of(done, self.total)
        parts += [f"{name} {value:.4g}" for name, value in values.items()]
        return "  ".join(parts)

    def _done_of(self, done: int, total: int) -> list[str]:
        (start, before), (now, _) = self._past[0], self._past[-1]
        rate = (done - before) / (now - start) if now > start else 0.0
        parts = [f"{done / max(total, 1):4.0%}", f"{done:,}/{total:,} {self.unit}"]
        if rate > 0:
            parts += [f"{_short(rate)}/s", f"{clock_time((total - done) / rate)} left"]
        return parts


def _is_terminal(stream: TextIO | None) -> bool:
    """Whether somebody watches; a process may have no stderr, or a closed one."""
    return stream is not None and not stream.closed and stream.isatty()


def _short(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"


def clock_time(seconds: float) -> str:
    """Returns '0:42', '12:05' or '3:04:05'."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    tail = f"{minutes:02}:{seconds:02}"
    return f"{hours}:{tail}" if hours else tail.removeprefix("0")
