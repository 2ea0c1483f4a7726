"""Recall and MRR from ranks: sums and counts, whose means the protocols define."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

Ties = Literal["standard", "conservative"]


class MetricSums(NamedTuple):
    """A metric before its mean, per batch.

    Attributes:
      sum: [batches] float64, sum over a batch's events.
      count: [batches] int64, number of those events.
    """

    sum: np.ndarray
    count: np.ndarray


def ranks_of(higher: np.ndarray, equal: np.ndarray, ties: Ties) -> np.ndarray:
    """Ranks of labels, 1 = the best.

    Args:
      higher: [events] number of other items that score higher than the label.
      equal: [events] number of other items that score as high.
      ties: ``standard`` puts the label before its equals, ``conservative`` behind them.

    Returns:
      [events] int64.
    """
    if ties not in ("standard", "conservative"):
        raise KeyError(f"ties {ties!r} is neither 'standard' nor 'conservative'")
    rank = 1 + higher.astype(np.int64)
    return rank + equal if ties == "conservative" else rank


def recall_at(
    ranks: np.ndarray, cutoff: int, batch: np.ndarray | None = None
) -> MetricSums:
    """Counts labels among the first ``cutoff`` items.

    Args:
      ranks: [events], 1 = the best.
      cutoff: length of the recommendation list.
      batch: [events] the batch of each event, from 0 on; None = all in one.

    Returns:
      MetricSums per batch.
    """
    return _totals((ranks <= cutoff).astype(np.float64), batch)


def mrr_at(
    ranks: np.ndarray, cutoff: int, batch: np.ndarray | None = None
) -> MetricSums:
    """Sums reciprocal ranks, 0 where the label is not among the first ``cutoff``.

    Args:
      ranks: [events], 1 = the best.
      cutoff: length of the recommendation list.
      batch: [events] the batch of each event, from 0 on; None = all in one.

    Returns:
      MetricSums per batch.
    """
    return _totals(np.where(ranks <= cutoff, 1.0 / ranks, 0.0), batch)


def mean_of_means(totals: MetricSums) -> float:
    """Mean over batches of the mean over events; one batch = the mean over events.

    Args:
      totals: per batch; batches without events are left out.

    Returns:
      The mean, NaN where there is no event at all.
    """
    filled = totals.count > 0
    if not filled.any():
        return float("nan")
    return float(np.mean(totals.sum[filled] / totals.count[filled]))


def _totals(values: np.ndarray, batch: np.ndarray | None) -> MetricSums:
    if batch is None:
        return MetricSums(values.sum(keepdims=True), np.array([len(values)]))
    return MetricSums(np.bincount(batch, values), np.bincount(batch))
