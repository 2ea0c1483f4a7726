"""The serving form of a model: sessions a line each in, the best items out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from tron_jax.data.packing import Position
from tron_jax.models.encoder import Encoder
from tron_jax.serving import tables
from tron_jax.serving.tables import ItemTable

# (params, rows of the items [sessions, T, width], lengths [sessions])
# -> hidden states [sessions, hidden]
LastHidden = Callable[[Any, jax.Array, jax.Array], jax.Array]
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


def make_last_hidden(
    encoder: Encoder, *, max_session_length: int, position: Position
) -> LastHidden:
    """Builds the function that gives the hidden state after each session's last click.

    Rows are float32 and may be followed by any others; lengths are 1..T. An encoder
    that sees a session at once takes at most ``max_session_length`` clicks, which are
    the last ones of a longer session. All is float32.

    Args:
      encoder: of the model.
      max_session_length: the most positions.
      position: numbering of the positions.

    Returns:
      The pure function.
    """

    def last_hidden(params: Any, rows: jax.Array, lengths: jax.Array) -> jax.Array:
        place = jnp.arange(rows.shape[1])[None]
        if position == "from_end":
            place = place + (max_session_length - lengths)[:, None]
        place = jnp.clip(place, 0, max_session_length - 1)
        place = jnp.broadcast_to(place, rows.shape[:2])
        # Float32 is not float32 on an accelerator otherwise.
        with jax.default_matmul_precision("highest"):
            hidden = encoder.encode_rows(params, rows, place)
        return jnp.take_along_axis(hidden, (lengths - 1)[:, None, None], axis=1)[:, 0]

    return last_hidden


def make_scorer(last_hidden: LastHidden, *, k: int) -> Score:
    """Builds the function that recommends after the last click of each session.

    Items are int32, padded at the end by anything that is an item or 0; lengths are
    1..T.

    Args:
      last_hidden: see ``make_last_hidden``.
      k: items to find, at most num_items.

    Returns:
      The pure function; of equal scores the lower item comes first.
    """

    def score(
        weights: Weights, items: jax.Array, lengths: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        rows = tables.read_rows(weights.table, items)
        last = last_hidden(weights.params, rows, lengths)
        with jax.default_matmul_precision("highest"):
            scores = tables.score_items(weights.table, last)
        best, index = lax.top_k(scores, k)
        return best, index + 1

    return score
