"""What a rank is worth: one function a metric, listed in ``METRICS``.

To add a metric, write its function and its line in ``METRICS``. Printed tables, plots,
``metrics.jsonl`` and ``evaluation.json`` hold it as soon as the config field
``eval.metrics`` names it. How values become one number (a mean over events, or of
batches' means) is a matter of the protocol: see ``protocols.py``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

# (ranks [events], 1 = the best; cut-off) -> values [events] float64
Metric = Callable[[np.ndarray, int], np.ndarray]


def recall(ranks: np.ndarray, cutoff: int) -> np.ndarray:
    """1 where the label is among the first ``cutoff`` items, else 0.

    With one relevant item an event this is the hit rate too.

    Args:
      ranks: [events] ranks of the labels, 1 = the best.
      cutoff: length of the recommendation list, in items.

    Returns:
      [events] float64.

    Source: paper §3.
    """
    return (ranks <= cutoff).astype(np.float64)


def mrr(ranks: np.ndarray, cutoff: int) -> np.ndarray:
    """The reciprocal rank, 0 where the label is not among the first ``cutoff`` items.

    Args:
      ranks: [events] ranks of the labels, 1 = the best.
      cutoff: length of the recommendation list, in items.

    Returns:
      [events] float64.

    Source: paper §3.
    """
    return np.where(ranks <= cutoff, 1.0 / ranks, 0.0)


def ndcg(ranks: np.ndarray, cutoff: int) -> np.ndarray:
    """The normalised discounted cumulative gain, with the label alone relevant.

    The best list has its one relevant item in front, for a gain of 1, so that
    dividing by the best list's gain changes nothing.

    Args:
      ranks: [events] ranks of the labels, 1 = the best.
      cutoff: length of the recommendation list, in items.

    Returns:
      [events] float64: 1 / log2(1 + rank) within the list, else 0.

    Source: Järvelin and Kekäläinen, ACM TOIS 2002, with binary relevance.
    """
    return np.where(ranks <= cutoff, 1.0 / np.log2(1.0 + ranks), 0.0)


# By name, in lower case.
METRICS: dict[str, Metric] = {"recall": recall, "mrr": mrr, "ndcg": ndcg}

# Other names under which a user may ask for a metric.
OTHER_NAMES = {"hitrate": "recall"}

# What the best checkpoint goes by, and so what each evaluation computes.
BEST_METRIC, BEST_CUTOFF = "recall", 20
BEST_KEY = f"{BEST_METRIC}@{BEST_CUTOFF}"


@dataclasses.dataclass(frozen=True)
class ReportedMetrics:
    """Which metrics an evaluation reports, and at which lengths of list.

    Attributes:
      names: of ``METRICS``.
      cutoffs: in items, ascending.
    """

    names: tuple[str, ...]
    cutoffs: tuple[int, ...]

    @property
    def by_key(self) -> dict[str, tuple[Metric, int]]:
        """What to compute, by its key in ``metrics.jsonl``, such as ``recall@20``."""
        return {
            f"{name}@{cutoff}": (METRICS[name], cutoff)
            for name in self.names
            for cutoff in self.cutoffs
        }


def reported(names: Sequence[str], cutoffs: Sequence[int]) -> ReportedMetrics:
    """Reads a user's choice of metrics, and adds what the best checkpoint goes by.

    Args:
      names: of metrics, in any case; other names are understood, repeated ones dropped.
      cutoffs: in items, in any order.

    Returns:
      The metrics in the order asked for, with Recall (in front) and the cut-off 20
      where they were left out.

    Raises:
      KeyError: if there is no such metric.
    """
    canonical = [canonical_name(name) for name in names]
    if BEST_METRIC not in canonical:
        canonical.insert(0, BEST_METRIC)
    return ReportedMetrics(
        tuple(dict.fromkeys(canonical)), tuple(sorted({*cutoffs, BEST_CUTOFF}))
    )


def canonical_name(name: str) -> str:
    """The name in ``METRICS`` of what a user calls a metric.

    Raises:
      KeyError: if there is no such metric.
    """
    lower = name.lower()
    found = OTHER_NAMES.get(lower, lower)
    if found not in METRICS:
        known = ", ".join([*METRICS, *OTHER_NAMES])
        raise KeyError(f"no metric {name!r}; expected one of: {known}")
    return found


def title(key: str) -> str:
    """A key as people read it: ``Recall@20``, and short names as abbreviations."""
    name, _, cutoff = key.partition("@")
    return f"{name.upper() if len(name) <= 4 else name.capitalize()}@{cutoff}"
