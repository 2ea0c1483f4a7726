"""Times of calls that are queued on a device without waiting in between."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np


def queued(call: Callable[[], Any], rounds: int, each: int) -> list[float]:
    """Seconds of a call, where several are queued without waiting in between.

    A device works off its queue in order, so a round ends with the last result. The
    first call, which may compile, is not counted.

    Args:
      call: starts work on the device and returns its result.
      rounds: how often to measure.
      each: calls of a round.

    Returns:
      [rounds] seconds of one call.
    """
    jax.block_until_ready(call())
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        result = None
        for _ in range(each):
            result = call()
        jax.block_until_ready(result)
        times.append((time.perf_counter() - start) / each)
    return times


def summary(times: list[float]) -> dict[str, float]:
    """Median, 5th and 95th percentile of some seconds, and how many there are."""
    low, median, high = np.quantile(times, (0.05, 0.5, 0.95))
    return {
        "median": float(median),
        "low": float(low),
        "high": float(high),
        "repeats": len(times),
    }
