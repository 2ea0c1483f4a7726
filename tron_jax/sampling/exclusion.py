"""Items that a sampler leaves out, and those that it drew twice."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

BEYOND = jnp.iinfo(jnp.int32).max  # fills ascending numbers up to their static length


class Excluded(NamedTuple):
    """Items that groups of events leave out.

    Attributes:
      items: [E, n] int32 ascending, distinct in front, then larger than any item; E = 1
        where all groups leave out the same, else their number.
      count: [E] int32, how many stand in front.
    """

    items: jax.Array
    count: jax.Array


def distinct(items: jax.Array, num_items: int) -> Excluded:
    """Sorts out the distinct items of each row.

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


def search(ascending: jax.Array, values: jax.Array, side: str) -> jax.Array:
    """``searchsorted`` row by row: [E, n], [G, k] -> [G, k]; E = 1 or G."""
    if len(ascending) == 1:
        return jnp.searchsorted(ascending[0], values, side=side)
    rows = jax.vmap(lambda row, value: jnp.searchsorted(row, value, side=side))
    return rows(ascending, values)


def skip(excluded: Excluded, draws: jax.Array) -> jax.Array:
    """Numbers the items that are left, by index arithmetic.

    Of the excluded items e_0 < e_1 < …, those with e_i - 1 - i ≤ j stand before the
    j-th smallest item that is left.

    Args:
      excluded: what is left out.
      draws: [G, k] numbers j, from 0 on, below the number of items left.

    Returns:
      [G, k] item ids.
    """
    place = jnp.arange(excluded.items.shape[1])
    shifted = excluded.items - 1 - place
    shifted = jnp.where(place < excluded.count[:, None], shifted, BEYOND)
    return 1 + draws + search(shifted, draws, "right")


def holds(ascending: jax.Array, ids: jax.Array) -> jax.Array:
    """Says which ids are in their row: [E, n], [G, k] -> [G, k] bool; E = 1 or G."""
    last = ascending.shape[1] - 1
    if last < 0:
        return jnp.zeros(ids.shape, bool)
    place = jnp.minimum(search(ascending, ids, "left"), last)
    if len(ascending) == 1:
        return ascending[0][place] == ids
    return jnp.take_along_axis(ascending, place, axis=1) == ids


def first_of_equals(ids: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Finds the first of equal ids in each row.

    Args:
      ids: [G, k] ids.

    Returns:
      [G, k] bool, true where no equal id stands before in the row, and the rows in
      ascending order.
    """
    # Sorting with places would do without the search, but takes four times as long.
    ordered = jnp.sort(ids, axis=1)
    run = search(ordered, ids, "left")
    row = jax.lax.broadcasted_iota(jnp.int32, ids.shape, 0)
    place = jax.lax.broadcasted_iota(jnp.int32, ids.shape, 1)
    first = jnp.full(ids.shape, ids.shape[1], jnp.int32).at[row, run].min(place)
    return jnp.take_along_axis(first, run, axis=1) == place, ordered
