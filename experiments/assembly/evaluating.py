"""Evaluations that a config asks for: during training, and of a checkpoint."""

from __future__ import annotations

from typing import Any, NamedTuple

from ml_collections import ConfigDict

from tron_jax.console.messages import say
from tron_jax.console.progress import Progress
from tron_jax.data.sessions import Sessions
from tron_jax.evaluation.evaluator import Evaluator
from tron_jax.evaluation.metrics import BEST_KEY, ReportedMetrics, reported
from tron_jax.evaluation.protocols import PROTOCOLS, summarise
from tron_jax.evaluation.rank_file import Ranks
from tron_jax.reporting.evaluation_table import format_summaries
from tron_jax.steps import TrainState

Summary = dict[str, Any]


class Evaluation(NamedTuple):
    """What is found of a split at a step, by the name of the protocol.

    Attributes:
      ranks: of each prediction.
      summaries: lines of figures, as for ``metrics.jsonl``; None = not available.
    """

    ranks: dict[str, Ranks]
    summaries: dict[str, Summary | None]


def judge(config: ConfigDict) -> str:
    """The split by which the best checkpoint is chosen, and the end of patience."""
    return "validation" if config.data.validation > 0 else "test"


def shown_split(evaluate_on: str) -> str:
    """The split whose figures a run is compared by, by its train.evaluate_on."""
    return "validation" if evaluate_on == "validation" else "test"


def reported_metrics(config: ConfigDict) -> ReportedMetrics:
    """The metrics and cut-offs of a config that has been checked."""
    return reported(config.eval.metrics, config.eval.cutoffs)


def evaluate(
    evaluator: Evaluator,
    state: TrainState,
    step: int,
    sessions: Sessions,
    *,
    split: str,
    metrics: ReportedMetrics,
) -> Evaluation:
    """Ranks a split at a step and summarises each protocol, with a progress line."""
    with Progress(f"evaluating {split}", 0, unit="events") as progress:

        def report(done: int, total: int) -> None:
            progress.total = total
            progress.update(done)

        ranks = evaluator(state.params, state.items, step, sessions, report)
    summaries = {
        protocol: summarise(
            of_protocol,
            protocol,
            split=split,
            reported=metrics,
            paper_batch_size=evaluator.encoding.paper_batch_size,
        )
        for protocol, of_protocol in ranks.items()
    }
    return Evaluation(ranks, summaries)


def evaluate_held_out(
    evaluator: Evaluator,
    splits: dict[str, Sessions],
    metrics: ReportedMetrics,
    position: str,
    state: TrainState,
    step: int,
) -> tuple[list[Summary], float | None]:
    """Evaluates the state being trained on each split but train, and prints that.

    Args:
      evaluator: of any split.
      splits: all that there are, by name.
      metrics: what to report.
      position: ``model.position``.
      state: being trained.
      step: updates made so far.

    Returns:
      The lines of both protocols for ``metrics.jsonl``; and the score that the best
      checkpoint goes by, Recall@20 on validation or else on test, None without either.
    """
    lines: list[Summary] = []
    scores: dict[str, float] = {}
    for split in sorted(splits.keys() - {"train"}):
        summaries = evaluate(
            evaluator, state, step, splits[split], split=split, metrics=metrics
        ).summaries
        text = format_summaries(
            summaries,
            keys=metrics.by_key,
            steps=dict.fromkeys(PROTOCOLS, step),
            chosen_by=dict.fromkeys(PROTOCOLS, "the state being trained"),
            position=position,
        )
        say(text)
        found = [summary for summary in summaries.values() if summary]
        lines += found
        scores[split] = found[0][BEST_KEY]  # of paper, or of exact where that is n/a
    return lines, scores.get("validation", scores.get("test"))
