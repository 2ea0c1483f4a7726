"""The serving form of a model: sessions a line each in, the best items out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from tron_jax.data.packing import Position
from tron_jax.evaluation.queries import Queries, corrected
from tron_jax.models.encoder import Encoder
from tron_jax.models.repeats import last_clicks_of_rows
from tron_jax.serving import tables
from tron_jax.serving.tables import ItemTable

# (params, items [sessions, T], their rows [sessions, T, width], lengths [sessions])
# -> queries of [sessions]
LastQueries = Callable[[Any, jax.Array, jax.Array, jax.Array], Queries]
# (weights, items [sessions, T], lengths [sessions]) -> scores and items [sessions, k]
Score = Callable[["Weights", jax.Array, jax.Array], tuple[jax.Array, jax.Array]]


class Weights(NamedTuple):
    """What a model has learnt.

    Attributes:
      params: of the encoder.
      table: [num_items + 1, width] item table, every row up to date, perhaps rounded
        (``tables.compacted``); row 0 is no item.
    """

    params: Any
    table: ItemTable


def make_last_queries(
    encoder: Encoder, *, max_session_length: int, position: Position
) -> LastQueries:
    """Builds the function that gives the query after each session's last click.

    Items may be followed by any others that are items or 0, and their rows by those;
    lengths are 1..T. An encoder that sees a session at once takes at most
    ``max_session_length`` clicks, which are the last ones of a longer session. All is
    float32.

    Args:
      encoder: of the model.
      max_session_length: the most positions.
      position: numbering of the positions.

    Returns:
      The pure function.
    """

    def last_queries(
        params: Any, items: jax.Array, rows: jax.Array, lengths: jax.Array
    ) -> Queries:
        place = jnp.arange(rows.shape[1])[None]
        if position == "from_end":
            place = place + (max_session_length - lengths)[:, None]
        place = jnp.clip(place, 0, max_session_length - 1)
        place = jnp.broadcast_to(place, rows.shape[:2])
        # Float32 is not float32 on an accelerator otherwise.
        with jax.default_matmul_precision("highest"):
            hidden = encoder.encode_rows(params, rows, place)
        hidden = jnp.take_along_axis(hidden, (lengths - 1)[:, None, None], axis=1)
        clicks = last_clicks_of_rows(items, lengths)
        return Queries(hidden[:, 0], encoder.correct(params, clicks))

    return last_queries


def make_scorer(last_queries: LastQueries, *, k: int) -> Score:
    """Builds the function that recommends after the last click of each session.

    Items are int32, padded at the end by anything that is an item or 0; lengths are
    1..T.

    Args:
      last_queries: see ``make_last_queries``.
      k: items to find, at most num_items.

    Returns:
      The pure function; of equal scores the lower item comes first.
    """

    def score(
        weights: Weights, items: jax.Array, lengths: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        rows = tables.read_rows(weights.table, items)
        hidden, corrections = last_queries(weights.params, items, rows, lengths)
        with jax.default_matmul_precision("highest"):
            scores = tables.score_items(weights.table, hidden)
        scores = corrected(scores, corrections.items - 1, corrections.added)
        best, index = lax.top_k(scores, k)
        return best, index + 1

    return score
