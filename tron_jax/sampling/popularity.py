"""How often items are clicked in training: what popular negatives and logQ go by."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tron_jax.sampling import even

COLUMN = 2**32  # chances that a column of an alias table has to give
CHUNK = 1 << 24  # clicks counted at a time: a memory map may be larger than memory


class ClickCounts(NamedTuple):
    """How often items are clicked in training.

    Attributes:
      log_count: [num_items + 1] float32, log of the clicks of each item, at least one.
      log_total: scalar float32, log of all clicks.
    """

    log_count: Any
    log_total: Any


class Popularity(NamedTuple):
    """The alias table of a power of the clicks, and their counts.

    Attributes:
      log_count: [num_items + 1] float32, log of the clicks of each item, at least one.
      threshold: [num_items] uint32: column i gives item i + 1 where 32 random bits are
        below it.
      alias: [num_items] int32 item id that the column gives otherwise.
      log_total_power: scalar float32, log of the sum of clicks^exponent.
    """

    log_count: Any
    threshold: Any
    alias: Any
    log_total_power: Any


def count_clicks(train_items: np.ndarray, num_items: int) -> np.ndarray:
    """Counts the clicks of each item.

    Args:
      train_items: [clicks] item ids 1..num_items of the training split.
      num_items: the largest item id.

    Returns:
      [num_items + 1] int64.

    Raises:
      ValueError: if there is no click.
    """
    counts = np.zeros(num_items + 1, np.int64)
    for start in range(0, len(train_items), CHUNK):
        chunk = train_items[start : start + CHUNK]
        counts += np.bincount(chunk, minlength=num_items + 1)
    if not counts[1:].any():
        raise ValueError("no clicks, so no item is popular")
    return counts


def make_click_counts(train_items: np.ndarray, num_items: int) -> ClickCounts:
    """Takes the logarithm of the clicks; an item without one counts as clicked once.

    Args:
      train_items: [clicks] item ids 1..num_items of the training split.
      num_items: the largest item id.

    Returns:
      The counts, as NumPy arrays.

    Raises:
      ValueError: if there is no click.
    """
    counts = count_clicks(train_items, num_items)
    return ClickCounts(_log_count(counts), _log(counts[1:].sum()))


def make_popularity(
    train_items: np.ndarray, num_items: int, exponent: float
) -> Popularity:
    """Prepares draws in proportion to clicks^exponent.

    An item without a click is never drawn, whatever the exponent, and counts as
    clicked once in ``log_count``. Every other item is reachable: 32-bit thresholds
    are exact to 2^-32 of a column, where a cumulative sum in float32 would skip half
    of two million items.

    Args:
      train_items: [clicks] item ids 1..num_items of the training split.
      num_items: the largest item id.
      exponent: 1 = in proportion to clicks, 0 = every clicked item alike.

    Returns:
      The popularity, as NumPy arrays.

    Raises:
      ValueError: if there is no click.
    """
    counts = count_clicks(train_items, num_items)
    clicked = counts[1:] > 0
    weights = np.where(clicked, np.maximum(counts[1:], 1) ** float(exponent), 0.0)
    return Popularity(_log_count(counts), *alias_table(weights), _log(weights.sum()))


def _log_count(counts: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(counts, 1)).astype(np.float32)


def _log(total: np.number) -> np.float32:
    return np.float32(np.log(total))


def alias_table(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Columns of equal chance that give item i + 1 in proportion to its weight.

    With weights scaled to a mean of 1, an item below it leaves room in its column
    and one above it has too much for its own. Both are laid end to end: the room in
    front of a column's room says which of the large items fills it, and a large item
    that gave away more than it had too much is filled up by the next.

    Args:
      weights: [num_items] at least 0, some positive.

    Returns:
      [num_items] thresholds and [num_items] item ids, as in ``Popularity``.

    Source: Walker's alias method; laid out in one sweep, Hübschle-Schneider and
    Sanders, "Parallel weighted random sampling" (2019).
    """
    share = weights * (len(weights) / weights.sum())
    # No item is above its own mean where all are alike, if rounding has its way.
    share = np.where(weights == weights.max(), np.maximum(share, 1), share)
    small, large = np.flatnonzero(share < 1), np.flatnonzero(share >= 1)
    room, excess = np.cumsum(1 - share[small]), np.cumsum(share[large] - 1)
    last = len(large) - 1
    alias, keep = np.arange(len(weights)), np.ones(len(weights))
    before = np.concatenate([[0.0], room[:-1]])[: len(small)]
    filler = np.minimum(np.searchsorted(excess, before, side="right"), last)
    alias[small], keep[small] = large[filler], share[small]
    # The small item that takes a large one's last excess, and what it takes too much;
    # none does where its room begins just where the excess ends.
    breaker = np.searchsorted(room, excess[:-1])
    takes = np.append(before, np.inf)[breaker] < excess[:-1]
    broken = np.flatnonzero(takes)
    lent = room[breaker[broken]] - excess[broken]
    alias[large[broken]], keep[large[broken]] = large[broken + 1], 1 - lent
    threshold = np.clip(np.rint(keep * COLUMN), 0, COLUMN - 1)
    threshold = np.where(weights > 0, np.maximum(threshold, 1), 0)
    full = keep >= 1
    alias[full] = np.flatnonzero(full)
    return threshold.astype(np.uint32), (alias + 1).astype(np.int32)


def draw(key: jax.Array, shape: tuple[int, ...], popularity: Popularity) -> jax.Array:
    """Draws items in proportion to clicks^exponent, with replacement.

    Args:
      key: of this step's stream.
      shape: of the result; the axis that grows with the events comes first.
      popularity: of the items.

    Returns:
      int32 item ids.

    Source: GRU4Rec's popularity-based sampling (``sample_alpha``).
    """
    column_key, bits_key = jax.random.split(key)
    size = popularity.alias.size
    columns = even.between(column_key, shape, 0, size, size)
    bits = jax.random.bits(bits_key, shape, jnp.uint32)
    own = bits < look_up(popularity.threshold, columns)
    return jnp.where(own, columns + 1, look_up(popularity.alias, columns))


def look_up(array: Any, ids: jax.Array) -> jax.Array:
    """Returns elements of an array of ``Popularity`` or ``ClickCounts``.

    Args:
      array: of NumPy or JAX, or one that devices share (``sharding.look_ups``).
      ids: [...] indices.

    Returns:
      [...] elements.
    """
    if isinstance(array, np.ndarray):  # which a tracer cannot index
        array = jnp.asarray(array)
    return array[ids]
