"""A run: its data and the parts that are built from its config."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from experiments.assembly import settings
from experiments.assembly.architectures import MODELS
from experiments.assembly.layouts import Layout, make_init, make_layout, reads
from experiments.assembly.update_rules import make_optimizers
from experiments.assembly.ways import Ways, best
from tron_jax.data.batches import Batches
from tron_jax.data.packing import steps_per_epoch
from tron_jax.data.recent import last_days
from tron_jax.data.sessions import PreparedData, Sessions, hold_out, open_prepared
from tron_jax.errors import UserError
from tron_jax.evaluation.evaluator import Evaluator
from tron_jax.evaluation.ranking import ReadRows
from tron_jax.files import local_path
from tron_jax.models.encoder import Encoder
from tron_jax.models.precision import compute_dtype_of
from tron_jax.objectives.log_q import LogQ, make_log_q
from tron_jax.objectives.losses import make_loss
from tron_jax.objectives.objective import Objective, make_objective
from tron_jax.objectives.repeats import make_repeats_gradient
from tron_jax.optimizers.schedules import MOST_STEPS
from tron_jax.recommending.recommender import Recommender, make_recommender
from tron_jax.rng import Seed
from tron_jax.sampling.sampler import Sampler, make_sampler
from tron_jax.sampling.sources import Constants, make_constants
from tron_jax.sharding.placement import Placement
from tron_jax.steps import (
    SEED,
    RepeatedStep,
    TrainState,
    TrainStep,
    make_train_step,
    seeded,
)

EVALUATE_ON = ("all", "validation")
ROWS_FROM = 200_000  # items; below, a dense update costs less than its bookkeeping
STEPS_PER_GROUP = 8  # on an accelerator; more would pad more than dispatching costs


class RunParts(NamedTuple):
    """What a run is built of.

    Attributes:
      init: () -> the state of step 0.
      train_step: pure; makes the steps of what ``batches`` gives at a time.
      batches: the training batches.
      constants: the seed, and what the sources of negatives are given of the training
        clicks.
      evaluator: of any split.
      placement: where states lie.
    """

    init: Callable[[], TrainState]
    train_step: TrainStep | RepeatedStep
    batches: Batches
    constants: Constants
    evaluator: Evaluator
    placement: Placement


class ModelParts(NamedTuple):
    """What takes a trained model.

    Attributes:
      init: () -> the state of step 0, whose shapes are those of any.
      encoder: of the model.
      read_rows: reads rows of the item table as of a step.
      recommender: what comes next in a session.
    """

    init: Callable[[], TrainState]
    encoder: Encoder
    read_rows: ReadRows
    recommender: Recommender


def open_data(config: ConfigDict) -> PreparedData:
    """Opens the data set that a config names."""
    if not config.data.path:
        raise UserError("data.path is not set; expected a prepared data set's folder")
    return open_prepared(local_path(config.data.path))


def splits(config: ConfigDict, data: PreparedData) -> dict[str, Sessions]:
    """Train, validation (where a share is held out) and test (where there is one)."""
    train = data.train
    if config.data.without_last:
        train, _ = hold_out(train, config.data.without_last, "data.without_last")
    if config.data.last_days:
        train = last_days(train, config.data.last_days)
    named = {"train": train}
    if config.data.validation:
        named["train"], named["validation"] = hold_out(train, config.data.validation)
    if data.test.num_sessions and config.train.evaluate_on == "all":
        named["test"] = data.test
    return named


def resolve(
    config: ConfigDict,
    num_items: int,
    devices: Sequence[jax.Device] | None = None,
    *,
    train: Sessions | None = None,
) -> ConfigDict:
    """Replaces ``auto`` by what suits the items and the device, and epochs by steps.

    Args:
      config: checked.
      num_items: the largest item id.
      devices: that the run is for; None = those there are.
      train: sessions that the run trains on, for the steps of ``schedule_epochs``;
        None will do for a config that a run has written, which has steps.

    Raises:
      UserError: there are too few devices, or the epochs have too many steps.
    """
    config = config.copy_and_resolve_references()
    config.train.mesh = _devices(config, len(devices or jax.devices()))
    if config.train.steps_per_group == 0:
        on_cpu = (_platform(devices) or jax.default_backend()) == "cpu"
        alone = config.model.name == "gru4rec" or on_cpu
        config.train.steps_per_group = 1 if alone else STEPS_PER_GROUP
    optimizer = config.optimizer
    if optimizer.schedule_epochs:
        if train is None:
            raise ValueError("the steps of schedule_epochs need the train sessions")
        epoch = steps_per_epoch(train.num_sessions, config.train.batch_size)
        steps = max(1, round(optimizer.schedule_epochs * epoch))
        if steps > MOST_STEPS:
            raise UserError(
                f"optimizer.schedule_epochs is {optimizer.schedule_epochs:g} of "
                f"{epoch:,} steps; expected at most {MOST_STEPS:,} steps in all"
            )
        optimizer.schedule_steps, optimizer.schedule_epochs = steps, 0.0
    if config.optimizer.item_table == "auto":
        config.optimizer.item_table = "rows" if num_items >= ROWS_FROM else "dense"
    return config


def _platform(devices: Sequence[jax.Device] | None) -> str | None:
    return devices[0].platform if devices else None


def _devices(config: ConfigDict, there: int) -> int:
    """How many share the item table; raises UserError where that cannot be."""
    count = config.train.mesh or there
    if count > there:
        raise UserError(f"train.mesh is {count}; expected at most the {there} devices")
    return count


def build(
    config: ConfigDict,
    num_items: int,
    train: Sessions,
    ways: Ways | None = None,
    devices: Sequence[jax.Device] | None = None,
) -> RunParts:
    """Builds the parts of a run.

    Args:
      config: checked and resolved.
      num_items: the largest item id.
      train: sessions that the run trains on.
      ways: to compute; None = the best of the backend, or of ``devices``.
      devices: that the run is for; None = those there are.

    Returns:
      The parts.
    """
    ways = ways or best(_platform(devices))
    model = MODELS[config.model.name](config)
    encoder = model.encoder
    tx, item_tx = make_optimizers(config)
    negatives = settings.negative_sampling(config)
    log_q = make_log_q(config.loss.logq, negatives, num_items)
    layout = make_layout(config, encoder, tx, item_tx, num_items, devices)
    fed = model.feed(train, ways, layout.placement.send)
    objective = _objective(config, encoder, fed.batches, num_items, log_q, ways, layout)

    def step_of(seed: Seed) -> TrainStep:
        return make_train_step(
            layout.encoder,
            sampler_of(config, num_items, seed),
            objective,
            tx,
            layout.item_tx,
            num_items=layout.num_items,
            whole_table=layout.whole_table,
            seed=seed,
            share=layout.share,
        )

    # Of the clicks that the run trains on, which may be fewer than the data set's.
    clicks = train.items[train.offsets[0] : train.offsets[-1]]
    constants = make_constants(
        negatives, clicks, num_items, also_of=log_q.sources if log_q else ()
    )
    constants = layout.divide(constants) | {SEED: np.uint32(config.train.seed)}
    return RunParts(
        layout.init,
        layout.on_all(fed.dispatched(seeded(step_of)), constants),
        fed.batches,
        constants,
        model.make_evaluator(reads(item_tx), num_items, layout.spread),
        layout.placement,
    )


def build_model(config: ConfigDict, num_items: int) -> ModelParts:
    """Builds what takes a trained model, and none of what trains it.

    Args:
      config: as a run has written it.
      num_items: the largest item id.
    """
    model = MODELS[config.model.name](config)
    tx, item_tx = make_optimizers(config)
    read_rows = reads(item_tx)
    return ModelParts(
        make_init(config, model.encoder, tx, item_tx, num_items),
        model.encoder,
        read_rows,
        recommender_of(config, read_rows, num_items),
    )


def recommender_of(
    config: ConfigDict, read_rows: ReadRows, num_items: int
) -> Recommender:
    """The recommender of a model whose item table is read by a function."""
    model = MODELS[config.model.name](config)
    return make_recommender(model.make_evaluator(read_rows, num_items), read_rows)


def sampler_of(config: ConfigDict, num_items: int, seed: Seed) -> Sampler:
    """The sampler of a run's negatives."""
    return make_sampler(
        settings.negative_sampling(config),
        num_items=num_items,
        num_sessions=config.train.batch_size,
        max_session_length=config.model.max_session_length,
        seed=seed,
    )


