"""The loss of a batch, and its gradient by hidden states and rows of the item table."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from tron_jax import scoring
from tron_jax.data.packing import Batch
from tron_jax.losses import Loss
from tron_jax.negatives import Candidates
from tron_jax.popularity import Popularity
from tron_jax.touched import Touched


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
        to be added up.
    """

    hidden: jax.Array
    rows: list[tuple[jax.Array, jax.Array]]


# (step, batch, candidates, touched, popularity, hidden [N, d], rows [R, d]) ->
# gradients and totals
Objective = Callable[..., tuple[Gradients, Totals]]


def mean_loss(
    loss_fn: Loss, weight: jax.Array, pos: jax.Array, neg: jax.Array, keep: jax.Array
) -> tuple[jax.Array, Totals]:
    """Weighted mean over the events of a batch.

    Args:
      loss_fn: loss per event.
      weight: [N] 1 = a prediction that counts.
      pos: [N] scores of the labels.
      neg: [N, k] scores of the negatives.
      keep: [N, k] which negatives count.

    Returns:
      The mean, and the sums that it is made of.
    """
    totals = Totals(jnp.sum(loss_fn(pos, neg, keep) * weight), jnp.sum(weight))
    return totals.loss / jnp.maximum(totals.events, 1), totals


def make_objective(loss_fn: Loss, *, topk: int, mask_hits: bool) -> Objective:
    """Composes scoring, selection and loss.

    Args:
      loss_fn: loss per event.
      topk: candidates per event that count, the hardest; 0 = all.
      mask_hits: mask candidates that equal the label.

    Returns:
      The pure objective.
    """

    def of_hardest(
        step: jax.Array,
        batch: Batch,
        candidates: Candidates,
        touched: Touched,
        popularity: Popularity | None,
        hidden: jax.Array,
        rows: jax.Array,
    ) -> tuple[Gradients, Totals]:
        """Selects without gradient, then scores what was selected with it."""
        scores = scoring.selection_scores(
            hidden, rows, candidates, touched, batch, mask_hits=mask_hits
        )
        columns, keep = scoring.hardest(scores, topk)
        hard = scoring.rows_of(columns, candidates, batch, touched)

        def loss(hidden, label_rows, hard_rows):
            pos = jnp.sum(hidden * label_rows, axis=1)
            neg = jnp.einsum("nd,nkd->nk", hidden, hard_rows)
            return mean_loss(loss_fn, batch.weight, pos, neg, keep)

        (by_hidden, by_label, by_hard), totals = jax.grad(
            loss, (0, 1, 2), has_aux=True
        )(hidden, rows[touched.labels], rows[hard])
        by_row = [(touched.labels, by_label), (hard, by_hard)]
        return Gradients(by_hidden, by_row), totals

    def of_all(
        step: jax.Array,
        batch: Batch,
        candidates: Candidates,
        touched: Touched,
        popularity: Popularity | None,
        hidden: jax.Array,
        rows: jax.Array,
    ) -> tuple[Gradients, Totals]:
        keep = scoring.kept(candidates, batch, mask_hits=mask_hits)
        neg, backward = scoring.scores(hidden, rows, candidates, touched, batch)
        label_rows = rows[touched.labels]
        pos = jnp.sum(hidden * label_rows, axis=1)

        def loss(pos, neg):
            return mean_loss(loss_fn, batch.weight, pos, neg, keep)

        (by_pos, by_neg), totals = jax.grad(loss, (0, 1), has_aux=True)(pos, neg)
        by_hidden, by_rows = backward(by_neg)
        by_hidden += by_pos[:, None] * label_rows
        by_label = by_pos[:, None] * hidden
        return Gradients(by_hidden, [(touched.labels, by_label), *by_rows]), totals

    return of_hardest if topk else of_all
