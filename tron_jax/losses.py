"""Losses per event: scores of the label and of the negatives in, one number out.

All take ``(pos [N], neg [N, k], keep [N, k])``. A negative with ``keep`` false takes no
share of any sum, mean or softmax, in value or gradient, and an event with none kept has
loss 0. Scores of what is not kept may be anything finite.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

Loss = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]


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


# Each takes what its name in ``config.loss`` brings along beside the scores.
LOSSES: dict[str, Callable[[float], Loss]] = {
    "ssm": lambda penalty: ssm,
    "bce": lambda penalty: bce,
    "bpr_max": lambda penalty: functools.partial(bpr_max, penalty=penalty),
}
