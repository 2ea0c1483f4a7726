"""What logQ takes off the scores of a sampled softmax, by how often items are drawn.

Q(i) is the number of times that item i is expected among an event's candidates, not a
probability: the sum over the candidates of exp(score - log Q) then estimates that of
exp(score) over all items. It is that of the draws themselves; that ``exclude`` leaves
items out, that in-batch negatives are drawn without replacement, from few sessions, and
that ``deduplicate`` drops some is not accounted for.

Top-k selects by the scores themselves, and what was selected is corrected. A sum over
the hardest alone estimates no sum over all items, so this is a heuristic; and of an
item that is a candidate twice either may be selected, which ``by_source`` tells apart.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from tron_jax.sampling.popularity import Popularity


class Draws(NamedTuple):
    """How an event's candidates come about: uniform ones, then popular, then in-batch.

    Attributes:
      num_items: the largest item id.
      num_uniform: drawn uniformly; their columns come first.
      num_popularity: drawn by clicks to a power; their columns come next.
      num_in_batch: from other sessions, so drawn by clicks.
      exponent: the power.
    """

    num_items: int
    num_uniform: int
    num_popularity: int
    num_in_batch: int
    exponent: float


class LogQ(NamedTuple):
    """What is subtracted from scores; float32, without gradient.

    Attributes:
      of_labels: ``(popularity, labels [N]) -> [N]``.
      of_candidates: ``(popularity, items [N, k], columns) -> [N, k]``, where columns
        [k] or [N, k] say which of the event's candidates they are.
    """

    of_labels: Callable[[Popularity | None, jax.Array], jax.Array]
    of_candidates: Callable[[Popularity | None, jax.Array, jax.Array], jax.Array]


def log_expected(
    draws: Draws, popularity: Popularity | None, items: jax.Array
) -> jax.Array:
    """How often items are expected among the candidates of an event.

    Args:
      draws: of the candidates.
      popularity: of the items; None will do where all draws are uniform.
      items: [...] ids; padding gets something finite.

    Returns:
      [...] log Q.
    """
    parts = []
    if draws.num_uniform:
        rate = math.log(draws.num_uniform / draws.num_items)
        parts.append(jnp.full(items.shape, rate, jnp.float32))
    if draws.num_popularity or draws.num_in_batch:
        assert popularity is not None, "logQ of draws by popularity needs the counts"
        clicks = jnp.asarray(popularity.log_count)[items]
        if draws.num_popularity:
            rate = math.log(draws.num_popularity) - popularity.log_total_power
            parts.append(draws.exponent * clicks + rate)
        if draws.num_in_batch:
            rate = math.log(draws.num_in_batch) - popularity.log_total
            parts.append(clicks + rate)
    total = parts[0]
    for part in parts[1:]:
        total = jnp.logaddexp(total, part)
    return total


def _plain(draws: Draws) -> LogQ:
    return LogQ(
        lambda popularity, labels: log_expected(draws, popularity, labels),
        lambda popularity, items, columns: log_expected(draws, popularity, items),
    )


def _corrected(draws: Draws) -> LogQ:
    return LogQ(
        lambda popularity, labels: jnp.zeros(labels.shape, jnp.float32),
        lambda popularity, items, columns: log_expected(draws, popularity, items),
    )


def _by_source(draws: Draws) -> LogQ:
    drawn = draws.num_uniform + draws.num_popularity

    def clicks(popularity: Popularity | None, items: jax.Array) -> jax.Array:
        assert popularity is not None, "logQ by source needs the counts"
        return jnp.asarray(popularity.log_count)[items]

    def of_candidates(
        popularity: Popularity | None, items: jax.Array, columns: jax.Array
    ) -> jax.Array:
        power = jnp.where(columns < drawn, jnp.float32(draws.exponent), 1)
        power = jnp.where(columns < draws.num_uniform, 0, power)
        return power * clicks(popularity, items)

    return LogQ(clicks, of_candidates)


LOGQ: dict[str, Callable[[Draws], LogQ | None]] = {
    "none": lambda draws: None,
    "plain": _plain,
    "corrected": _corrected,
    "by_source": _by_source,
}


def make_log_q(
    mode: str,
    *,
    num_items: int,
    num_uniform: int,
    num_popularity: int,
    num_in_batch: int,
    exponent: float,
) -> LogQ | None:
    """Chooses a correction of the sampled softmax; it fits ``ssm`` only.

    - none: no correction.
    - plain: the label and every candidate get -log Q.
    - corrected: the label, which nobody draws, gets nothing; every candidate gets
      -log Q. Khrylchenko et al. leave the positive out of the denominator and weigh an
      event by sg(1 - P(positive)), with P estimated from the same candidates: -sg(1 -
      P)·log(exp(pos) / Σ exp(neg - log Q')), with P = exp(pos) / (exp(pos) + Σ exp(neg
      - log Q')/n). That weight times the softmax over the negatives is exactly the
      softmax with the positive, so the gradient is that of ``ssm`` on these scores,
      whose value is moreover an estimate of the full cross entropy. Q' is Q among the
      draws that are not the positive, whose number n is expected to shrink as Q' grows,
      so n·Q' is our Q. Candidates that equal the label must be masked (``mask_hits``).
    - by_source: the label and in-batch candidates get -log clicks, those drawn by
      popularity -exponent·log clicks, uniform ones nothing.

    Args:
      mode: one of ``LOGQ``.
      num_items: the largest item id.
      num_uniform: uniform candidates of an event.
      num_popularity: those drawn by clicks to the power of ``exponent``.
      num_in_batch: those from other sessions.
      exponent: the power.

    Returns:
      The correction, or None.

    Raises:
      KeyError: no correction has the name; lists those that exist.

    Source: plain: Bengio and Senécal 2008, Yi et al., RecSys 2019; corrected:
    Khrylchenko et al., "Correcting the LogQ Correction", RecSys 2025 (§3.3);
    by_source: the original GRU4Rec (Hidasi), ``logq`` = 1.
    """
    if mode not in LOGQ:
        raise KeyError(f"logQ {mode!r}; expected one of: {', '.join(LOGQ)}")
    return LOGQ[mode](
        Draws(num_items, num_uniform, num_popularity, num_in_batch, exponent)
    )
