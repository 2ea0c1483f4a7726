"""How often items are clicked in training: what popularity samplers and logQ go by."""

from __future__ import annotations

from typing import NamedTuple

import jax


class Popularity(NamedTuple):
    """Counts of the training clicks, and the alias table of a power of them.

    A step takes it as an argument, since arrays of this size are no constants for a
    compiler.

    Attributes:
      log_count: [num_items + 1] float32, log of the clicks of each item, at least one.
      threshold: [num_items] float32 in [0, 1]: column i keeps item i + 1 below it.
      alias: [num_items] int32 item id that the column gives otherwise.
    """

    log_count: jax.Array
    threshold: jax.Array
    alias: jax.Array
