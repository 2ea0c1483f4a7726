"""Is a difference real? A bootstrap by session, noise of training, Student's t, Holm.

What a metric would be on other sessions of the same kind is asked of a bootstrap that
draws whole sessions, since clicks of one session are not independent. What it would be
of another seed is asked of the runs' spread. Both variances add up.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from experiments.comparing.student_t import critical_value, two_sided_p

REPLICATES = 10_000
MOST_GROUPS = 20_000
_SEED = 20_230_918  # of every draw here: the same runs always give the same interval
_BLOCK = 200  # replicates whose counts are held at a time: 32 MB


class TrainingNoise(NamedTuple):
    """What is known of a figure's change from seed to seed.

    Attributes:
      variance: of one run, sample formula; 0 of a single run.
      runs: whose mean the figure is.
    """

    variance: float
    runs: int


class Estimate(NamedTuple):
    """A value with its 95 % interval.

    Attributes:
      value: itself.
      low: lower end.
      high: upper end.
      p: two-sided, of no difference from 0; None where training noise is not covered.
      covers_seeds: whether the interval covers training noise.
    """

    value: float
    low: float
    high: float
    p: float | None
    covers_seeds: bool


def groups_of_sessions(num_sessions: int, most: int = MOST_GROUPS) -> np.ndarray:
    """Which sessions are drawn together: each by itself, or random groups of many.

    The variance of a total is the same in expectation, and there is a limit to the time
    that a bootstrap takes.

    Args:
      num_sessions: how many there are.
      most: number of groups above which sessions are grouped.

    Returns:
      [sessions] number of the group, from 0 on; sizes differ by 1 at most.
    """
    if num_sessions <= most:
        return np.arange(num_sessions)
    shuffled = np.random.default_rng(_SEED).permutation(num_sessions)
    return shuffled % most


def replicate_totals(
    columns: np.ndarray, replicates: int = REPLICATES, seed: int = _SEED
) -> np.ndarray:
    """Totals over groups of sessions that are drawn with replacement, again and again.

    Each replicate draws as many groups as there are, the same for all columns, so that
    replicates of two columns are paired. Equal columns get equal totals, to the bit.

    Args:
      columns: [groups, columns] of what is added up.
      replicates: how many times to draw.
      seed: of the draws.

    Returns:
      [replicates, columns] totals.

    Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 8.
    """
    # A matrix product may add up two equal columns in different order.
    numbers: dict[bytes, int] = {}
    number = [numbers.setdefault(c.tobytes(), len(numbers)) for c in columns.T]
    distinct = columns[:, [number.index(n) for n in range(len(numbers))]]
    distinct = np.ascontiguousarray(distinct, np.float64)
    num_groups = len(columns)
    draw = np.random.default_rng(seed)
    totals = np.empty((replicates, distinct.shape[1]))
    counts = np.empty((min(_BLOCK, replicates), num_groups))
    for start in range(0, replicates, _BLOCK):
        block = counts[: min(_BLOCK, replicates - start)]
        for row in block:
            drawn = draw.integers(num_groups, size=num_groups)
            row[:] = np.bincount(drawn, minlength=num_groups)
        totals[start : start + len(block)] = block @ distinct
    return totals[:, number]


def estimate(
    value: float, session_variance: float, noises: Sequence[TrainingNoise]
) -> Estimate:
    """A 95 % interval of what varies with the sessions and with the seeds.

    The variance is that of the sessions' draw plus that of each mean over seeds; the
    degrees of freedom are Welch and Satterthwaite's, those of the sessions infinite.
    They are taken from what so few runs show, so p is below .05 in more than 5 % of
    comparisons without a difference: with 2, 3, 4 runs a side in up to 6.5, 5.2, 5.0 %
    where both sides have the same training noise, and in up to 12.8, 7.7, 6.5 % where
    one side has none and the other six times the sessions' standard error (simulated).

    Args:
      value: a figure, or a difference of two.
      session_variance: of the value, from the bootstrap.
      noises: of the means over seeds that the value is made of.

    Returns:
      The interval; where one of the means is of a single run, it covers the sessions
      alone and has no p.

    Source: Welch, Biometrika 1947; Satterthwaite, Biometrics Bulletin 1946.
    """
    covered = all(noise.runs > 1 for noise in noises)
    variance, degrees = session_variance, math.inf
    if covered:
        parts = [(noise.variance / noise.runs, noise.runs - 1) for noise in noises]
        variance += sum(part for part, _ in parts)
        if spread := sum(part**2 / freedom for part, freedom in parts):
            degrees = variance**2 / spread
    error = math.sqrt(variance)
    half = critical_value(degrees) * error if error else 0.0
    p = None
    if covered:
        p = two_sided_p(value / error, degrees) if error else float(value == 0)
    return Estimate(value, value - half, value + half, p, covered)


def of_means(
    values: Sequence[np.ndarray], session: np.ndarray, num_sessions: int
) -> list[Estimate]:
    """Means over predictions, with 95 % intervals of the draw of their sessions.

    Args:
      values: each [predictions], of the same predictions.
      session: [predictions] number of the session that each is of.
      num_sessions: how many sessions were drawn, some perhaps without predictions.

    Returns:
      A mean for each; the intervals cover no training noise.
    """
    group = groups_of_sessions(num_sessions)[session]
    columns = [np.bincount(group), *(np.bincount(group, value) for value in values)]
    predictions, *totals = replicate_totals(np.stack(columns, axis=1)).T
    alone = [TrainingNoise(0.0, 1)]
    return [
        estimate(float(np.mean(v)), float(np.var(t / predictions, ddof=1)), alone)
        for v, t in zip(values, totals, strict=True)
    ]


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusts p-values so that one false finding in all of them is as rare as in one.

    Args:
      p_values: of a family of tests, in any order.

    Returns:
      The adjusted ones in the same order.

    Source: Holm, Scandinavian Journal of Statistics 1979.
    """
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    for left, index in zip(range(len(p_values), 0, -1), order, strict=True):
        highest = max(highest, min(1.0, left * p_values[index]))
        adjusted[index] = highest
    return adjusted
