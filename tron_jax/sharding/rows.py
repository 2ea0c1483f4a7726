"""The rows of a divided item table: read and updated by the devices that hold them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import PartitionSpec as P

from tron_jax.evaluation.ranking import Own, ReadRows
from tron_jax.evaluation.spread import Spread
from tron_jax.optimizers.carried_over import ContinuedState
from tron_jax.optimizers.item_table import DenseState, RowOptimizer, Rows
from tron_jax.optimizers.touched import Touched
from tron_jax.sharding.shards import AXIS, Shards


def divided(item_tx: RowOptimizer, shards: Shards) -> RowOptimizer:
    """Makes of a table's optimizer that of a device's part, within ``Shards.over``.

    Rows are read where they lie; those that a device does not hold are 0 to it, until
    they are shared (``share_all``, ``share_events``). It updates its own.

    Args:
      item_tx: of a whole table.
      shards: the division.

    Returns:
      The optimizer, whose state is the device's part, and whose ids are never None.
    """

    def read(state: Any, ids: jax.Array | None, step: jax.Array) -> Rows:
        assert ids is not None, "a divided table is read by rows"
        rows = item_tx.read(state, shards.own(ids), step)
        held = shards.holds(ids)[:, None]
        return rows._replace(values=jnp.where(held, rows.values, 0))

    def update(state: Any, ids, rows: Rows, gradients, step) -> Any:
        own = shards.own(ids)
        one = state.state if isinstance(state, ContinuedState) else state
        if not isinstance(one, DenseState):
            return item_tx.update(state, own, rows, gradients, step)
        of_all = jnp.zeros_like(state.table).at[own].set(gradients, mode="drop")
        after = item_tx.update(
            state, None, item_tx.read(state, None, step), of_all, step
        )
        return _if_made(ids, after, state, shards)

    return RowOptimizer(item_tx.init, read, update)


def divided_whole(item_tx: RowOptimizer, shards: Shards) -> RowOptimizer:
    """The same for steps that are about all items.

    Behind the [R, width] rows of the ids, rows have the whole part of the device, and
    so do gradients by them.

    Args:
      item_tx: of a whole table.
      shards: the division.

    Returns:
      The optimizer, within ``Shards.over``.
    """
    some = divided(item_tx, shards)

    def read(state: Any, ids: jax.Array | None, step: jax.Array) -> Rows:
        whole = item_tx.read(state, None, step)
        values = jnp.concatenate([some.read(state, ids, step).values, whole.values])
        return whole._replace(values=values)

    def update(state: Any, ids, rows: Rows, gradients, step) -> Any:
        whole = rows._replace(values=rows.values[len(ids) :])
        # Added up where they are: to cut them out first would copy all.
        own = jnp.where(shards.holds(ids), ids - shards.first(), len(rows.values))
        of_all = gradients.at[len(ids) + own].add(gradients[: len(ids)], mode="drop")
        after = item_tx.update(state, None, whole, of_all[len(ids) :], step)
        return _if_made(ids, after, state, shards)

    return RowOptimizer(item_tx.init, read, update)


def _if_made(ids: jax.Array, after: Any, before: Any, shards: Shards) -> Any:
    """The state after a step, unless it is not made, see ``Touched.if_made``."""
    made = ids[0] < shards.all_rows
    return jax.tree.map(lambda new, old: jnp.where(made, new, old), after, before)


def share_all(rows: Rows, touched: Touched) -> Rows:
    """Gives every device all rows of a step, to the bit as one device would read them.

    All but one of the devices have 0 of each, so that they are added up.
    """
    assert touched.ids is not None
    of_ids, own = jnp.split(rows.values, [len(touched.ids)])
    return rows._replace(values=jnp.concatenate([lax.psum(of_ids, AXIS), own]))


def share_events(rows: Rows, touched: Touched) -> Rows:
    """The same of the rows of inputs and labels; drawn ones stay where they are."""
    numbers = jnp.concatenate([touched.inputs, touched.labels])
    values = lax.psum(rows.values[numbers], AXIS)
    return rows._replace(values=rows.values.at[numbers].set(values))


def spread(read_rows: ReadRows, shards: Shards, specs: Any) -> Spread:
    """How an evaluation reads a divided table.

    Args:
      read_rows: of a whole table.
      shards: the division.
      specs: the partitions of the table's state.
    """

    def compiled(
        function: Callable[..., Any], table: int, arguments: int, donated: tuple
    ) -> jax.stages.Wrapped:
        takes = [specs if i == table else P() for i in range(arguments)]
        return jax.jit(shards.over(function, takes, P()), donate_argnums=donated)

    own = own_items(read_rows, shards)
    return Spread(reader(own.read, shards), own, compiled)


def reader(read_own: ReadRows, shards: Shards) -> ReadRows:
    """Reads any rows of a divided table on every device, within ``Shards.over``.

    Args:
      read_own: of the rows that a device holds; what it makes of others is not used.
      shards: the division.
    """

    def read(state: Any, ids: jax.Array, step: jax.Array) -> jax.Array:
        return _added_up(read_own(state, ids, step), shards.holds(ids))

    return read


def _added_up(rows: jax.Array, held: jax.Array) -> jax.Array:
    """[n, width] rows, each as the one device has it that holds it."""
    return lax.psum(jnp.where(held[..., None], rows, 0), AXIS)


def own_items(read_rows: ReadRows, shards: Shards) -> Own:
    """The items that a device ranks among, within ``Shards.over``."""

    def read(state: Any, ids: jax.Array, step: jax.Array) -> jax.Array:
        own = jnp.clip(ids - shards.first(), 0, shards.rows - 1)
        return read_rows(state, own, step)

    return Own(shards.first, shards.rows, read, lambda counts: lax.psum(counts, AXIS))
