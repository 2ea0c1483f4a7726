"""Student's t distribution, which NumPy lacks."""

from __future__ import annotations

import math
from statistics import NormalDist

_NORMAL_FROM = 1e12  # degrees of freedom; to rounding, it is the normal distribution
_EXACT_UPTO = 2e4  # degrees of freedom; beyond, an expansion errs by less than 1e-11
_TINY = 1e-300


def two_sided_p(t: float, degrees: float) -> float:
    """The probability of a value at least as far from 0.

    Args:
      t: the statistic.
      degrees: of freedom, above 0, not necessarily whole; infinite for the normal
        distribution.

    Returns:
      Between 0 and 1, to an absolute error of 1e-11.
    """
    t = abs(t)
    if math.isinf(t):
        return 0.0
    if degrees > _EXACT_UPTO:
        return min(1.0, max(0.0, math.erfc(t / math.sqrt(2)) + _beyond(t, degrees)))
    # The tail is an incomplete beta function: Abramowitz and Stegun, 26.7.1, 26.5.27.
    squares = degrees + t * t
    return _incomplete_beta(degrees / squares, t * t / squares, degrees / 2, 0.5)


def critical_value(degrees: float, level: float = 0.95) -> float:
    """The value that is exceeded, on either side, with probability 1 - ``level``.

    Args:
      degrees: of freedom, at least 1; may be infinite.
      level: of the interval, at least 0.5.
    """
    t = NormalDist().inv_cdf((1 + level) / 2)
    if degrees >= _NORMAL_FROM:  # where two values of lgamma would cancel
        return t
    # Newton's method from below on a falling convex function never overshoots.
    for _ in range(100):
        step = (two_sided_p(t, degrees) - (1 - level)) / (2 * _density(t, degrees))
        t += step
        if abs(step) <= 1e-13 * t:
            break
    return t


def _density(t: float, degrees: float) -> float:
    half = degrees / 2
    log_factor = math.lgamma(half + 0.5) - math.lgamma(half)
    power = -(half + 0.5) * math.log1p(t * t / degrees)
    return math.exp(log_factor + power) / math.sqrt(math.pi * degrees)


def _beyond(t: float, degrees: float) -> float:
    """By how much both tails exceed the normal ones (Fisher, Metron 1925)."""
    density = math.exp(-t * t / 2) / math.sqrt(2 * math.pi)
    first = t * (t**2 + 1) / 4
    second = t * (3 * t**6 - 7 * t**4 - 5 * t**2 - 3) / 96
    return 2 * density * (first / degrees + second / degrees**2)


def _incomplete_beta(x: float, rest: float, a: float, b: float) -> float:
    """The regularised incomplete beta function, by its continued fraction.

    ``rest`` is 1 - x, of which little would be left near 1.

    Source: Abramowitz and Stegun, 26.5.8, evaluated by Lentz's method.
    """
    if not x or not rest:
        return float(not rest)
    if x > (a + 1) / (a + b + 2):  # where the fraction would converge slowly
        return 1 - _incomplete_beta(rest, x, b, a)
    log_factor = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    factor = math.exp(log_factor + a * math.log(x) + b * math.log(rest))
    return factor * _fraction(x, a, b) / a


def _fraction(x: float, a: float, b: float) -> float:
    c, d = 1.0, 1 / _not_zero(1 - (a + b) * x / (a + 1))
    value = d
    for m in range(1, 10_000):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        change = 1.0
        for term in (even, odd):
            c = _not_zero(1 + term / c)
            d = 1 / _not_zero(1 + term * d)
            change = c * d
            value *= change
        if abs(change - 1) < 1e-15:
            break
    return value


def _not_zero(x: float) -> float:
    return x if abs(x) > _TINY else _TINY
