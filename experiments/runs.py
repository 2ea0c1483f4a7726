"""A run: its config, its data and its workdir, and the parts built from them."""

from __future__ import annotations

import functools
import importlib.metadata
import json
import os
import platform
import subprocess
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
from tron_jax.losses import LOSSES
from tron_jax.models.sasrec import Encoder, make_sasrec
from tron_jax.steps import TrainState, TrainStep, make_train_step

ROWS_FROM = 200_000  # items; below, a dense update costs less than its bookkeeping


class Parts(NamedTuple):
    """What a run is built of.

    Attributes:
      encoder: of the inputs.
      item_tx: the item table's optimizer.
      train_step: the pure step.
      init: () -> the state of step 0.
      batches: the training batches.
    """

    encoder: Encoder
    item_tx: row_optimizers.RowOptimizer
    train_step: TrainStep
    init: Any
    batches: PackedBatches


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
    rate = functools.partial(
        warmup, peak=optimizer.learning_rate, steps=optimizer.warmup_steps
    )
    tx = optax.adam(rate, b1=optimizer.b1, b2=optimizer.b2, eps=optimizer.epsilon)
    dense = optimizer.item_table == "dense"
    item_tx = (
        row_optimizers.dense(tx)
        if dense
        else row_optimizers.deferred_adam(
            rate,
            b1=optimizer.b1,
            b2=optimizer.b2,
            epsilon=optimizer.epsilon,
            horizon=optimizer.warmup_steps,
        )
    )
    train_step = make_train_step(
        encoder,
        tx,
        item_tx,
        LOSSES[config.loss.name](config.loss.penalty),
        num_items=num_items,
        num_sessions=config.train.batch_size,
        num_uniform=sampler.num_uniform,
        num_in_batch=sampler.num_in_batch,
        exclude=sampler.exclude,
        mask_hits=sampler.mask_hits,
        topk=config.loss.topk,
        whole_table=dense,
        seed=config.train.seed,
    )

    def init() -> TrainState:
        encoder_key, table_key = jax.random.split(
            rng.step_key(config.train.seed, jnp.zeros((), jnp.int32), rng.INIT)
        )
        params = encoder.init(encoder_key)
        shape = (num_items + 1, model.hidden_size)
        table = jax.nn.initializers.xavier_uniform()(table_key, shape)
        step = jnp.zeros((), jnp.int32)
        return TrainState(step, params, tx.init(params), item_tx.init(table))

    batches = PackedBatches(
        train,
        batch_size=config.train.batch_size,
        max_session_length=model.max_session_length,
        position=model.position,
        order=config.train.order,
        seed=config.train.seed,
    )
    return Parts(encoder, item_tx, train_step, init, batches)


def abstract_batch(size: int) -> Batch:
    """The shapes of a batch whose stream has a length."""
    whole = jax.ShapeDtypeStruct((size,), jnp.int32)
    return Batch(whole, whole, whole, whole, jax.ShapeDtypeStruct((size,), jnp.float32))


def provenance(fingerprint: str) -> dict[str, str]:
    """What a run was made with: data, code and machine."""
    return {
        "fingerprint": fingerprint,
        "git": _git_commit(),
        "python": platform.python_version(),
        "device": jax.devices()[0].device_kind,
        **{
            name: importlib.metadata.version(name)
            for name in ("jax", "flax", "optax", "orbax-checkpoint", "numpy")
        },
    }


def _git_commit() -> str:
    """The commit of this code, with a + where files differ; empty outside git."""
    here = Path(__file__).parent

    def git(*arguments: str) -> str:
        command = ("git", "-C", str(here), *arguments)
        return subprocess.run(
            command, check=True, capture_output=True, text=True
        ).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


def write_json(path: Path, content: Any) -> None:
    """Writes a file whole or not at all."""
    new = path.with_name(path.name + ".new")
    try:
        new.write_text(json.dumps(content, indent=2) + "\n")
        os.replace(new, path)
    except OSError as error:
        new.unlink(missing_ok=True)
        raise UserError(f"cannot write {path}: {error.strerror}") from error
