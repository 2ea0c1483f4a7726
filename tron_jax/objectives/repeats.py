"""What the corrections of a session's own items learn by."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from tron_jax.data.packing import Batch
from tron_jax.models.encoder import Corrections, added_to
from tron_jax.models.repeats import last_clicks, scores_of_last
from tron_jax.objectives.objective import RepeatsGradient, StepData
from tron_jax.objectives.selection import LOWEST

# (params, clicks [N, m]) -> corrections
Correct = Callable[[Any, jax.Array], Corrections]


def make_repeats_gradient(
    correct: Correct, log_weight: float, *, until: int
) -> RepeatsGradient:
    """Builds the gradient of the cross entropy of the label among all that competes.

    That is the label, the session's own items with their corrections, and the
    candidates of the step. It is a gradient by what corrects and by nothing else: all
    other parameters learn as if nothing were corrected. An event whose label scores
    lower than all candidates that count has no part in it, as no correction could save
    or spoil its rank; nor has one without any.

    Candidates are taken as they are: negatives that do not leave out the session's own
    items and the label, as TRON's do, have those compete a second time.

    There is a gradient from sessions alone that the model sees for the first time:
    later it knows their labels by heart, and what they went back to would seem to
    matter less.

    Args:
      correct: of the encoder.
      log_weight: log of how many items each candidate stands for, as candidates are a
        sample and the session's items are not.
      until: the step from which on the gradient is 0, the first of the second epoch.

    Returns:
      The pure function.

    Source: ours.
    """

    def loss(
        params: Any,
        batch: Batch,
        own: jax.Array,
        label: jax.Array,
        candidates: jax.Array,
    ) -> jax.Array:
        corrections = correct(params, last_clicks(batch.items, batch.session))
        items, added = corrections
        label += added_to(corrections, batch.labels)
        others = (items > 0) & (items != batch.labels[:, None])
        own = jnp.where(others, own + added, LOWEST)
        competing = jnp.concatenate([label[:, None], own, candidates + log_weight], 1)
        losses = jax.nn.logsumexp(competing, axis=1) - label
        counts = candidates > LOWEST
        least = jnp.min(candidates, axis=1, where=counts, initial=jnp.inf)
        weight = batch.weight * (label >= least)
        return jnp.sum(losses * weight) / jnp.maximum(jnp.sum(weight), 1)

    def gradient(
        params: Any,
        data: StepData,
        hidden: jax.Array,
        rows: jax.Array,
        candidates: jax.Array,
    ) -> Any:
        own = scores_of_last(hidden, rows[data.touched.inputs])
        label = jnp.sum(hidden * rows[data.touched.labels], axis=1)
        return lax.cond(
            data.step < until,
            lambda params: jax.grad(loss)(params, data.batch, own, label, candidates),
            lambda params: jax.tree.map(jnp.zeros_like, params),
            params,
        )

    return gradient
