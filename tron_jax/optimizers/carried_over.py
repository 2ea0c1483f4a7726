"""What an item table's optimizer has learnt, carried over to another run.

Rows may be others there, the table may be updated in another way, and the run counts
its steps from 0. Adam divides its moments by 1 - β^t, where t is how many updates they
were made of, and rows that sleep are caught up by it; a schedule reads it too. So t
goes on where it was while the run's steps, by which it draws and shuffles, begin anew:
``continued`` adds the two up.

With the run's own steps for t, moments that are kept would be divided as if they were
a few updates old: at update 1 + s of the run each movement would be √(1 - β2^(1+s)) /
(1 - β1^(1+s)) of what it should be (0.32 of it at first, 0.15 after ten updates), and
rows would have slept a negative number of updates.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tron_jax.optimizers.item_table import (
    AdamState,
    DenseState,
    RowAdagradState,
    RowOptimizer,
    Rows,
)


class ContinuedState(NamedTuple):
    """State of an optimizer that has made updates before the run.

    Attributes:
      state: of the optimizer.
      before: scalar int32, updates made before step 0 of the run.
    """

    state: Any
    before: jax.Array

    @property
    def table(self) -> jax.Array:
        """The rows, as every state of an item table has them."""
        return self.state.table


class WholeTable(NamedTuple):
    """A table and its moments, all rows as of the same update.

    Attributes:
      values: [num_items + 1, width].
      moments: arrays of that shape: Adam's first and second moment; of Adagrad the sums
        of squares and, with momentum, the last movement.
      updates: that made them.
    """

    values: np.ndarray
    moments: tuple[np.ndarray, ...]
    updates: int


def continued(optimizer: RowOptimizer) -> RowOptimizer:
    """An optimizer whose count of updates is its own, apart from the run's steps.

    Args:
      optimizer: any.

    Returns:
      The same, but that ``step`` of its ``read`` and ``update`` is the run's; its state
      is a ``ContinuedState``, in which ``init`` says that there were no updates before.
    """

    def init(table: jax.Array) -> ContinuedState:
        return ContinuedState(optimizer.init(table), jnp.zeros((), jnp.int32))

    def read(whole: ContinuedState, ids: jax.Array | None, step: jax.Array) -> Rows:
        return optimizer.read(whole.state, ids, step + whole.before)

    def update(whole: ContinuedState, ids, rows, gradients, step) -> ContinuedState:
        number = step + whole.before
        state = optimizer.update(whole.state, ids, rows, gradients, number)
        return ContinuedState(state, whole.before)

    return RowOptimizer(init, read, update)


def take(optimizer: RowOptimizer, state: Any, step: int) -> WholeTable:
    """Takes a table out of the form that its optimizer has it in.

    Rows that sleep are caught up, all at once: for a moment there are two tables with
    their moments on the device, and one on the host.

    Args:
      optimizer: of the state; it reads rows as the table has them, unlike
        ``normalised``.
      state: of the item table.
      step: of the run that the state is of.

    Returns:
      The table, on the host.
    """
    rows: Rows = jax.jit(optimizer.read)(state, None, jnp.int32(step))
    updates = step
    if isinstance(state, ContinuedState):
        updates += int(state.before)
        state = state.state
    if isinstance(state, DenseState):
        adam, _ = state.opt
        moments, updates = (adam.mu, adam.nu), int(adam.count)
    elif isinstance(state, AdamState):
        moments = rows.statistics[:2]  # the third is when a row was last updated
    else:
        moments = rows.statistics
    return WholeTable(
        np.asarray(rows.values), tuple(np.asarray(m) for m in moments), updates
    )


def place(whole: WholeTable, like: Any) -> Any:
    """Puts a table into the form that another optimizer has it in.

    Args:
      whole: the table.
      like: a state of that optimizer, by its ``init``, to be replaced.

    Returns:
      The state, in arrays of its own on the device.

    Raises:
      ValueError: where the optimizer keeps other moments.
    """
    count = jnp.array(whole.updates, jnp.int32)
    if isinstance(like, ContinuedState):
        return ContinuedState(place(whole, like.state), count)
    table = jnp.array(whole.values)
    moments = tuple(jnp.array(m) for m in whole.moments)
    if isinstance(like, RowAdagradState) and len(moments) == len(like.memory):
        return RowAdagradState(table, moments)
    if isinstance(like, AdamState) and len(moments) == 2:
        return AdamState(table, *moments, jnp.full(len(table), count))
    if isinstance(like, DenseState) and len(moments) == 2:
        adam, rate = like.opt
        adam = adam._replace(count=count, mu=moments[0], nu=moments[1])
        return DenseState(table, (adam, rate._replace(count=jnp.copy(count))))
    raise ValueError(f"{len(moments)} moments do not fit {type(like).__name__}")


def choose_rows(whole: WholeTable, origin: np.ndarray, fresh: np.ndarray) -> WholeTable:
    """Makes the table of other items.

    Args:
      whole: of the old items.
      origin: [rows] int32, the old row of each new one; -1 = there is none.
      fresh: [rows, width] what the others begin as. They have moments of 0, like items
        that are first met late in a run: by Adam their first movement is (1 - β1) /
        √(1 - β2) times the learning rate, 3.2 times.

    Returns:
      The table, with ``rows`` rows.
    """
    known = (origin >= 0)[:, None]
    old = np.maximum(origin, 0)
    return WholeTable(
        np.where(known, whole.values[old], fresh),
        tuple(np.where(known, m[old], 0).astype(m.dtype) for m in whole.moments),
        whole.updates,
    )
