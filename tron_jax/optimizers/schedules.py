"""Learning rates as functions of the update alone, so that sleeping rows know them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from tron_jax.optimizers.adagrad import Schedule

# Updates until a rate is constant, at most: the catch-up of sleeping rows has a table
# of them.
MOST_STEPS = 1_000_000


def _array(step: Any) -> Any:
    return np if isinstance(step, np.ndarray) else jnp


def warmup(step: Any, peak: float, steps: int) -> Any:
    """Learning rate of an update, counted from 0: a linear rise, then constant."""
    return peak * _array(step).minimum(1.0, (step + 1) / max(steps, 1))


# share of the way from the first update to the last -> share of the fall that is done
FALLS: dict[str, Callable[[Any], Any]] = {
    "step": lambda share: (share >= 1) * 1.0,
    "linear": lambda share: share,
    "cosine": lambda share: (1 - _array(share).cos(np.pi * share)) / 2,
}
SCHEDULES = ("constant", *FALLS)


def make_schedule(
    name: str, peak: float, *, warmup_steps: int, steps: int, end: float
) -> tuple[Schedule, int]:
    """Chooses the learning rate of a run.

    It is the product of a rise and of a fall, both of which begin at the first update,
    so that the peak is not reached where they overlap much. It is constant from update
    ``steps`` on: ``step`` falls all at once, at that update; ``linear`` by the same
    amount each update; ``cosine`` slowly at both ends.

    Args:
      name: one of ``SCHEDULES``.
      peak: the rate that it would rise to without a fall.
      warmup_steps: updates of the rise.
      steps: updates until the rate is constant; of ``constant`` it is the rise alone.
      end: share of the peak that it falls to.

    Returns:
      The rate of an update, counted from 0, and the update from which it is constant.

    Raises:
      KeyError: no schedule has the name; lists those that exist.
    """
    rise = functools.partial(warmup, peak=peak, steps=warmup_steps)
    if name == "constant":
        return rise, warmup_steps
    if name not in FALLS:
        raise KeyError(f"{name!r}; expected one of: {', '.join(SCHEDULES)}")
    fall = FALLS[name]

    def rate(step: Any) -> Any:
        share = _array(step).minimum(1.0, step / max(steps, 1))
        return rise(step) * (1 - (1 - end) * fall(share))

    return rate, max(warmup_steps, steps)
