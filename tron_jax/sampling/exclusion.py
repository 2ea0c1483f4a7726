"""Items that are not to be drawn, and those that were drawn twice."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from tron_jax.data.packing import Batch
from tron_jax.searching import searchsorted

BEYOND = jnp.iinfo(jnp.int32).max  # fills ascending numbers up to their static length


class Excluded(NamedTuple):
    """Items that are left out of the draws for each group of events.

    Attributes:
      items: [E, n] int32 ascending: the distinct items, then a number larger than any
        item; E = 1 where all groups leave out the same, else the number of groups.
      count: [E] int32, how many distinct items there are.
    """

    items: jax.Array
    count: jax.Array


def distinct(items: jax.Array, num_items: int) -> Excluded:
    """Finds the distinct items of each row.

    Args:
      items: [E, n] items; 0 = padding, which is no item and needs no excluding.
      num_items: the largest item id.

    Returns:
      What ``skip`` leaves out.
    """
    beyond = num_items + 1
    ordered = jnp.sort(jnp.where(items == 0, beyond, items), axis=1)
    first = ordered[:, :1] < 0
    repeated = jnp.concatenate([first, ordered[:, 1:] == ordered[:, :-1]], axis=1)
    items = jnp.sort(jnp.where(repeated, beyond, ordered), axis=1)
    return Excluded(items, jnp.sum(items < beyond, axis=1, dtype=jnp.int32))


def exclude_session(
    batch: Batch, members: jax.Array, group_session: jax.Array, num_items: int
) -> Excluded:
    """Excludes the inputs of a session from what is drawn for it or its events.

    Args:
      batch: the events.
      members: [sessions, L] positions in the stream of each session's events.
      group_session: [groups] session that each group belongs to.
      num_items: the largest item id.

    Returns:
      What each group leaves out.
    """
    items = batch.items.at[members].get(mode="fill", fill_value=0)
    excluded = distinct(items, num_items)
    return Excluded(excluded.items[group_session], excluded.count[group_session])


def exclude_batch(
    batch: Batch, members: jax.Array, group_session: jax.Array, num_items: int
) -> Excluded:
    """Excludes all inputs of the batch from what is drawn; arguments as above."""
    return distinct(batch.items[None], num_items)


# (batch, members [sessions, L], a session of each group [groups], num_items)
EXCLUDES: dict[str, Callable[[Batch, jax.Array, jax.Array, int], Excluded | None]] = {
    "none": lambda batch, members, group_session, num_items: None,
    "session": exclude_session,
    "batch": exclude_batch,
}


def search(ascending: jax.Array, values: jax.Array, side: str) -> jax.Array:
    """``searchsorted`` row by row: [E, n], [G, k] -> [G, k]; E = 1 or G."""
    if len(ascending) == 1:
        return searchsorted(ascending[0], values, side)
    rows = jax.vmap(lambda row, value: searchsorted(row, value, side))
    return rows(ascending, values)


def skip(excluded: Excluded, draws: jax.Array) -> jax.Array:
    """Turns numbers into the items that are left, by index arithmetic.

    Of the excluded items e_0 < e_1 < …, those with e_i - 1 - i ≤ j come before the j-th
    smallest item that is left.

    Args:
      excluded: what is left out.
      draws: [G, k] numbers j, from 0 on, below the number of items left.

    Returns:
      [G, k] item ids.
    """
    index = jnp.arange(excluded.items.shape[1])
    shifted = excluded.items - 1 - index
    shifted = jnp.where(index < excluded.count[:, None], shifted, BEYOND)
    return 1 + draws + search(shifted, draws, "right")


def holds(ascending: jax.Array, ids: jax.Array) -> jax.Array:
    """Says which ids are in their row: [E, n], [G, k] -> [G, k] bool; E = 1 or G."""
    last = ascending.shape[1] - 1
    if last < 0:
        return jnp.zeros(ids.shape, bool)
    index = jnp.minimum(search(ascending, ids, "left"), last)
    if len(ascending) == 1:
        return ascending[0][index] == ids
    return jnp.take_along_axis(ascending, index, axis=1) == ids


def first_of_equals(ids: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Finds the first of equal ids in each row.

    Args:
      ids: [G, k] ids.

    Returns:
      [G, k] bool, true where no equal id comes before it in the row, and the rows in
      ascending order.
    """
    # Sorting ids together with their columns would need no search, but takes four times
    # as long.
    ordered = jnp.sort(ids, axis=1)
    run = search(ordered, ids, "left")
    row = jax.lax.broadcasted_iota(jnp.int32, ids.shape, 0)
    column = jax.lax.broadcasted_iota(jnp.int32, ids.shape, 1)
    first = jnp.full(ids.shape, ids.shape[1], jnp.int32).at[row, run].min(column)
    return jnp.take_along_axis(first, run, axis=1) == column, ordered
