"""What items are scored by: hidden states, and corrections of a few scores each."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from tron_jax.models.encoder import Corrections, correct_nothing


class Queries(NamedTuple):
    """Predictions whose items are to be scored.

    The score of an item is the product of its row with the hidden state, and of the few
    items that are corrected what is added to it.

    Attributes:
      hidden: [n, hidden].
      corrections: [n, m] items, and what is added to their scores; m may be 0.
    """

    hidden: jax.Array
    corrections: Corrections


def plain(hidden: jax.Array) -> Queries:
    """Queries of which nothing is corrected."""
    clicks = jnp.zeros((len(hidden), 0), jnp.int32)
    return Queries(hidden, correct_nothing((), clicks))


def shapes_of(queries: Queries) -> Queries:
    """Their shapes and dtypes, as a compiler needs them; what it gives will do."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), queries)


def corrected(scores: jax.Array, columns: jax.Array, added: jax.Array) -> jax.Array:
    """Adds corrections to some of a block of scores.

    Args:
      scores: [n, items].
      columns: [n, m] which of the items are corrected, distinct in a row; others than
        0..items - 1 are of other blocks.
      added: [n, m] what is added to their scores.

    Returns:
      [n, items].
    """
    if not columns.shape[1]:
        return scores
    inside = (columns >= 0) & (columns < scores.shape[1])
    # Distinct beyond the end as well, so that no order of additions matters.
    beyond = scores.shape[1] + jnp.arange(columns.shape[1])
    columns = jnp.where(inside, columns, beyond)
    # Of an exported program the number of rows is no number yet, so no ``len``.
    rows = jnp.arange(scores.shape[0])[:, None]
    return scores.at[rows, columns].add(added, mode="drop", unique_indices=True)
