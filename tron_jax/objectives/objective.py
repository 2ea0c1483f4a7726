"""The loss of a batch, and its gradient by hidden states and rows of the item table.

``make_objective`` reads in the order of what happens: candidates are selected, they and
the label have scores, the scores give a loss, and the loss a gradient.

JAX differentiates the loss by its scores, [events, k] numbers. From there on the chain
rule is written out, because differentiating the whole would bring along

- a cotangent [events, candidates] for scores that were only compared, and with it two
  more matmuls as large as the one that made them;
- an array [rows, hidden] for every gather of rows: of inputs, labels and candidates.
  Here the gradient by rows stays in pieces (``RowGradient``) until
  ``touched.sum_rows`` adds up all those of a step in one scatter.

The gradient is the same (tests/test_objective.py differentiates the whole), but a step
of TRON XL on Diginetica needed 147 MB of temporaries that way instead of 79, and took
1.2 times as long.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from tron_jax.data.packing import Batch
from tron_jax.objectives import candidate_scores, selection
from tron_jax.objectives.drawn_scores import Backward
from tron_jax.objectives.log_q import LogQ
from tron_jax.objectives.losses import Loss
from tron_jax.objectives.settings import Selection
from tron_jax.optimizers.touched import RowGradient, Touched
from tron_jax.sampling.candidates import Candidates
from tron_jax.sampling.sources import Constants


class StepData(NamedTuple):
    """What the loss of a step is about, besides the hidden states and rows.

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
      rows: by the touched rows, in pieces that are to be added up.
      params: by the encoder's parameters, in so far as corrections are made of them;
        () where nothing is corrected.
    """

    hidden: jax.Array
    rows: list[RowGradient]
    params: Any = ()


# (data, hidden [N, d], rows [R, d], params of the encoder) -> gradients and totals
Objective = Callable[
    [StepData, jax.Array, jax.Array, Any], tuple[Gradients, LossTotals]
]
# (params, data, hidden, rows, scores of the candidates [N, k], ``selection.LOWEST`` of
# those that do not count) -> gradient by params
RepeatsGradient = Callable[[Any, StepData, jax.Array, jax.Array, jax.Array], Any]
# (data, hidden, rows, settings, dtype), as of ``hardest_candidates`` -> the selected
FindHardest = Callable[[StepData, jax.Array, jax.Array, Selection, Any], "Selected"]


def make_objective(
    loss_fn: Loss,
    settings: Selection,
    *,
    log_q: LogQ | None = None,
    mean_over: str = "events",
    batch_size: int | None = None,
    dtype: Any = jnp.float32,
    by_matmul: bool = False,
    hardest: FindHardest | None = None,
    repeats: RepeatsGradient | None = None,
) -> Objective:
    """Composes selection, scores, loss and gradient.

    Args:
      loss_fn: loss per event.
      settings: which candidates count.
      log_q: what is subtracted from the scores before the loss, after selection.
      mean_over: what the summed loss is divided by, one of ``MEANS``.
      batch_size: sessions of a batch, for ``mean_over`` = batch.
      dtype: what hidden states and rows are rounded to before the matmul whose scores
        select, and which are those of the loss; sums and gradients are float32. Without
        ``topk``, and where the batch does not share its draws, nothing is rounded.
      by_matmul: take the gradient of what is selected by a matmul with all candidates
        of a batch that shares its draws, which costs an accelerator less than to gather
        and scatter a row for each that is selected, and a CPU where these are many
        (``candidate_scores.BY_MATMUL_FROM``).
      hardest: what finds the hardest where the batch shares what is drawn, if not
        ``hardest_candidates``.
      repeats: what the corrections of the session's own items learn by, if any.

    Returns:
      The pure objective.
    """
    divisor = mean_divisor(mean_over, batch_size)

    def objective(
        data: StepData, hidden: jax.Array, rows: jax.Array, params: Any = ()
    ) -> tuple[Gradients, LossTotals]:
        label_rows = data.touched.labels
        if settings.topk:
            # Where sessions have candidates of their own, no matmul is worth rounding.
            shared = len(data.candidates.drawn) == 1
            score_dtype = dtype if shared else hidden.dtype
            find = functools.partial(hardest_candidates, by_matmul=by_matmul and shared)
            if shared and hardest is not None:
                find = hardest
            selected = find(data, hidden, rows, settings, score_dtype)
        else:
            score_dtype = hidden.dtype
            selected = all_candidates(data, hidden, rows, settings.mask_hits)
        pos = _label_scores(hidden, rows[label_rows], score_dtype)

        def mean_loss(pos: jax.Array, neg: jax.Array) -> tuple[jax.Array, LossTotals]:
            if log_q is not None:
                labels, constants = data.batch.labels, data.constants
                pos -= log_q.of_labels(constants, labels)
                neg -= log_q.of_candidates(constants, selected.items, selected.columns)
            losses = loss_fn(pos, neg, selected.keep) * data.batch.weight
            totals = LossTotals(jnp.sum(losses), jnp.sum(data.batch.weight))
            return totals.loss / divisor(totals), totals

        by_scores, totals = jax.grad(mean_loss, (0, 1), has_aux=True)(
            pos, selected.scores
        )

        by_pos, by_neg = by_scores
        by_hidden, by_rows = selected.backward(by_neg)
        by_hidden += by_pos[:, None] * rows[label_rows]
        by_label = RowGradient(label_rows, by_pos[:, None] * hidden)
        by_params: Any = ()
        if repeats is not None:
            scores = jnp.where(selected.keep, selected.scores, selection.LOWEST)
            by_params = repeats(params, data, hidden, rows, scores)
        return Gradients(by_hidden, [by_label, *by_rows], by_params), totals

    return objective


class Selected(NamedTuple):
    """The candidates that enter the loss.

    Attributes:
      scores: [N, k] of each event's candidates.
      keep: [N, k] which of them count.
      items: [N, k] their item ids.
      columns: [N, k] or [k], which of the event's candidates they are.
      backward: from a gradient by ``scores`` to that by what made them.
    """

    scores: jax.Array
    keep: jax.Array
    items: jax.Array
    columns: jax.Array
    backward: Backward


def hardest_candidates(
    data: StepData,
    hidden: jax.Array,
    rows: jax.Array,
    settings: Selection,
    dtype: Any,
    *,
    by_matmul: bool = False,
) -> Selected:
    """Selects the candidates of highest score; only these have a gradient.

    Args:
      data: the events and their candidates.
      hidden: [N, hidden] of each event.
      rows: [R, hidden] touched rows of the item table.
      settings: how many, and whether one that equals the label counts.
      dtype: of the matmul that selects.
      by_matmul: see ``make_objective``; only where the batch shares what is drawn.

    Returns:
      The ``topk`` hardest, in descending order.

    Source: paper §2.1, top-k negative sampling. The published code differentiates
    through ``topk``, which gives the same gradient for the price of all candidates.
    """
    _, batch, candidates, touched, _ = data
    topk = settings.most
    scores = candidate_scores.masked_scores(
        hidden.astype(dtype),
        rows,
        candidates,
        touched,
        batch,
        mask_hits=settings.mask_hits,
        topk=topk,
    )
    scores, columns, keep = selection.hardest(scores, topk)
    if settings.topk_start:  # they descend, so the first columns are the hardest
        keep &= jnp.arange(topk) < topk_at(data.step, settings)
    numbers = candidate_scores.rows_of(columns, candidates, touched, batch)

    def backward(by_scores: jax.Array) -> tuple[jax.Array, list[RowGradient]]:
        if by_matmul:
            return candidate_scores.gradient_by_matmul(
                by_scores, columns, hidden, rows, candidates, touched, batch
            )
        by_hidden = jnp.einsum("nk,nkd->nd", by_scores, rows[numbers])
        by_rows = by_scores[:, :, None] * hidden[:, None]
        return by_hidden, [RowGradient(numbers, by_rows)]

    return Selected(scores, keep, touched.items(numbers), columns, backward)


def all_candidates(
    data: StepData, hidden: jax.Array, rows: jax.Array, mask_hits: bool
) -> Selected:
    """Takes every candidate, and all of them have a gradient."""
    _, batch, candidates, touched, _ = data
    keep = candidate_scores.kept(candidates, batch, mask_hits=mask_hits)
    scores, backward = candidate_scores.scores(hidden, rows, candidates, touched, batch)
    items = candidate_scores.items_of(candidates, batch)
    return Selected(scores, keep, items, jnp.arange(items.shape[1]), backward)


def _label_scores(hidden: jax.Array, label_rows: jax.Array, dtype: Any) -> jax.Array:
    """[N] scores of the labels, of what is rounded, in float32."""

    def rounded(array: jax.Array) -> jax.Array:
        return array.astype(dtype).astype(array.dtype)

    return jnp.sum(rounded(hidden) * rounded(label_rows), axis=1)


def topk_at(step: jax.Array, settings: Selection) -> jax.Array:
    """How many candidates count at a step, where that changes as training goes on.

    It moves geometrically, by the same factor each step, rounded: k is
    start·(end/start)^(step/steps), and end from ``topk_steps`` on.

    Args:
      step: scalar int32, updates made so far.
      settings: ``topk_start``, ``topk`` at the end, and ``topk_steps``, the steps
        between.

    Returns:
      Scalar int32.

    Source: ours. Early in training scores are noise, and so are the hardest of many.
    """
    start, end, steps = settings.topk_start, settings.topk, settings.topk_steps
    share = jnp.minimum(step / max(steps, 1), 1.0)
    now = jnp.round(start * jnp.exp(share * math.log(end / start)))
    return jnp.where(step >= steps, end, now.astype(jnp.int32))


MEANS = ("events", "batch")

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
