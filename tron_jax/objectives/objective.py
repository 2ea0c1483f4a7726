"""The loss of a batch, and its gradient by hidden states and rows of the item table."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from tron_jax.data.packing import Batch
from tron_jax.objectives import scoring
from tron_jax.objectives.log_q import LogQ
from tron_jax.objectives.losses import Loss
from tron_jax.optimizers.touched import Touched
from tron_jax.sampling.candidates import Candidates
from tron_jax.sampling.popularity import Popularity


class StepData(NamedTuple):
    """What the loss of a step is about, beside the hidden states and rows.

    Attributes:
      step: scalar int32, updates made so far.
      batch: the events.
      candidates: their negatives.
      touched: where the items of the step are found among its rows.
      popularity: of the items, where the loss asks for it.
    """

    step: jax.Array
    batch: Batch
    candidates: Candidates
    touched: Touched
    popularity: Popularity | None


class Totals(NamedTuple):
    """What a step adds to the log, as sums.

    Attributes:
      loss: scalar, sum of the losses of the predictions.
      events: scalar, number of predictions.
    """

    loss: jax.Array
    events: jax.Array


class Gradients(NamedTuple):
    """The gradient of the mean loss of a batch.

    Attributes:
      hidden: [N, hidden] by the hidden states.
      rows: pairs of row numbers [...] of the touched rows and gradients [..., hidden],
        to be added up; None for a gradient [R, hidden] by all of them.
    """

    hidden: jax.Array
    rows: list[tuple[jax.Array | None, jax.Array]]


MEANS = ("events", "batch")

# (data, hidden [N, d], rows [R, d]) -> gradients and totals
Objective = Callable[[StepData, jax.Array, jax.Array], tuple[Gradients, Totals]]

# (data, scores of labels, of candidates, keep, columns) -> mean and totals
_MeanLoss = Callable[..., tuple[jax.Array, Totals]]

# totals -> what the summed loss is divided by for the gradient
Divisor = Callable[[Totals], jax.Array | int]


def mean_divisor(mean_over: str, batch_size: int | None) -> Divisor:
    """Chooses what the summed loss of a batch is divided by for the gradient.

    Args:
      mean_over: one of ``MEANS``: its predictions, or ``batch_size`` whatever it holds.
      batch_size: sessions (GRU4Rec: slots) of a batch.

    Returns:
      The function of the totals.

    Raises:
      ValueError: the mean has another name, or lacks the batch's size.

    Source: batch: the original GRU4Rec, whose loss is a sum over its slots / 32.
    """
    if mean_over not in MEANS:
        raise ValueError(f"mean over {mean_over!r}; expected one of: {MEANS}")
    if mean_over == "events":
        return lambda totals: jnp.maximum(totals.events, 1)
    if not batch_size:
        raise ValueError("a mean over the batch needs its size")
    return lambda totals: batch_size


def topk_at(step: jax.Array, start: int, end: int, steps: int) -> jax.Array:
    """How many candidates count at a step, where that changes as training goes on.

    It moves geometrically, by the same factor each step, rounded: k is
    start·(end/start)^(step/steps), and end from ``steps`` on.

    Args:
      step: scalar int32, updates made so far.
      start: candidates at step 0.
      end: candidates in the end.
      steps: how many steps it takes.

    Returns:
      Scalar int32.

    Source: ours (design §7: early scores are noise).
    """
    share = jnp.minimum(step / max(steps, 1), 1.0)
    now = jnp.round(start * jnp.exp(share * math.log(end / start)))
    return jnp.where(step >= steps, end, now.astype(jnp.int32))


def make_objective(
    loss_fn: Loss,
    *,
    topk: int,
    mask_hits: bool,
    topk_start: int = 0,
    topk_steps: int = 0,
    log_q: LogQ | None = None,
    mean_over: str = "events",
    batch_size: int | None = None,
) -> Objective:
    """Composes scoring, selection and loss.

    Args:
      loss_fn: loss per event.
      topk: candidates per event that count, the hardest; 0 = all.
      mask_hits: mask candidates that equal the label.
      topk_start: what ``topk`` is at step 0, to move to its value; 0 = constant. The
        step selects and scores the larger of the two all the time.
      topk_steps: steps until ``topk`` has its value.
      log_q: what is subtracted from the scores before the loss, after selection.
      mean_over: what the summed loss is divided by, one of ``MEANS``.
      batch_size: sessions of a batch, for ``mean_over`` = batch.

    Returns:
      The pure objective.
    """
    divisor = mean_divisor(mean_over, batch_size)

    def mean_loss(
        data: StepData,
        pos: jax.Array,
        neg: jax.Array,
        keep: jax.Array,
        columns: jax.Array | None,
    ) -> tuple[jax.Array, Totals]:
        batch = data.batch
        if log_q is not None:
            items = scoring.items_of(columns, data.candidates, batch)
            if columns is None:
                columns = jnp.arange(items.shape[1])
            pos -= log_q.of_labels(data.popularity, batch.labels)
            neg -= log_q.of_candidates(data.popularity, items, columns)
        losses = loss_fn(pos, neg, keep) * batch.weight
        totals = Totals(jnp.sum(losses), jnp.sum(batch.weight))
        return totals.loss / divisor(totals), totals

    if not topk:
        return _of_all(mean_loss, mask_hits)

    def counted(step: jax.Array) -> jax.Array | None:
        return topk_at(step, topk_start, topk, topk_steps) if topk_start else None

    return _of_hardest(mean_loss, mask_hits, max(topk, topk_start), counted)


def _of_hardest(
    mean_loss: _MeanLoss,
    mask_hits: bool,
    topk: int,
    counted: Callable[[jax.Array], jax.Array | None],
) -> Objective:
    """Selects without gradient, then scores what was selected with it."""

    def objective(
        data: StepData, hidden: jax.Array, rows: jax.Array
    ) -> tuple[Gradients, Totals]:
        _, batch, candidates, touched, _ = data
        scores = scoring.selection_scores(
            hidden, rows, candidates, touched, batch, mask_hits=mask_hits
        )
        columns, keep = scoring.hardest(scores, topk)
        number = counted(data.step)
        if number is not None:  # scores descend, so the first columns are the hardest
            keep &= jnp.arange(topk) < number
        hard = scoring.rows_of(columns, candidates, batch, touched)

        def loss(hidden, label_rows, hard_rows):
            pos = jnp.sum(hidden * label_rows, axis=1)
            neg = jnp.einsum("nd,nkd->nk", hidden, hard_rows)
            return mean_loss(data, pos, neg, keep, columns)

        (by_hidden, by_label, by_hard), totals = jax.grad(
            loss, (0, 1, 2), has_aux=True
        )(hidden, rows[touched.labels], rows[hard])
        return Gradients(
            by_hidden, [(touched.labels, by_label), (hard, by_hard)]
        ), totals

    return objective


def _of_all(mean_loss: _MeanLoss, mask_hits: bool) -> Objective:
    """Scores all candidates with gradient."""

    def objective(
        data: StepData, hidden: jax.Array, rows: jax.Array
    ) -> tuple[Gradients, Totals]:
        _, batch, candidates, touched, _ = data
        keep = scoring.kept(candidates, batch, mask_hits=mask_hits)
        neg, backward = scoring.scores(hidden, rows, candidates, touched, batch)
        label_rows = rows[touched.labels]
        pos = jnp.sum(hidden * label_rows, axis=1)

        def loss(pos, neg):
            return mean_loss(data, pos, neg, keep, None)

        (by_pos, by_neg), totals = jax.grad(loss, (0, 1), has_aux=True)(pos, neg)
        by_hidden, by_rows = backward(by_neg)
        by_hidden += by_pos[:, None] * label_rows
        by_label = by_pos[:, None] * hidden
        return Gradients(by_hidden, [(touched.labels, by_label), *by_rows]), totals

    return objective
