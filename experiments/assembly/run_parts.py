"""A run: its data and the parts that are built from its config."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from experiments.assembly.architectures import MODELS
from experiments.assembly.update_rules import make_optimizers
from tron_jax import rng
from tron_jax.data.batches import Batches
from tron_jax.data.sessions import PreparedData, Sessions, hold_out, open_prepared
from tron_jax.errors import UserError
from tron_jax.evaluation.evaluator import Evaluator
from tron_jax.models.precision import compute_dtype_of
from tron_jax.objectives.full_softmax import make_full_softmax
from tron_jax.objectives.log_q import make_log_q
from tron_jax.objectives.losses import make_loss
from tron_jax.objectives.objective import Objective, make_objective
from tron_jax.objectives.settings import Selection
from tron_jax.sampling.negatives import Sampler, make_sampler
from tron_jax.sampling.popularity import Popularity, make_popularity
from tron_jax.steps import RepeatedStep, TrainState, TrainStep, make_train_step

ROWS_FROM = 200_000  # items; below, a dense update costs less than its bookkeeping


class RunParts(NamedTuple):
    """What a run is built of.

    Attributes:
      init: () -> the state of step 0.
      train_step: pure; makes the steps of what ``batches`` gives at a time.
      batches: the training batches.
      popularity: of the training clicks, where the step asks for it.
      evaluator: of any split.
    """

    init: Callable[[], TrainState]
    train_step: TrainStep | RepeatedStep
    batches: Batches
    popularity: Popularity | None
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


def build(config: ConfigDict, num_items: int, train: Sessions) -> RunParts:
    """Builds the parts of a run from a config that has been checked and resolved."""
    model = MODELS[config.model.name](config, train)
    encoder = model.encoder
    tx, item_tx = make_optimizers(config.optimizer)
    train_step = make_train_step(
        encoder,
        _sampler(config, num_items),
        _objective(config, num_items),
        tx,
        item_tx,
        num_items=num_items,
        whole_table=_whole_table(config),
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

    return RunParts(
        init,
        model.dispatched(train_step),
        model.batches,
        _popularity(config, num_items, train),
        model.make_evaluator(
            lambda table, ids, step: item_tx.read(table, ids, step).values, num_items
        ),
    )


def _whole_table(config: ConfigDict) -> bool:
    dense = config.optimizer.item_table == "dense"
    return dense or config.loss.name == "full_softmax"


def _sampler(config: ConfigDict, num_items: int) -> Sampler:
    negatives = config.negatives
    return make_sampler(
        num_items=num_items,
        num_sessions=config.train.batch_size,
        max_session_length=config.model.max_session_length,
        num_uniform=negatives.num_uniform,
        num_popularity=negatives.num_popularity,
        uniform_style=negatives.uniform_style,
        exclude=negatives.exclude,
        num_in_batch=negatives.num_in_batch,
        in_batch_from=negatives.in_batch_from,
        mask_session=negatives.mask_session,
        deduplicate=negatives.deduplicate,
        seed=config.train.seed,
    )


def _objective(config: ConfigDict, num_items: int) -> Objective:
    loss, negatives = config.loss, config.negatives
    drawn = negatives.num_uniform + negatives.num_popularity
    mean = {"mean_over": loss.mean_over, "batch_size": config.train.batch_size}
    if loss.name == "full_softmax":
        return make_full_softmax(num_items=num_items, **mean)
    loss_fn = make_loss(
        loss.name,
        penalty=loss.penalty,
        calibration=loss.calibration,
        elu=loss.elu,
        num_negatives=drawn + negatives.num_in_batch,
        num_items=num_items,
    )
    log_q = make_log_q(
        loss.logq,
        num_items=num_items,
        num_uniform=negatives.num_uniform,
        num_popularity=negatives.num_popularity,
        num_in_batch=negatives.num_in_batch,
        exponent=negatives.popularity_exponent,
    )
    return make_objective(
        loss_fn,
        Selection(
            topk=loss.topk,
            topk_start=loss.topk_start,
            topk_steps=loss.topk_steps,
            mask_hits=negatives.mask_hits,
        ),
        log_q=log_q,
        dtype=compute_dtype_of(config.model.compute_dtype),
        **mean,
    )


def _popularity(
    config: ConfigDict, num_items: int, train: Sessions
) -> Popularity | None:
    """Of the clicks that the run trains on, where a sampler or a loss goes by them."""
    negatives = config.negatives
    if not negatives.num_popularity and config.loss.logq == "none":
        return None
    clicks = train.items[train.offsets[0] : train.offsets[-1]]
    return make_popularity(clicks, num_items, negatives.popularity_exponent)


def use_compilation_cache() -> None:
    """Keeps compiled steps between processes, so that a resumed run starts at once."""
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    jax.config.update("jax_compilation_cache_dir", str(Path(caches) / "tron_jax"))
