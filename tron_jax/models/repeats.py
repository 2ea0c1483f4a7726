"""Corrections of the scores of items that a session has clicked already.

Of the clicks to predict a fifth (Diginetica) to a quarter (Yoochoose) go back to such
an item, yet training says little of when: TRON's negatives leave the session's own
items out, and to have them in does harm, as what is pushed away then is all that is
similar to the session. So their scores are corrected by what no vector can say: how
many clicks ago the item was, and how many of the last clicks were repeats.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from tron_jax.models.encoder import Corrections, Encoder

RECENT = 10  # clicks of which the items are corrected, the last ones
MOST = 4  # repeats among them that are told apart; more count as so many
# What a parameter of 1 adds. Adam moves any by the rate at most, whatever its gradient,
# and these have to come to about 1 within an epoch.
FASTER = 10.0
PARAMS = "repeats"  # their name among the encoder's parameters


def init() -> dict[str, jax.Array]:
    """Parameters that correct nothing."""
    return {"recency": jnp.zeros(RECENT), "repeats": jnp.zeros(MOST + 1)}


def correct(params: Any, clicks: jax.Array) -> Corrections:
    """Corrects the items of a session's last clicks.

    Args:
      params: of the encoder.
      clicks: [..., m] int32, the last click first; 0 = there was none.

    Returns:
      The items, each where it was clicked last, and 0 elsewhere; of them is corrected
      what ``params`` have for the number of clicks since, plus what they have for the
      number of repeats among the clicks.

    Source: ours. Others mix a distribution over the session's items into that over
    all, such as RepeatNet (Ren et al., 2019); this leaves a rank one pass of counting.
    """
    weights = params[PARAMS]
    known = clicks > 0
    same = clicks[..., :, None] == clicks[..., None, :]
    later = jnp.tri(clicks.shape[-1], k=-1, dtype=bool)
    again = jnp.any(same & later, axis=-1) & known
    repeats = jnp.minimum(again.sum(-1), MOST)
    added = weights["recency"] + weights["repeats"][repeats][..., None]
    items = jnp.where(again, 0, clicks)
    return Corrections(items, jnp.where(items > 0, FASTER * added, 0))


def last_clicks(items: jax.Array, session: jax.Array) -> jax.Array:
    """The last clicks of a session, of each input of a stream.

    Args:
      items: [N] int32 inputs, session after session.
      session: [N] session of each.

    Returns:
      [N, RECENT] int32, the input itself first; 0 before the session's first.
    """
    columns = [
        jnp.where(_before(session, i, -1) == session, _before(items, i), 0)
        for i in range(RECENT)
    ]
    return jnp.stack(columns, axis=1)


def scores_of_last(hidden: jax.Array, inputs: jax.Array) -> jax.Array:
    """Scores, without corrections, of what ``last_clicks`` gives.

    Args:
      hidden: [N, hidden] of each input of a stream.
      inputs: [N, hidden] rows of the inputs.

    Returns:
      [N, RECENT]; of another session's input where there was no click.
    """
    columns = [jnp.sum(hidden * _before(inputs, i), axis=1) for i in range(RECENT)]
    return jnp.stack(columns, axis=1)


def _before(x: jax.Array, clicks: int, fill: int = 0) -> jax.Array:
    """What stood so many inputs earlier in the stream, [N, …]."""
    widths = [(clicks, 0)] + [(0, 0)] * (x.ndim - 1)
    return jnp.pad(x, widths, constant_values=fill)[: len(x)]


def last_clicks_of_rows(items: jax.Array, lengths: jax.Array) -> jax.Array:
    """The same after the last click of sessions that are a line each.

    Args:
      items: [sessions, T] int32, padded at the end by anything.
      lengths: [sessions] clicks of each, at least 1.

    Returns:
      [sessions, RECENT] int32.
    """
    place = lengths[:, None] - 1 - jnp.arange(RECENT)
    clicks = jnp.take_along_axis(items, jnp.maximum(place, 0), axis=1)
    return jnp.where(place >= 0, clicks, 0)


def with_repeats(encoder: Encoder) -> Encoder:
    """Lets an encoder correct the items of a session's last clicks."""

    def init_both(key: jax.Array) -> Any:
        return {**encoder.init(key), PARAMS: init()}

    return encoder._replace(init=init_both, correct=correct)
