"""Times of calls, and the ratio of two things that were timed in turn."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np


def timed(function: Callable[[], Any]) -> tuple[float, Any]:
    """Calls a function; returns the seconds that it takes, and its result."""
    start = time.perf_counter()
    result = jax.block_until_ready(function())
    return time.perf_counter() - start, result


def ratio(these: list[float], those: list[float]) -> dict[str, Any]:
    """The ratio of two medians, with a bootstrap interval.

    On a shared machine, times of different minutes are incomparable, so both must be
    measured in turn; they are resampled in pairs.

    Args:
      these: [n] seconds.
      those: [n] seconds, each measured right after the same one of ``these``.

    Returns:
      ratio, and ratio_interval from the 5th to the 95th percentile.
    """
    pairs = np.array([these, those])
    draws = np.random.default_rng(0).integers(0, len(these), (2000, len(these)))
    ratios = np.divide(*np.median(pairs[:, draws], axis=2))
    return {
        "ratio": float(np.divide(*np.median(pairs, axis=1))),
        "ratio_interval": [float(q) for q in np.quantile(ratios, [0.05, 0.95])],
    }


def compare_with_floor(times: list[float], floor: list[float]) -> dict[str, Any]:
    """The figures of what was timed in turn with its floor.

    Args:
      times: [n] seconds.
      floor: [n] seconds.

    Returns:
      seconds, floor_seconds (medians), what ``ratio`` returns, repeats, and the samples
      behind them.
    """
    return {
        "seconds": float(np.median(times)),
        "floor_seconds": float(np.median(floor)),
        **ratio(times, floor),
        "repeats": len(times),
        "samples": times,
        "floor_samples": floor,
    }


def line(what: str, seconds: float) -> str:
    """A line of a table: a name and a time."""
    return f"{what:<48}{1e3 * seconds:>10.1f} ms"


def ratio_line(report: dict[str, Any]) -> str:
    """A line of a table: what ``ratio`` returned."""
    low, high = report["ratio_interval"]
    name = "ratio (90 % interval)"
    return f"{name:<48}{report['ratio']:>10.2f}  {low:.2f}..{high:.2f}"
