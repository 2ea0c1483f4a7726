"""Seconds of calls, and the ratio of two things that were timed in turn."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np


def timed(function: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds until the result of a call is there, and the result."""
    start = time.perf_counter()
    result = jax.block_until_ready(function())
    return time.perf_counter() - start, result


def ratio(these: list[float], those: list[float]) -> dict[str, Any]:
    """The ratio of two medians, with a bootstrap interval.

    A shared machine makes times of different minutes incomparable, so both are
    measured in turn, and resampled in pairs.

    Args:
      these: [n] seconds.
      those: [n] seconds, each measured right after its neighbour in ``these``.

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


def beside_floor(ours: list[float], floor: list[float]) -> dict[str, Any]:
    """The figures of a thing that was timed in turn with its floor.

    Args:
      ours: [n] seconds.
      floor: [n] seconds.

    Returns:
      seconds, floor_seconds (medians), what ``ratio`` returns, repeats, and the samples
      that all of it is of.
    """
    return {
        "seconds": float(np.median(ours)),
        "floor_seconds": float(np.median(floor)),
        **ratio(ours, floor),
        "repeats": len(ours),
        "samples": ours,
        "floor_samples": floor,
    }


def line(what: str, seconds: float) -> str:
    """One thing and its time."""
    return f"{what:<48}{1e3 * seconds:>10.1f} ms"


def ratio_line(report: dict[str, Any]) -> str:
    """What ``ratio`` found."""
    low, high = report["ratio_interval"]
    name = "ratio (90 % interval)"
    return f"{name:<48}{report['ratio']:>10.2f}  {low:.2f}..{high:.2f}"
