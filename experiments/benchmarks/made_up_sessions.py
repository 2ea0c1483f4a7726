"""Made-up training sessions in memory; their lengths do not depend on the catalogue."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from data_prep.made_up.profiles import PROFILES
from tron_jax.data.sessions import Sessions

_HEAD = 20.0  # the larger, the flatter the popularity of the most popular items


def make_sessions(profile: str, num_sessions: int, num_items: int) -> Sessions:
    """Draws sessions of a profile's lengths; clicks follow popularity alone.

    Args:
      profile: one of ``PROFILES``.
      num_sessions: how many.
      num_items: the largest item id.

    Returns:
      The same lengths whatever ``num_items`` is.
    """
    shape = PROFILES[profile]
    draw = np.random.default_rng(0)
    extra = draw.lognormal(shape.log_mean, shape.log_sd, num_sessions)
    lengths = np.minimum(2 + extra, shape.longest).astype(np.int32)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    # Shares of 1 / (rank + head), and popular items scattered over the table.
    u = draw.random(offsets[-1])
    ranks = (_HEAD * ((num_items + _HEAD) / _HEAD) ** u - _HEAD).astype(np.int64)
    items = 1 + (ranks * 2_654_435_761) % num_items
    return Sessions(
        items.astype(np.int32),
        offsets,
        pa.array(np.arange(num_sessions)),
        pa.nulls(num_sessions, pa.timestamp("us", tz="UTC")),
    )
