"""The loss of a batch, and its gradient by hidden states and rows of the item table."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from tron_jax.data.packing import Batch
from tron_jax.objectives import scoring
from tron_jax.objectives.drawn_scores import Backward, ByRows
from tron_jax.objectives.log_q import LogQ
from tron_jax.objectives.losses import Loss
from tron_jax.optimizers.touched import Touched
from tron_jax.sampling.candidates import Candidates
from tron_jax.sampling.sources import Constants


class StepData(NamedTuple):
    """What the loss of a step is about, beside the hidden states and rows.

    Attributes:
      step: scalar int32, updates made so far.
      batch: the events.
      candidates: their negatives.
      touched: where the items of the step are found among its rows.
      constants: of the sources of negatives, where the loss asks for them.
    """

    step: jax.Array
    batch: Batch
    candidates: Candidates
    touched: Touched
    constants: Constants


class LossTotals(NamedTuple):
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
Objective = Callable[[StepData, jax.Array, jax.Array], tuple[Gradients, LossTotals]]


class Scored(NamedTuple):
    """What enters the loss.

    Attributes:
      pos: [N] scores of the labels.
      neg: [N, k] scores of candidates.
      keep: [N, k] which of them count.
      columns: [N, k] which of the event's candidates they are; None = all, in order.
      backward: of ``neg``.
    """

    pos: jax.Array
    neg: jax.Array
    keep: jax.Array
    columns: jax.Array | None
    backward: Backward


# (data, hidden [N, d], rows [R, d]) -> labels and candidates, scored
Score = Callable[[StepData, jax.Array, jax.Array], Scored]

# totals -> what the summed loss is divided by for the gradient
Divisor = Callable[[LossTotals], jax.Array | int]


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
    dtype: Any = jnp.float32,
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
      dtype: what hidden states and rows are rounded to before the matmul that the
        hardest are selected by, whose scores are those of the loss; sums and gradients
        are float32. All is with ``topk`` = 0, or where the batch does not share its
        draws.

    Returns:
      The pure objective.
    """
    divisor = mean_divisor(mean_over, batch_size)

    def mean_loss(data: StepData, scored: Scored) -> tuple[jax.Array, LossTotals]:
        batch, pos, neg = data.batch, scored.pos, scored.neg
        if log_q is not None:
            items = scoring.items_of(scored.columns, data.candidates, batch)
            columns = scored.columns
            if columns is None:
                columns = jnp.arange(items.shape[1])
            pos -= log_q.of_labels(data.constants, batch.labels)
            neg -= log_q.of_candidates(data.constants, items, columns)
        losses = loss_fn(pos, neg, scored.keep) * batch.weight
        totals = LossTotals(jnp.sum(losses), jnp.sum(batch.weight))
        return totals.loss / divisor(totals), totals

    def counted(step: jax.Array) -> jax.Array | None:
        return topk_at(step, topk_start, topk, topk_steps) if topk_start else None

    if topk:
        score = _hardest(mask_hits, max(topk, topk_start), counted, dtype)
    else:
        score = _all(mask_hits)

    def objective(
        data: StepData, hidden: jax.Array, rows: jax.Array
    ) -> tuple[Gradients, LossTotals]:
        scored = score(data, hidden, rows)
        labels = data.touched.labels

        def loss(pos: jax.Array, neg: jax.Array) -> tuple[jax.Array, LossTotals]:
            return mean_loss(data, scored._replace(pos=pos, neg=neg))

        (by_pos, by_neg), totals = jax.grad(loss, (0, 1), has_aux=True)(
            scored.pos, scored.neg
        )
        by_hidden, by_rows = scored.backward(by_neg)
        by_hidden += by_pos[:, None] * rows[labels]
        by_label = by_pos[:, None] * hidden
        return Gradients(by_hidden, [(labels, by_label), *by_rows]), totals

    return objective


def _of_labels(
    data: StepData, hidden: jax.Array, rows: jax.Array, dtype: Any
) -> jax.Array:
    """[N] scores of the labels, of what is rounded, in float32."""

    def rounded(array: jax.Array) -> jax.Array:
        return array.astype(dtype).astype(array.dtype)

    return jnp.sum(rounded(hidden) * rounded(rows[data.touched.labels]), axis=1)


def _hardest(
    mask_hits: bool,
    topk: int,
    counted: Callable[[jax.Array], jax.Array | None],
    dtype: Any,
) -> Score:
    """Scores and selects without gradient; only what was selected has one."""

    def score(data: StepData, hidden: jax.Array, rows: jax.Array) -> Scored:
        _, batch, candidates, touched, _ = data
        # Where each session has its own candidates, no matmul is worth rounding for.
        of_matmul = dtype if len(candidates.drawn) == 1 else hidden.dtype
        every = scoring.selection_scores(
            hidden.astype(of_matmul),
            rows,
            candidates,
            touched,
            batch,
            mask_hits=mask_hits,
            topk=topk,
        )
        neg, columns, keep = scoring.hardest(every, topk)
        number = counted(data.step)
        if number is not None:  # scores descend, so the first columns are the hardest
            keep &= jnp.arange(topk) < number
        hard = scoring.rows_of(columns, candidates, batch, touched)

        def backward(by_neg: jax.Array) -> tuple[jax.Array, ByRows]:
            by_hidden = jnp.einsum("nk,nkd->nd", by_neg, rows[hard])
            return by_hidden, [(hard, by_neg[:, :, None] * hidden[:, None])]

        pos = _of_labels(data, hidden, rows, of_matmul)
        return Scored(pos, neg, keep, columns, backward)

    return score


def _all(mask_hits: bool) -> Score:
    """Scores all candidates, and all have a gradient."""

    def score(data: StepData, hidden: jax.Array, rows: jax.Array) -> Scored:
        _, batch, candidates, touched, _ = data
        keep = scoring.kept(candidates, batch, mask_hits=mask_hits)
        neg, backward = scoring.scores(hidden, rows, candidates, touched, batch)
        pos = _of_labels(data, hidden, rows, hidden.dtype)
        return Scored(pos, neg, keep, None, backward)

    return score
