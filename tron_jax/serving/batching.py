"""Gathers what arrives within a moment, so that one thread works on it together."""

from __future__ import annotations

import collections
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple


class Full(Exception):
    """There is no room in the queue."""


class Late(Exception):
    """Nobody waits any more for what stood in the queue."""


class _Job(NamedTuple):
    value: Any
    arrived: float
    expires: float
    future: Future


class Batcher:
    """A bounded queue, and the thread that works on it."""

    def __init__(
        self,
        work: Callable[[list[Any]], Sequence[Any]],
        *,
        most: int,
        room: int,
        wait: float,
        clock: Callable[[], float] = time.monotonic,
    ):
        """Starts the thread.

        Args:
          work: from some values to a result of each, in their order; is called by one
            thread only.
          most: values that are worked on together.
          room: values that may wait.
          wait: seconds for which the first of a batch waits for others at most. What
            has waited for as long already, as while the batch before was worked on, is
            taken at once.
          clock: seconds that only rise.
        """
        self._work, self._most, self._room, self._wait = work, most, room, wait
        self._clock = clock
        self._jobs: collections.deque[_Job] = collections.deque()
        self._changed = threading.Condition()
        self._closed = False
        self._begun: float | None = None
        self._thread = threading.Thread(target=self._run, name="batches", daemon=True)
        self._thread.start()

    def __len__(self) -> int:
        """How many values wait."""
        return len(self._jobs)

    def stuck(self, longest: float) -> bool:
        """Whether the thread has ended, or has been on one batch for too long.

        Args:
          longest: seconds.
        """
        begun = self._begun
        late = begun is not None and self._clock() - begun > longest
        return late or not self._thread.is_alive()

    def submit(self, values: Sequence[Any], patience: float) -> list[Future]:
        """Adds values, all of them or none.

        Args:
          values: for ``work``.
          patience: seconds after which nobody waits any more.

        Returns:
          A future of each result. It fails with ``Late``, or with what ``work`` raised.

        Raises:
          Full: if there is no room for all, or the batcher is closed.
        """
        now = self._clock()
        jobs = [_Job(value, now, now + patience, Future()) for value in values]
        with self._changed:
            if self._closed or len(self._jobs) + len(jobs) > self._room:
                raise Full
            self._jobs.extend(jobs)
            self._changed.notify()
        return [job.future for job in jobs]

    def close(self) -> None:
        """Takes no more, and returns when what waits is done."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while self._work_once():
            pass  # and holds nothing of a batch that is done

    def _work_once(self) -> bool:
        """Works on the next batch; False when there is none any more."""
        jobs = self._next()
        if jobs is None:
            return False
        jobs = [job for job in jobs if job.future.set_running_or_notify_cancel()]
        if not jobs:
            return True
        self._begun = self._clock()
        try:
            results = self._work([job.value for job in jobs])
        except Exception as error:
            for job in jobs:
                job.future.set_exception(error)
        else:
            for job, result in zip(jobs, results, strict=True):
                job.future.set_result(result)
        finally:
            self._begun = None
        return True

    def _next(self) -> list[_Job] | None:
        """The next batch; None when closed and empty."""
        with self._changed:
            while not self._jobs:
                if self._closed:
                    return None
                self._changed.wait()
            until = self._jobs[0].arrived + self._wait
            while len(self._jobs) < self._most and not self._closed:
                left = until - self._clock()
                if left <= 0:
                    break
                self._changed.wait(left)
            count = min(self._most, len(self._jobs))
            jobs = [self._jobs.popleft() for _ in range(count)]
        now = self._clock()
        for job in jobs:
            if job.expires < now and job.future.set_running_or_notify_cancel():
                job.future.set_exception(Late())
        return [job for job in jobs if job.expires >= now]
