"""Counts what ran in traced steps: how many kernels, how long, with which gaps."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from experiments.benchmarks.trace import Op


class Ran(NamedTuple):
    """What ran between the first and the last operation of a stretch of time.

    Attributes:
      count: operations.
      busy: seconds in which any ran.
      gaps: seconds in which none did.
    """

    count: int
    busy: float
    gaps: float


def ran(ops: list[Op]) -> Ran:
    """Counts operations, given in order of start; those that overlap count once."""
    if not ops:
        return Ran(0, 0.0, 0.0)
    busy, until = 0.0, ops[0].start
    for op in ops:
        busy += max(0.0, op.end - max(op.start, until))
        until = max(until, op.end)
    return Ran(len(ops), busy / 1e9, (until - ops[0].start - busy) / 1e9)


def in_windows(ops: list[Op], windows: Iterable[Op]) -> list[list[Op]]:
    """The operations that begin in each window, all in order of start."""
    starts = np.array([op.start for op in ops])
    found = []
    for window in windows:
        first, last = np.searchsorted(starts, (window.start, window.end))
        found.append(ops[first:last])
    return found


def longest(
    ops: list[Op], steps: int, parts: dict[str, str], most: int
) -> list[dict[str, Any]]:
    """The operations that take the most time in all.

    Args:
      ops: of some steps.
      steps: how many.
      parts: {operation: part}.
      most: how many to return.

    Returns:
      op, kernel (one of its names), part (None if it has none), count and seconds a
      step; by falling time. Kernels that are of no known operation are told apart.
    """
    found: dict[str, dict[str, Any]] = {}
    for op in ops:
        row = found.setdefault(
            op.name if op.name in parts else f"{op.name} {op.kernel}",
            {
                "op": op.name,
                "kernel": op.kernel,
                "part": parts.get(op.name),
                "count": 0.0,
                "seconds": 0.0,
            },
        )
        row["count"] += 1 / steps
        row["seconds"] += (op.end - op.start) / 1e9 / steps
    return sorted(found.values(), key=lambda row: -row["seconds"])[:most]
