"""What every model is to the rest: two pure functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax


class Encoder(NamedTuple):
    """An encoder as two pure functions.

    Attributes:
      init: ``key -> params``.
      encode: ``(params, inputs, session, position, dropout_key=None) -> hidden``: from
        the item embeddings [N, hidden] of a packed stream, its session numbers [N] and
        positions [N] to hidden states [N, hidden]; without a key nothing is dropped.
    """

    init: Callable[[jax.Array], Any]
    encode: Callable[..., jax.Array]
