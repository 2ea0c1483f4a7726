"""What a server counts, as Prometheus reads it."""

from __future__ import annotations

import bisect
import collections
import os
import threading
from collections.abc import Mapping
from pathlib import Path

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
SIZES = (1, 2, 4, 8, 16, 32)


class Histogram:
    """Counts values by upper bounds."""

    def __init__(self, bounds: tuple[float, ...]):
        """Is empty."""
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def add(self, value: float) -> None:
        """Counts a value."""
        self._counts[bisect.bisect_left(self._bounds, value)] += 1
        self._sum += value

    def lines(self, name: str) -> list[str]:
        """The lines of a histogram of that name."""
        lines, total = [], 0
        for bound, count in zip((*self._bounds, "+Inf"), self._counts, strict=True):
            total += count
            lines.append(f'{name}_bucket{{le="{bound}"}} {total}')
        return [*lines, f"{name}_sum {self._sum:.9g}", f"{name}_count {total}"]


class Metrics:
    """The figures of a server; its threads may add to them."""

    def __init__(self) -> None:
        """Begins at zero."""
        self._lock = threading.Lock()
        self._requests: collections.Counter[tuple[str, int]] = collections.Counter()
        self._reloads: collections.Counter[str] = collections.Counter()
        self._seconds, self._batches = Histogram(SECONDS), Histogram(SIZES)

    def request(self, path: str, status: int, seconds: float) -> None:
        """Counts a request that was answered; seconds from its head to its answer."""
        with self._lock:
            self._requests[path, status] += 1
            if status == 200:
                self._seconds.add(seconds)

    def batch(self, sessions: int) -> None:
        """Counts sessions that were worked on together."""
        with self._lock:
            self._batches.add(sessions)

    def reload(self, outcome: str) -> None:
        """Counts a reload: ``done`` or ``failed``."""
        with self._lock:
            self._reloads[outcome] += 1

    def text(self, gauges: Mapping[str, float]) -> str:
        """All figures, and some of this very moment, in the text format 0.0.4."""
        with self._lock:
            lines = ["# TYPE tron_jax_requests_total counter"]
            lines += [
                f'tron_jax_requests_total{{path="{path}",status="{status}"}} {count}'
                for (path, status), count in sorted(self._requests.items())
            ]
            lines.append("# TYPE tron_jax_reloads_total counter")
            lines += [
                f'tron_jax_reloads_total{{outcome="{outcome}"}} {count}'
                for outcome, count in sorted(self._reloads.items())
            ]
            for name, histogram in (
                ("tron_jax_request_seconds", self._seconds),
                ("tron_jax_batch_sessions", self._batches),
            ):
                lines += [f"# TYPE {name} histogram", *histogram.lines(name)]
        for name, value in gauges.items():
            lines += [f"# TYPE tron_jax_{name} gauge", f"tron_jax_{name} {value:.15g}"]
        return "\n".join(lines) + "\n"


def resident_bytes() -> int:
    """Memory of this process just now; 0 where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
