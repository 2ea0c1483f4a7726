"""The two protocols of an evaluation, and what they make of its ranks.

| | ``paper``, comparable with Table 2 | ``exact``, what we believe |
|---|---|---|
| sessions | whole batches of 128 only, the last, partial one is left out | all |
| events | the session cut to its last clicks, as many as in training | all |
| ties | in the label's favour | against the label |
| mean | of the batches' means | over events |
| checkpoint | the best | the latest |

GRU4Rec's ``paper`` has slots instead of batches: it ends where one first finds no
session left, its mean is over events, and its ``exact`` sees the whole session.

Ties, means and checkpoints are set here, in ``PROTOCOLS``. Which events a protocol
predicts, and from which history, is laid out in ``histories.py``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from tron_jax.evaluation.metrics import ReportedMetrics
from tron_jax.evaluation.rank_file import Ranks

# (higher [events], equal [events]) -> ranks [events] int64, 1 = the best
TieRule = Callable[[np.ndarray, np.ndarray], np.ndarray]

PAPER_BATCH_SIZE = 128  # sessions that the published evaluation averages together


def standard(higher: np.ndarray, equal: np.ndarray) -> np.ndarray:
    """Ranks a label before the items that score as high: the published rule."""
    return 1 + higher.astype(np.int64)


def conservative(higher: np.ndarray, equal: np.ndarray) -> np.ndarray:
    """Ranks a label behind the items that score as high, so that ties gain nothing."""
    return 1 + higher.astype(np.int64) + equal


@dataclasses.dataclass(frozen=True)
class Protocol:
    """How ranks become figures, and of which checkpoint.

    Attributes:
      ties: from the numbers of items that score higher, and as high, to ranks.
      mean_of_batch_means: whether the mean of each batch of sessions counts once,
        however many events it has, instead of each event.
      checkpoint: the one that a finished run is evaluated at. With a validation split
        that is the best one in any case, as it was not chosen on test.
    """

    ties: TieRule
    mean_of_batch_means: bool
    checkpoint: Literal["best", "latest"]


PROTOCOLS: dict[str, Protocol] = {
    "paper": Protocol(standard, mean_of_batch_means=True, checkpoint="best"),
    "exact": Protocol(conservative, mean_of_batch_means=False, checkpoint="latest"),
}
# What `exact` finds at the best checkpoint, where it takes another one by itself.
EXACT_AT_BEST = "exact_at_best"


def summarise(
    ranks: Ranks,
    name: str,
    *,
    split: str,
    reported: ReportedMetrics,
    paper_batch_size: int | None = PAPER_BATCH_SIZE,
) -> dict[str, Any] | None:
    """The figures of one protocol, as a line of ``metrics.jsonl`` holds them.

    Args:
      ranks: of a split under that protocol.
      name: of the protocol.
      split: name of the split, passed on.
      reported: metrics and cut-offs.
      paper_batch_size: sessions a batch of the ``paper`` protocol; None where its
        batches are steps of equally many events, whose mean is that over events.

    Returns:
      split, protocol, events, recall@5, …; None where the protocol has no events
      (``paper`` below one whole batch).
    """
    if not len(ranks.event):
        return None
    protocol = PROTOCOLS[name]
    batch = None
    if protocol.mean_of_batch_means and paper_batch_size is not None:
        batch = ranks.session // paper_batch_size
    rank = protocol.ties(ranks.higher, ranks.equal)
    summary: dict[str, Any] = {"split": split, "protocol": name, "events": len(rank)}
    for key, (metric, cutoff) in reported.by_key.items():
        summary[key] = mean(metric(rank, cutoff), batch)
    return summary


def mean(values: np.ndarray, batch: np.ndarray | None = None) -> float:
    """Mean of a metric: over events, or over batches of the mean over their events.

    Args:
      values: [events] of the metric, at least one.
      batch: [events] number of the event's batch, from 0 on; a batch without events
        does not count. None = over events.

    Returns:
      The mean.
    """
    if batch is None:
        return float(np.mean(values))
    count = np.bincount(batch)
    filled = count > 0
    return float(np.mean(np.bincount(batch, values)[filled] / count[filled]))
