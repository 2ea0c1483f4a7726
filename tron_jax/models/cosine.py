"""Hidden states whose products with unit rows are cosines, times a scale."""

from __future__ import annotations

from typing import Any

import jax

from tron_jax.models.encoder import Encoder
from tron_jax.unit_vectors import unit


def cosine(encoder: Encoder, scale: float) -> Encoder:
    """Gives all hidden states one length.

    With rows of length 1 (``optimizers.normalised``), scores are then ``scale`` times
    the cosine of the angle between a session and an item: no item is high in every list
    because its row is long.

    Args:
      encoder: of the inputs.
      scale: the length, the inverse of the softmax's temperature.

    Returns:
      The encoder.

    Source: ours to choose; usual in retrieval, such as Wang et al., "NormFace" (2017).
    """

    def encode(*arguments: Any, **options: Any) -> tuple[jax.Array, Any]:
        hidden, carry = encoder.encode(*arguments, **options)
        return scale * unit(hidden), carry

    def encode_rows(*arguments: Any) -> jax.Array:
        return scale * unit(encoder.encode_rows(*arguments))

    return encoder._replace(encode=encode, encode_rows=encode_rows)
