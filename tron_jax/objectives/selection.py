"""The highest scores of each event, exactly, by what costs the device least.

On a CPU ``lax.top_k`` is one thread that walks a row and keeps a heap. A row of random
scores enters the heap k·ln(C/k) times, which costs more than the walk. Here the walk is
over the maxima of groups of columns, which are found by all threads, and rows begin
with what is likely to stay, so that little enters the heap later.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

GROUP = 8  # columns whose maximum stands for them; of 4, 8 and 16 the fastest
# Groups of groups, for each of the k to be found. Fewer would save nothing, as nearly
# all of them would hold one of the k.
COARSE = 1.25
LARGEST = 32  # groups in a group of groups; more would widen a row for no gain
GROUP_OF_GPU = 16


LOWEST = float(jnp.finfo(jnp.float32).min)  # score of a candidate that does not count


@jax.named_scope("selection")
def hardest(scores: jax.Array, topk: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Selects the ``topk`` candidates of highest score.

    Args:
      scores: [N, C]; those that do not count have ``LOWEST``.
      topk: how many, at most C; where fewer count, the rest is filled with others.

    Returns:
      [N, topk] scores, descending, and 0 of what does not count; columns; and which of
      them count.

    Source: paper §2.1, top-k negative sampling.
    """
    highest, columns = top_k(scores, topk)
    highest, keep = counted(highest)
    return highest, columns, keep


def counted(highest: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The highest scores, 0 of what does not count, and which of them count."""
    keep = highest != LOWEST  # NaN counts, so that the loss shows it
    return jnp.where(keep, highest, 0), keep


def top_k(scores: jax.Array, k: int) -> tuple[jax.Array, jax.Array]:
    """Finds the k highest of each row; of equal ones it may choose others than XLA.

    The k highest lie in the k groups of highest maxima, so on a CPU and on a GPU a row
    is narrowed twice: among the maxima of groups, and among the members of the groups
    found. NaN is the highest, so that a loss shows it.

    Args:
      scores: [N, C]; as many columns as ``width`` says spare a copy. One of -inf may be
        found twice.
      k: how many, at most C.

    Returns:
      [N, k] values, descending, and their columns. Where fewer than k of a row are
      above the lowest float32, a column of that value may be beyond C.
    """
    return lax.platform_dependent(
        scores,
        cpu=lambda scores: in_two_stages(scores, k),
        cuda=lambda scores: in_groups(scores, k),
        default=lambda scores: tuple(lax.top_k(scores, k)),
    )


def in_groups(scores: jax.Array, k: int) -> tuple[jax.Array, jax.Array]:
    """``top_k`` on a GPU, where ``lax.top_k`` sorts whole rows of k above 16.

    Rows of a few thousand, such as those of maxima and members, are sorted within one
    block of threads, by one kernel; longer ones go through main memory many times.
    """
    events, columns = scores.shape
    groups = -(-columns // GROUP_OF_GPU)
    if 2 * (groups + GROUP_OF_GPU * k) > columns:
        values, found = lax.top_k(_nan_first(scores), k)
        return values, found
    room = ((0, 0), (0, groups * GROUP_OF_GPU - columns))
    scores = jnp.pad(scores, room, constant_values=jnp.finfo(scores.dtype).min)
    maxima = _maxima(scores.reshape(events, GROUP_OF_GPU, groups))
    _, group = lax.top_k(maxima, k)
    members = group[:, None] + groups * jnp.arange(GROUP_OF_GPU)[:, None]
    members = members.reshape(events, -1)
    found = jnp.take_along_axis(scores, members, axis=1, mode="promise_in_bounds")
    values, column = lax.top_k(_nan_first(found), k)
    return values, jnp.take_along_axis(members, column, 1, mode="promise_in_bounds")


def width(columns: int, k: int) -> int:
    """How many columns, as many as given or more, ``top_k`` takes without a copy."""
    whole = GROUP * _coarse(columns, k)
    return columns if whole == GROUP else -(-columns // whole) * whole


def _coarse(columns: int, k: int) -> int:
    """Groups in a group of groups; 1 where one stage costs less.

    A power of two, as then the number is the same for what ``width`` makes of columns.
    """
    most = min(columns // (GROUP * math.ceil(COARSE * k)), LARGEST)
    return 2 ** max(0, most.bit_length() - 1)


def in_two_stages(scores: jax.Array, k: int) -> tuple[jax.Array, jax.Array]:
    """``top_k`` on a CPU, where either step is one of ``lax.top_k``."""
    events, columns = scores.shape
    coarse = _coarse(columns, k)
    if coarse == 1:
        values, found = lax.top_k(_nan_first(scores), k)
        return values, found
    room = width(columns, k) - columns
    if room:
        lowest = jnp.finfo(scores.dtype).min
        scores = jnp.pad(scores, ((0, 0), (0, room)), constant_values=lowest)
    # Members of a group lie as far apart as there are groups: the maximum then runs
    # along whole vectors.
    groups = scores.shape[1] // GROUP
    maxima = _maxima(scores.reshape(events, GROUP, groups))
    some = maxima.reshape(events, coarse, -1)
    best, group = _highest(some, _maxima(some), k)

    members = group[:, None] + groups * jnp.arange(GROUP)[:, None]
    members = members.reshape(events, -1)
    found = jnp.take_along_axis(scores, members, axis=1, mode="promise_in_bounds")
    found = _nan_first(found).reshape(events, GROUP, k)
    values, column = _highest(found, best, k)
    return values, jnp.take_along_axis(members, column, 1, mode="promise_in_bounds")


def _nan_first(scores: jax.Array) -> jax.Array:
    """Gives NaN the sign with which ``lax.top_k`` takes it for the highest."""
    return jnp.where(jnp.isnan(scores), jnp.nan, scores)


def _maxima(scores: jax.Array) -> jax.Array:
    """[N, members, groups] -> [N, groups]; NaN where there is one.

    ``jnp.max`` loses NaN on a CPU.
    """

    def higher(one: jax.Array, other: jax.Array) -> jax.Array:
        return jnp.where((one >= other) | jnp.isnan(one), one, other)

    lowest = np.array(-np.inf, scores.dtype)
    return _nan_first(lax.reduce(scores, lowest, higher, (1,)))


def _highest(
    scores: jax.Array, maxima: jax.Array, k: int
) -> tuple[jax.Array, jax.Array]:
    """The k highest of rows whose columns are put in order by what is known of them.

    Args:
      scores: [N, members, groups].
      maxima: [N, groups] of the groups; they go first.
      k: how many.

    Returns:
      [N, k] values and their numbers among members · groups.
    """
    events, size, groups = scores.shape
    member = lax.broadcasted_iota(jnp.int32, scores.shape, 1)
    is_highest = (scores == maxima[:, None]) | jnp.isnan(scores)
    first = jnp.where(is_highest, member, size).min(1)
    # A maximum is taken out of its group, where it is found first. What replaces it is
    # below all scores, or a group of which nothing counts could be found twice.
    others = jnp.where(member == first[:, None], -jnp.inf, scores)
    ordered = jnp.concatenate([maxima, others.reshape(events, -1)], axis=1)
    values, found = lax.top_k(ordered, k)
    group = jnp.minimum(found, groups - 1)
    inside = jnp.take_along_axis(first, group, axis=1, mode="promise_in_bounds")
    return values, jnp.where(found < groups, inside * groups + found, found - groups)
