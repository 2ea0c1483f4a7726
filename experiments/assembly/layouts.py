"""What a run's programs are built with, on one device or on several."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import PartitionSpec as P
from ml_collections import ConfigDict

from experiments.assembly import settings
from tron_jax import rng
from tron_jax.evaluation.ranking import ReadRows
from tron_jax.evaluation.spread import Spread
from tron_jax.models.encoder import Encoder
from tron_jax.models.initializers import Part
from tron_jax.objectives.full_softmax import make_full_softmax
from tron_jax.objectives.objective import FindHardest, Objective
from tron_jax.optimizers.item_table import RowOptimizer
from tron_jax.sampling.sources import Constants
from tron_jax.sharding import columns, events, full_softmax, look_ups, rows
from tron_jax.sharding.placement import OneDevice, OnMesh, Placement
from tron_jax.sharding.shards import Shards, over_devices
from tron_jax.steps import ShareRows, TrainState


class Layout(NamedTuple):
    """What differs with the number of devices.

    Attributes:
      init: () -> the state of step 0.
      item_tx: the item table's optimizer, as a train step calls it.
      num_items: the largest id that a train step may touch.
      whole_table: see ``steps.make_train_step``.
      divide: of the constants of sources, gives each device what it holds.
      on_all: from (state, dispatch, constants) -> (state, totals) of one device, and
        divided constants, to that of all.
      spread: what an evaluation reads the table by; None = as it lies.
      encoder: as a train step calls it.
      share: see ``steps.make_train_step``.
      hardest: see ``objective.make_objective``.
      full_softmax: makes the objective of that name, of ``num_items`` and its mean.
      placement: where states lie.
    """

    init: Callable[[], TrainState]
    item_tx: RowOptimizer
    num_items: int
    whole_table: bool | None
    divide: Callable[[Constants], Constants]
    on_all: Callable[[Callable[..., Any], Constants], Callable[..., Any]]
    spread: Spread | None
    encoder: Encoder
    share: ShareRows
    hardest: FindHardest | None
    full_softmax: Callable[..., Objective]
    placement: Placement


def make_layout(
    config: ConfigDict,
    encoder: Encoder,
    tx: optax.GradientTransformation,
    item_tx: RowOptimizer,
    num_items: int,
    devices: Sequence[jax.Device] | None = None,
) -> Layout:
    """Lays a run out on as many devices as its config says."""
    if config.train.mesh == 1:
        dense = config.optimizer.item_table == "dense"
        return Layout(
            make_init(config, encoder, tx, item_tx, num_items),
            item_tx,
            num_items,
            dense or config.loss.name == settings.FULL_SOFTMAX,
            lambda constants: constants,
            lambda step, constants: step,
            None,
            encoder,
            lambda rows, touched: rows,
            None,
            make_full_softmax,
            OneDevice(),
        )
    shards = over_devices(config.train.mesh, num_items + 1, devices)
    init = make_init(config, encoder, tx, item_tx, num_items, shards)
    alone = jax.eval_shape(make_init(config, encoder, tx, item_tx, num_items))
    specs = jax.tree.map(lambda x: P(), alone)
    specs = specs._replace(items=shards.specs(alone.items))
    division = events.Events(shards.devices, encoder.unit)
    over = {"shards": shards, "events": division}
    of_all = config.loss.name == settings.FULL_SOFTMAX
    # Drawn rows stay where they are if the batch shares them, for then few scores of
    # them travel; else every device has them.
    stay = config.loss.topk > 0 and config.negatives.drawn_per == "batch"
    return Layout(
        shards.over(init, [], specs),
        (rows.divided_whole if of_all else rows.divided)(item_tx, shards),
        shards.all_rows - 1,
        None,
        functools.partial(look_ups.divide, shards=shards),
        lambda step, constants: shards.over(
            step, [specs, P(), look_ups.specs(constants)], (specs, P())
        ),
        rows.spread(reads(item_tx), shards, specs.items),
        events.divided(encoder, division),
        rows.share_events if stay else rows.share_all,
        functools.partial(columns.hardest_candidates, **over),
        functools.partial(full_softmax.make_full_softmax, **over),
        OnMesh(shards, specs),
    )


def reads(item_tx: RowOptimizer) -> ReadRows:
    """How the rows of an optimizer's table are read."""
    return lambda table, ids, step: item_tx.read(table, ids, step).values


def make_init(
    config: ConfigDict,
    encoder: Encoder,
    tx: optax.GradientTransformation,
    item_tx: RowOptimizer,
    num_items: int,
    shards: Shards | None = None,
) -> Callable[[], TrainState]:
    """The function that makes the state of step 0, or a device's part of it."""

    def init() -> TrainState:
        step = jnp.zeros((), jnp.int32)
        key = rng.step_key(config.train.seed, step, rng.INIT)
        encoder_key, table_key = jax.random.split(key)
        params = encoder.init(encoder_key)
        part = None if shards is None else Part(shards.first(), shards.rows)
        table = encoder.init_table(table_key, num_items + 1, part)
        carry = encoder.init_carry(config.train.batch_size)
        return TrainState(step, params, tx.init(params), item_tx.init(table), carry)

    return init
