"""How an evaluation reads an item table that one device holds, or many share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from tron_jax.evaluation.ranking import Own, ReadRows


class Spread(NamedTuple):
    """What the programs of an evaluation are built with.

    Attributes:
      read: reads any rows, on whichever device they lie.
      own: the items that a device ranks among; None = all.
      compiled: jits a function of one device for all of them, from the function, the
        place of the table's state among its arguments, how many those are, and the
        places of those that it may overwrite.
    """

    read: ReadRows
    own: Own | None
    compiled: Callable[[Callable[..., Any], int, int, tuple[int, ...]], Any]


def on_one_device(read_rows: ReadRows) -> Spread:
    """Of a table that lies on one device.

    Args:
      read_rows: ``(table_state, ids, step) -> rows``, pure.
    """

    def compiled(
        function: Callable[..., Any], table: int, arguments: int, donated: tuple
    ) -> jax.stages.Wrapped:
        del table, arguments
        return jax.jit(function, donate_argnums=donated)

    return Spread(read_rows, None, compiled)
