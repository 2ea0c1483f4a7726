"""Losses per event: scores of the label and of the negatives in, one number out.

All take ``(pos [N], neg [N, k], keep [N, k])``. A negative with ``keep`` false takes no
share of any sum, mean or softmax, in value or gradient, and an event with none kept has
loss 0. Scores of negatives that are not kept may be anything finite.

A new loss is a function here and a line in ``LOSSES``; ``loss.name`` then chooses it.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

Loss = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]


@dataclasses.dataclass(frozen=True)
class LossSettings:
    """Which loss, and what losses depend on besides the scores (config group ``loss``).

    Attributes:
      name: one of ``LOSSES``.
      penalty: weight of bpr_max's score regularisation.
      calibration: gbce's t, from 0 (none) to 1 (that of its sampling rate).
      elu: alpha of the exponential linear unit that every score goes through before
        the loss; 0 = none. It is ascending, so the hardest candidates do not change.
      num_candidates: negatives of an event, before any selection; for gbce.
      num_items: the largest item id; for gbce.
    """

    name: str
    penalty: float = 0.0
    calibration: float = 0.0
    elu: float = 0.0
    num_candidates: int = 0
    num_items: int = 0


def ssm(pos: jax.Array, neg: jax.Array, keep: jax.Array) -> jax.Array:
    """Sampled softmax: cross entropy of the label among itself and the negatives.

    Args:
      pos: [N] scores of the labels.
      neg: [N, k] scores of the negatives.
      keep: [N, k] which negatives count.

    Returns:
      [N] losses.

    Source: paper §2.2.
    """
    logits = jnp.concatenate([pos[:, None], neg], axis=1)
    where = jnp.concatenate([jnp.ones_like(keep[:, :1]), keep], axis=1)
    label = jnp.zeros(pos.shape, jnp.int32)
    return optax.softmax_cross_entropy_with_integer_labels(logits, label, where=where)


def bce(pos: jax.Array, neg: jax.Array, keep: jax.Array) -> jax.Array:
    """Binary cross entropy of the label, and the mean of that of the negatives.

    Args:
      pos: [N] scores of the labels.
      neg: [N, k] scores of the negatives.
      keep: [N, k] which negatives count.

    Returns:
      [N] losses.

    Source: paper §2.2, of SASRec.
    """
    kept = keep.sum(1)
    wrong = jnp.where(keep, jax.nn.softplus(neg), 0).sum(1) / jnp.maximum(kept, 1)
    return jnp.where(kept > 0, jax.nn.softplus(-pos) + wrong, 0)


def bpr_max(
    pos: jax.Array, neg: jax.Array, keep: jax.Array, *, penalty: float
) -> jax.Array:
    """Bayesian personalised ranking against the softmax of the negatives.

    -log Σ_j s_j·sigmoid(pos - neg_j) + penalty·Σ_j s_j·neg_j², with s the softmax over
    the negatives that are kept.

    Args:
      pos: [N] scores of the labels.
      neg: [N, k] scores of the negatives.
      keep: [N, k] which negatives count.
      penalty: weight of the score regularisation.

    Returns:
      [N] losses.

    Source: paper §2.2, BPR-MAX of GRU4Rec+.
    """
    some = keep.any(1)
    where = keep | ~some[:, None]  # a softmax over nothing has no finite gradient
    log_share = neg - jax.nn.logsumexp(neg, axis=1, where=where, keepdims=True)
    below = log_share + jax.nn.log_sigmoid(pos[:, None] - neg)
    share = jnp.where(where, jnp.exp(jnp.where(where, log_share, 0)), 0)
    regular = (share * jnp.square(neg)).sum(1)
    loss = penalty * regular - jax.nn.logsumexp(below, axis=1, where=where)
    return jnp.where(some, loss, 0)


def gbce(pos: jax.Array, neg: jax.Array, keep: jax.Array, *, beta: float) -> jax.Array:
    """Generalised binary cross entropy: the label's probability is raised to a power.

    -(beta·log sigmoid(pos) + Σ_j log(1 - sigmoid(neg_j))) / (1 + k), with k the
    negatives that are kept: the mean over the label and its negatives, where ``bce``
    weighs the label as much as all of them.

    Args:
      pos: [N] scores of the labels.
      neg: [N, k] scores of the negatives.
      keep: [N, k] which negatives count.
      beta: the power, of ``gbce_beta``.

    Returns:
      [N] losses.

    Source: Petrov and Macdonald, gSASRec, RecSys 2023, as its authors state and run it
    (the mean over 1 + k; their clipping of probabilities at 1e-10 is not taken over).
    """
    kept = keep.sum(1)
    wrong = jnp.where(keep, jax.nn.softplus(neg), 0).sum(1)
    loss = (beta * jax.nn.softplus(-pos) + wrong) / (1 + kept)
    return jnp.where(kept > 0, loss, 0)


def gbce_beta(calibration: float, num_candidates: int, num_items: int) -> float:
    """The power of ``gbce`` that undoes the overconfidence of sampling.

    Args:
      calibration: t in [0, 1]: 0 gives 1; 1 gives the sampling rate, which makes
        probabilities of uniform negatives unbiased.
      num_candidates: negatives of an event. More than there are other items (they are
        drawn with replacement) count as all of them.
      num_items: the largest item id.

    Returns:
      alpha·(t·(1 - 1/alpha) + 1/alpha), with alpha the sampling rate.

    Source: Petrov and Macdonald, gSASRec, RecSys 2023.
    """
    alpha = min(num_candidates / max(num_items - 1, 1), 1.0)
    return calibration * (alpha - 1) + 1


LOSSES: dict[str, Callable[[LossSettings], Loss]] = {
    "ssm": lambda settings: ssm,
    "bce": lambda settings: bce,
    "bpr_max": lambda settings: functools.partial(bpr_max, penalty=settings.penalty),
    "gbce": lambda settings: functools.partial(
        gbce,
        beta=gbce_beta(
            settings.calibration, settings.num_candidates, settings.num_items
        ),
    ),
}


def make_loss(settings: LossSettings) -> Loss:
    """Chooses a loss.

    Args:
      settings: its name and numbers.

    Returns:
      The loss.

    Raises:
      KeyError: no loss has the name; lists those that exist.
    """
    name, elu = settings.name, settings.elu
    if name not in LOSSES:
        raise KeyError(f"loss {name!r}; expected one of: {', '.join(LOSSES)}")
    loss = LOSSES[name](settings)
    if elu == 0:
        return loss

    def on_elu(pos: jax.Array, neg: jax.Array, keep: jax.Array) -> jax.Array:
        return loss(jax.nn.elu(pos, elu), jax.nn.elu(neg, elu), keep)

    return on_elu
