"""What every model is to the rest of the program: a few pure functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class StreamPart(NamedTuple):
    """One of the equal parts into which the inputs of a step are divided.

    Attributes:
      number: () -> which it is, from 0 on, a scalar.
      before: from an array to the last element of its first axis in the part before;
        0 in the first part.
    """

    number: Callable[[], jax.Array]
    before: Callable[[jax.Array], jax.Array]


class Corrections(NamedTuple):
    """What is added to the scores of a few items, besides what vectors say.

    Attributes:
      items: [..., m] int32, distinct where they are not 0, which is no item.
      added: [..., m] float32; 0 where there is no item.
    """

    items: jax.Array
    added: jax.Array


def added_to(corrections: Corrections, items: jax.Array) -> jax.Array:
    """What is added to the score of one item: [..., m] and [...] -> [...]."""
    is_item = (corrections.items == items[..., None]) & (items > 0)[..., None]
    return jnp.sum(jnp.where(is_item, corrections.added, 0), axis=-1)


def correct_nothing(params: Any, clicks: jax.Array) -> Corrections:
    """Of a model whose scores are products of vectors alone; m is 0."""
    del params
    none = clicks[..., :0]
    return Corrections(none, none.astype(jnp.float32))


class Encoder(NamedTuple):
    """An encoder as pure functions.

    Attributes:
      init: ``key -> params``.
      init_table: ``(key, num_rows, part=None) -> [num_rows, width]``, the first item
        table, or a part of its rows (``initializers.Part``); an input is a row of it,
        and a score its product with a hidden state, plus what ``correct`` adds.
      init_carry: ``num_sessions -> carry``, the carried state before the first step;
        ``()`` for an encoder that sees whole sessions.
      encode: ``(params, carry, inputs, session, position, dropout_key=None) -> (hidden,
        carry)``: from the rows [N, width] of the inputs, their session numbers [N] and
        positions [N] to float32 hidden states [N, width]. A key means training: it
        decides what is dropped, and matmuls and activations have the encoder's compute
        dtype. Without a key nothing is dropped and all is float32. No gradient flows
        through a carry. With ``part=StreamPart`` it is given a part of the inputs and
        of the carry, and gives what it would have given of that part among all.
      encode_rows: ``(params, inputs, position) -> hidden``: the same without dropout,
        a session a line, padded at its end: from the rows [sessions, T, width] of
        inputs and their positions [sessions, T] to hidden states [sessions, T, width].
        Those of padding are meaningless, and touch no others.
      unit: what the size of a part must be a multiple of.
      correct: ``(params, clicks) -> Corrections`` of the scores after the last clicks
        of sessions, [..., ``repeats.RECENT``], the last one first; 0 = there was none.
    """

    init: Callable[[jax.Array], Any]
    init_table: Callable[..., jax.Array]
    init_carry: Callable[[int], Any]
    encode: Callable[..., tuple[jax.Array, Any]]
    encode_rows: Callable[[Any, jax.Array, jax.Array], jax.Array]
    unit: int
    correct: Callable[[Any, jax.Array], Corrections] = correct_nothing
