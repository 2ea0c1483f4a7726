"""The optimizers that a config asks for: of the encoder, and of the item table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import optax
from ml_collections import ConfigDict

from tron_jax.optimizers import adagrad, carried_over, item_table
from tron_jax.optimizers.item_table import RowOptimizer
from tron_jax.optimizers.normalised import normalised
from tron_jax.optimizers.schedules import make_schedule

Optimizers = tuple[optax.GradientTransformation, RowOptimizer]


def _adam(
    optimizer: ConfigDict, rate: Callable[[Any], Any], horizon: int
) -> Optimizers:
    tx = optax.adam(rate, b1=optimizer.b1, b2=optimizer.b2, eps=optimizer.epsilon)
    if optimizer.item_table == "dense":
        return tx, item_table.dense(tx)
    return tx, item_table.deferred_adam(
        rate,
        b1=optimizer.b1,
        b2=optimizer.b2,
        epsilon=optimizer.epsilon,
        horizon=horizon,
    )


def _adagrad(
    optimizer: ConfigDict, rate: Callable[[Any], Any], horizon: int
) -> Optimizers:
    """A row without a gradient stays as it is, so "dense" is the same over all rows."""
    settings = {
        "epsilon": optimizer.epsilon,
        "epsilon_in_root": optimizer.epsilon_in_root,
        "momentum": optimizer.momentum,
    }
    return (
        adagrad.adagrad(rate, **settings),
        item_table.row_adagrad(rate, **settings),
    )


OPTIMIZERS = {"adam": _adam, "adagrad": _adagrad}
ITEM_TABLES = ("auto", "dense", "rows")  # "auto" is resolved before anything is built
MOMENTS = ("reset", "keep")  # of a warm start


def make_optimizers(config: ConfigDict) -> Optimizers:
    """The encoder's optimizer and that of the item table.

    Where a warm start keeps the moments, both count their updates by themselves.
    """
    tx, item_tx = of_whole_rows(config)
    if config.model.scoring == "cosine":
        item_tx = normalised(item_tx)
    return tx, item_tx


def of_whole_rows(config: ConfigDict) -> Optimizers:
    """The same, but rows are read as the table has them, where scores are cosines too.

    It is what a state is taken apart by.
    """
    optimizer = config.optimizer
    rate, horizon = make_schedule(
        optimizer.schedule,
        optimizer.learning_rate,
        warmup_steps=optimizer.warmup_steps,
        steps=optimizer.schedule_steps,
        end=optimizer.schedule_end,
    )
    tx, item_tx = OPTIMIZERS[optimizer.name](optimizer, rate, horizon)
    if keeps_moments(config):
        item_tx = carried_over.continued(item_tx)
    return tx, item_tx


def keeps_moments(config: ConfigDict) -> bool:
    """Whether a run starts from another with the moments that it has left."""
    return bool(config.init.workdir) and config.init.moments == "keep"