def _objective(
    config: ConfigDict,
    encoder: Encoder,
    batches: Batches,
    num_items: int,
    log_q: LogQ | None,
    ways: Ways,
    layout: Layout,
) -> Objective:
    loss, batch_size = config.loss, config.train.batch_size
    if loss.name == settings.FULL_SOFTMAX:
        return layout.full_softmax(
            num_items=num_items, mean_over=loss.mean_over, batch_size=batch_size
        )
    repeats = None
    if config.model.repeats:
        weight = settings.items_per_candidate(config, num_items)
        repeats = make_repeats_gradient(
            encoder.correct, math.log(weight), until=batches.steps_per_epoch
        )
    return make_objective(
        make_loss(settings.loss(config, num_items)),
        settings.selection(config),
        log_q=log_q,
        dtype=compute_dtype_of(config.model.compute_dtype),
        by_matmul=ways.by_matmul or settings.selects_many(config),
        hardest=layout.hardest,
        repeats=repeats,
        mean_over=loss.mean_over,
        batch_size=batch_size,
    )


def use_compilation_cache() -> None:
    """Keeps compiled steps between processes, so that a resumed run starts at once.

    Where there is no folder for them, as for a user without a home, they are compiled
    anew each time.
    """
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    with contextlib.suppress(OSError, RuntimeError):  # RuntimeError: no home
        caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        folder = Path(caches) / "tron_jax"
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK | os.X_OK):
            jax.config.update("jax_compilation_cache_dir", str(folder))
