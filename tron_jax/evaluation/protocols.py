"""An evaluation: one rank per predicted event, and what the protocols make of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tron_jax.evaluation import metrics
from tron_jax.files import replacing

Protocol = Literal["paper", "exact"]
PROTOCOLS: tuple[Protocol, ...] = ("paper", "exact")
CUTOFFS = (5, 10, 20)
PAPER_BATCH_SIZE = 128  # sessions that the published evaluation averages together
FROM_END_REMARK = (
    "model.position=from_end: positions reveal how many clicks of a session remain"
)


class Ranks(NamedTuple):
    """Ranks of the labels of a split, by protocol, then session, then event.

    Attributes:
      protocol: [ranks] int8 index in ``PROTOCOLS``.
      session: [ranks] int32 index of the session in the split.
      event: [ranks] int32 index of the label in its session, from 1 on.
      label: [ranks] int32 item id of the label.
      higher: [ranks] int32 number of other items that score higher than the label.
      equal: [ranks] int32 number of other items that score as high.
    """

    protocol: np.ndarray
    session: np.ndarray
    event: np.ndarray
    label: np.ndarray
    higher: np.ndarray
    equal: np.ndarray

    def of(self, protocol: Protocol) -> Ranks:
        """The ranks of one protocol, in the order of the split."""
        low, high = np.searchsorted(
            self.protocol, [PROTOCOLS.index(protocol), PROTOCOLS.index(protocol) + 1]
        )
        return Ranks(*(column[low:high] for column in self))


def save(path: str | Path, ranks: Ranks, session_ids: pa.Array) -> None:
    """Writes ``ranks.parquet``, whole or not at all.

    Columns: protocol, session (raw id), event, label, higher, equal.

    Args:
      path: the file; one that is there is replaced.
      ranks: of a split.
      session_ids: [sessions] raw ids of that split.

    Raises:
      OSError: if it cannot be written; what was there before stays.
    """
    schema = _table(ranks.of("paper"), session_ids).schema
    with replacing(path) as new, pq.ParquetWriter(new, schema) as file:
        for protocol in PROTOCOLS:
            file.write_table(_table(ranks.of(protocol), session_ids))


def _table(ranks: Ranks, session_ids: pa.Array) -> pa.Table:
    names = pa.array(PROTOCOLS)
    columns = {
        "protocol": pa.DictionaryArray.from_arrays(ranks.protocol, names),
        "session": session_ids.take(pa.array(ranks.session)),
        "event": ranks.event,
        "label": ranks.label,
        "higher": ranks.higher,
        "equal": ranks.equal,
    }
    return pa.table(columns)


def summarise(
    ranks: Ranks,
    protocol: Protocol,
    *,
    split: str,
    paper_batch_size: int | None = PAPER_BATCH_SIZE,
) -> dict[str, Any] | None:
    """Recall and MRR of one protocol, as a line of ``metrics.jsonl`` holds them.

    Args:
      ranks: of a split.
      protocol: ``paper`` is the mean of the batches' means, ties in the label's favour;
        ``exact`` the mean over events, ties against it.
      split: name of the split, passed on.
      paper_batch_size: sessions a batch of the ``paper`` protocol; None where its
        batches are steps of as many events each, whose mean is that over events.

    Returns:
      split, protocol, events, recall@5, …, mrr@20; None where the protocol has no
      events (``paper`` below one whole batch).
    """
    ranks = ranks.of(protocol)
    if not len(ranks.event):
        return None
    paper = protocol == "paper"
    batch = None
    if paper and paper_batch_size is not None:
        batch = ranks.session // paper_batch_size
    ties: metrics.Ties = "standard" if paper else "conservative"
    rank = metrics.ranks_of(ranks.higher, ranks.equal, ties)
    summary: dict[str, Any] = {
        "split": split,
        "protocol": protocol,
        "events": len(rank),
    }
    for name, metric in (("recall", metrics.recall_at), ("mrr", metrics.mrr_at)):
        for cutoff in CUTOFFS:
            totals = metric(rank, cutoff, batch)
            summary[f"{name}@{cutoff}"] = metrics.mean_of_means(totals)
    return summary


def format_summaries(
    summaries: Mapping[Protocol, Mapping[str, Any] | None],
    *,
    steps: Mapping[Protocol, int],
    chosen_by: Mapping[Protocol, str],
    position: str | None,
) -> str:
    """Lays both protocols side by side for a person to read.

    Args:
      summaries: of each protocol, or None.
      steps: the checkpoint that each protocol was taken at.
      chosen_by: the rule that chose that checkpoint, in a few words.
      position: ``model.position``, or None where a model has no positions.

    Returns:
      A few lines, one metric each, and the remarks that belong to the numbers.
    """
    shown = [dict(summaries.get(protocol) or {}) for protocol in PROTOCOLS]

    def line(name: str, cells: list[str]) -> str:
        return f"{name:<12}" + "".join(f"{cell:>12}" for cell in cells)

    def cell(summary: dict[str, Any], key: str, form: str) -> str:
        return format(summary[key], form) if key in summary else "n/a"

    split = next((summary["split"] for summary in shown if summary), "")
    lines = [line(split, list(PROTOCOLS))]
    lines.append(line("step", [f"{steps[protocol]:,}" for protocol in PROTOCOLS]))
    lines.append(line("events", [cell(summary, "events", ",") for summary in shown]))
    for name in ("Recall", "MRR"):
        for cutoff in CUTOFFS:
            key = f"{name.lower()}@{cutoff}"
            cells = [cell(summary, key, ".4f") for summary in shown]
            lines.append(line(f"{name}@{cutoff}", cells))
    for protocol in PROTOCOLS:
        lines.append(f"checkpoint ({protocol}): {chosen_by[protocol]}")
    if position == "from_end":
        lines.append(FROM_END_REMARK)
    return "\n".join(lines)
