"""What an item table in fewer bytes costs in accuracy."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from experiments.assembly.architectures import MODELS
from experiments.comparing import statistics
from experiments.comparing.statistics import Estimate
from tron_jax.console.progress import Progress
from tron_jax.data.sessions import Sessions
from tron_jax.evaluation.metrics import mrr, recall
from tron_jax.evaluation.protocols import PROTOCOLS
from tron_jax.evaluation.rank_file import Ranks
from tron_jax.serving import tables
from tron_jax.serving.tables import ItemTable

CUTOFF = 20


class Loss(NamedTuple):
    """What changes with the table, under the protocol ``exact``.

    Attributes:
      predictions: of the test sessions.
      before: Recall and MRR at 20 of the float32 table.
      change: of each, by the rounding, with intervals of the sessions' draw.
      entered: predictions whose label is among the first 20 with the rounded table
        alone.
      left: and with the float32 one alone.
    """

    predictions: int
    before: tuple[float, float]
    change: list[Estimate]
    entered: int
    left: int


def measure(
    config: ConfigDict,
    params: Any,
    table: np.ndarray,
    rounded: ItemTable,
    sessions: Sessions,
) -> Loss:
    """Ranks the same sessions by a table and by that table rounded.

    Args:
      config: of the run.
      params: of the encoder.
      table: [num_items + 1, width] float32.
      rounded: the same in fewer bytes.
      sessions: with at least one prediction.
    """
    model = MODELS[config.model.name](config)
    evaluate = model.make_evaluator(tables.read_rows, len(table) - 1)
    found: list[Ranks] = []
    with Progress("ranking by both tables", 0, unit="events") as progress:

        def report(done: int, total: int) -> None:
            progress.total = 2 * total
            progress.update(done + len(found) * total)

        for one in (table, rounded):
            found.append(evaluate(params, one, 0, sessions, report)["exact"])
    ties = PROTOCOLS["exact"].ties
    before, after = (ties(ranks.higher, ranks.equal) for ranks in found)
    changes = [
        metric(after, CUTOFF) - metric(before, CUTOFF) for metric in (recall, mrr)
    ]
    return Loss(
        predictions=len(before),
        before=(
            float(recall(before, CUTOFF).mean()),
            float(mrr(before, CUTOFF).mean()),
        ),
        change=statistics.of_means(changes, found[0].session, sessions.num_sessions),
        entered=int(((after <= CUTOFF) & (before > CUTOFF)).sum()),
        left=int(((before <= CUTOFF) & (after > CUTOFF)).sum()),
    )
