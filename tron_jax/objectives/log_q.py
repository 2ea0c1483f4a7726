"""The logQ correction: scores of a sampled softmax less how often items occur in it.

Q(i) is the number of times that item i is expected among an event's candidates, not a
probability: the sum over the candidates of exp(score - log Q) then estimates that of
exp(score) over all items. It is that of the draws themselves; that ``exclude`` leaves
items out, that in-batch negatives are drawn without replacement, from few sessions, and
that ``deduplicate`` drops some is not accounted for.

Top-k selects by the scores themselves, and the scores of the selected are corrected. A
sum over the hardest alone estimates no sum over all items, so this is a heuristic; and
of an item that is a candidate twice either may be selected, which ``by_source``
corrects differently.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from tron_jax.sampling.popularity import look_up
from tron_jax.sampling.settings import NegativeSampling
from tron_jax.sampling.sources import (
    IN_BATCH,
    SOURCES,
    Constants,
    constants_of,
    in_use,
)


class LogQ(NamedTuple):
    """What is subtracted from scores; float32, without gradient.

    Attributes:
      of_labels: ``(constants, labels [N]) -> [N]``.
      of_candidates: ``(constants, items [N, k], columns) -> [N, k]``, where columns
        [k] or [N, k] say which of the event's candidates they are.
      sources: names of the sources whose constants are read.
    """

    of_labels: Callable[[Constants, jax.Array], jax.Array]
    of_candidates: Callable[[Constants, jax.Array, jax.Array], jax.Array]
    sources: tuple[str, ...]


def log_expected(
    settings: NegativeSampling, num_items: int, constants: Constants, items: jax.Array
) -> jax.Array:
    """How often items are expected among the candidates of an event.

    Args:
      settings: of the candidates; at least one source is in use.
      num_items: the largest item id.
      constants: of the sources.
      items: [...] ids; padding gets something finite.

    Returns:
      [...] log Q.
    """
    by_source = [
        SOURCES[name].log_expected(
            items, count, num_items, constants_of(name, constants), settings
        )
        for name, count in in_use(settings).items()
    ]
    return functools.reduce(jnp.logaddexp, by_source)


def _plain(settings: NegativeSampling, num_items: int) -> LogQ:
    expected = functools.partial(log_expected, settings, num_items)
    return LogQ(
        expected,
        lambda constants, items, columns: expected(constants, items),
        tuple(in_use(settings)),
    )


def _corrected(settings: NegativeSampling, num_items: int) -> LogQ:
    return _plain(settings, num_items)._replace(
        of_labels=lambda constants, labels: jnp.zeros(labels.shape, jnp.float32)
    )


def _by_source(settings: NegativeSampling, num_items: int) -> LogQ:
    counts = in_use(settings)
    powers = [
        0.0 if power is None else power(settings)
        for power in (SOURCES[name].click_power for name in counts)
    ]
    ends = list(itertools.accumulate(counts.values()))  # of the columns of each source

    def log_clicks(constants: Constants, items: jax.Array) -> jax.Array:
        return look_up(constants_of(IN_BATCH, constants).log_count, items)

    def of_candidates(
        constants: Constants, items: jax.Array, columns: jax.Array
    ) -> jax.Array:
        power = jnp.float32(powers[-1])
        for end, of_source in reversed(list(zip(ends[:-1], powers[:-1], strict=True))):
            power = jnp.where(columns < end, jnp.float32(of_source), power)
        return power * log_clicks(constants, items)

    return LogQ(log_clicks, of_candidates, (IN_BATCH,))


LOGQ: dict[str, Callable[[NegativeSampling, int], LogQ | None]] = {
    "none": lambda settings, num_items: None,
    "plain": _plain,
    "corrected": _corrected,
    "by_source": _by_source,
}


def make_log_q(mode: str, settings: NegativeSampling, num_items: int) -> LogQ | None:
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
      popularity -exponent·log clicks, uniform ones nothing: each source's
      ``click_power``.

    Args:
      mode: one of ``LOGQ``.
      settings: of the candidates.
      num_items: the largest item id.

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
    return LOGQ[mode](settings, num_items)
