"""A run: its data and the parts that are built from its config."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from tron_jax import rng, row_optimizers
from tron_jax.data.packing import Batch, PackedBatches
from tron_jax.data.sessions import PreparedData, Sessions, hold_out, open_prepared
from tron_jax.errors import UserError
from tron_jax.evaluation import Evaluator, make_evaluator
from tron_jax.losses import LOSSES
from tron_jax.models.sasrec import make_sasrec
from tron_jax.negatives import make_sampler
from tron_jax.objective import make_objective
from tron_jax.ranks import PROTOCOLS, Protocol, Ranks, summarise
from tron_jax.records import Progress
from tron_jax.steps import TrainState, TrainStep, make_train_step

ROWS_FROM = 200_000  # items; below, a dense update costs less than its bookkeeping


class Parts(NamedTuple):
    """What a run is built of.

    Attributes:
      init: () -> the state of step 0.
      train_step: the pure step.
      batches: the training batches.
      evaluator: of any split.
    """

    init: Callable[[], TrainState]
    train_step: TrainStep
    batches: PackedBatches
    evaluator: Evaluator


def open_data(config: ConfigDict) -> PreparedData:
    """Opens the data set that a config names."""
    if not config.data.path:
        raise UserError("data.path is not set; expected a prepared data set's folder")
    return open_prepared(config.data.path)


def splits(config: ConfigDict, data: PreparedData) -> dict[str, Sessions]:
    """Train, validation (where a share is held out) and test (where there is one)."""
    named = {"train": data.train}
    if config.data.validation:
        named["train"], named["validation"] = hold_out(
            data.train, config.data.validation
        )
    if data.test.num_sessions:
        named["test"] = data.test
    return named


def resolve(config: ConfigDict, num_items: int) -> ConfigDict:
    """Replaces what is left to us by what the data decide."""
    config = config.copy_and_resolve_references()
    if config.optimizer.item_table == "auto":
        config.optimizer.item_table = "rows" if num_items >= ROWS_FROM else "dense"
    return config


def warmup(step: Any, peak: float, steps: int) -> Any:
    """Learning rate of an update, counted from 0: a linear rise, then constant."""
    array = np if isinstance(step, np.ndarray) else jnp
    return peak * array.minimum(1.0, (step + 1) / max(steps, 1))


def build(config: ConfigDict, num_items: int, train: Sessions) -> Parts:
    """Builds the parts of a run from a config that has been checked and resolved."""
    model, sampler, optimizer = config.model, config.negatives, config.optimizer
    encoder = make_sasrec(
        hidden_size=model.hidden_size,
        num_layers=model.num_layers,
        num_heads=model.num_heads,
        feedforward_size=model.feedforward_size,
        max_session_length=model.max_session_length,
        dropout=model.dropout,
    )
    tx, item_tx = make_optimizers(optimizer)
    sample = make_sampler(
        num_items=num_items,
        num_sessions=config.train.batch_size,
        num_uniform=sampler.num_uniform,
        num_in_batch=sampler.num_in_batch,
        exclude=sampler.exclude,
        seed=config.train.seed,
    )
    objective = make_objective(
        LOSSES[config.loss.name](config.loss.penalty),
        topk=config.loss.topk,
        mask_hits=sampler.mask_hits,
    )
    train_step = make_train_step(
        encoder,
        sample,
        objective,
        tx,
        item_tx,
        num_items=num_items,
        whole_table=optimizer.item_table == "dense",
        seed=config.train.seed,
    )

    def init() -> TrainState:
        key = rng.step_key(config.train.seed, jnp.zeros((), jnp.int32), rng.INIT)
        encoder_key, table_key = jax.random.split(key)
        params = encoder.init(encoder_key)
        table = encoder.init_table(table_key, num_items + 1)
        step = jnp.zeros((), jnp.int32)
        carry = encoder.init_carry(config.train.batch_size)
        return TrainState(step, params, tx.init(params), item_tx.init(table), carry)

    batches = PackedBatches(
        train,
        batch_size=config.train.batch_size,
        max_session_length=model.max_session_length,
        position=model.position,
        order=config.train.order,
        seed=config.train.seed,
    )
    evaluator = make_evaluator(
        encoder.encode,
        lambda table, ids, step: item_tx.read(table, ids, step).values,
        num_items=num_items,
        max_session_length=model.max_session_length,
        position=model.position,
    )
    return Parts(init, train_step, batches, evaluator)


def make_optimizers(
    optimizer: ConfigDict,
) -> tuple[optax.GradientTransformation, row_optimizers.RowOptimizer]:
    """The encoder's optimizer and that of the item table."""
    rate = functools.partial(
        warmup, peak=optimizer.learning_rate, steps=optimizer.warmup_steps
    )
    tx = optax.adam(rate, b1=optimizer.b1, b2=optimizer.b2, eps=optimizer.epsilon)
    if optimizer.item_table == "dense":
        return tx, row_optimizers.dense(tx)
    return tx, row_optimizers.deferred_adam(
        rate,
        b1=optimizer.b1,
        b2=optimizer.b2,
        epsilon=optimizer.epsilon,
        horizon=optimizer.warmup_steps,
    )


def abstract_batch(size: int) -> Batch:
    """The shapes of a batch whose stream has a length."""
    whole = jax.ShapeDtypeStruct((size,), jnp.int32)
    return Batch(whole, whole, whole, whole, jax.ShapeDtypeStruct((size,), jnp.float32))


def evaluate(
    evaluator: Evaluator, state: TrainState, step: int, sessions: Sessions, split: str
) -> tuple[Ranks, dict[Protocol, dict[str, Any] | None]]:
    """Ranks a split at a step and sums it up under both protocols, with a bar."""
    with Progress(f"evaluating {split}", 0, unit="events") as progress:

        def report(done: int, total: int) -> None:
            progress.total = total
            progress.update(done)

        ranks = evaluator(state.params, state.items, step, sessions, report)
    return ranks, {
        protocol: summarise(ranks, protocol, split=split) for protocol in PROTOCOLS
    }


def use_compilation_cache() -> None:
    """Keeps compiled steps between processes, so that a resumed run starts at once."""
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    jax.config.update("jax_compilation_cache_dir", str(Path(caches) / "tron_jax"))
