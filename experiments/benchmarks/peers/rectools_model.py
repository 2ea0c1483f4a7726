"""RecTools' SASRec and its data set, made of a prepared set of ours.

What can be set, how the library is asked for it, and what it is called in a config of
ours, so that `experiments.compare` shows both beside each other.
"""

from __future__ import annotations

import argparse
import logging
import os
import warnings
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
import pandas as pd
import torch
from pytorch_lightning import Callback, Trainer, seed_everything
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import SASRecModel
from rectools.models.nn.transformers.ligr import LiGRLayers
from rectools.models.nn.transformers.sasrec import SASRecTransformerLayers

from experiments.configs.defaults import default_config

# Of a loss of the library what our configs call it; all but softmax take negatives.
LOSSES = {
    "BCE": "bce",
    "gBCE": "gbce",
    "sampled_softmax": "ssm",
    "softmax": "full_softmax",
}
LAYERS = {"sasrec": SASRecTransformerLayers, "ligr": LiGRLayers}
# Width of the feed-forward part, in hidden sizes, as the library builds these layers.
FEEDFORWARD = {"sasrec": 1, "ligr": 4}
# The library's defaults, and those of our configs for Diginetica.
SIZES: dict[str, dict[str, Any]] = {
    "library": {"hidden": 256, "heads": 4, "blocks": 2, "dropout": 0.2, "length": 100},
    "ours": {"hidden": 200, "heads": 1, "blocks": 2, "dropout": 0.2, "length": 50},
}
PACKAGES = ("rectools", "torch", "pytorch-lightning", "numpy", "pandas")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the model is like."""
    add = parser.add_argument
    add("--data", required=True, help="folder of a prepared set")
    add("--loss", choices=LOSSES, default="BCE")
    add("--negatives", type=int, default=1, help="of an event; softmax has none")
    add("--gbce_t", type=float, default=0.2, help="calibration of gBCE")
    add("--layers", choices=LAYERS, default="sasrec")
    add("--mask_padding", action="store_true", help="from attention; its default is no")
    add("--size", choices=SIZES, default="ours", help="what the next five begin with")
    add("--hidden", type=int)
    add("--heads", type=int)
    add("--blocks", type=int)
    add("--dropout", type=float)
    add("--length", type=int, help="clicks of a session that are read, the last ones")
    add("--batch_size", type=int, default=128)
    add("--learning_rate", type=float, default=0.001)
    add("--seed", type=int, default=0)
    add("--threads", type=int, default=len(os.sched_getaffinity(0)))


def complete(arguments: argparse.Namespace) -> None:
    """Fills in, in place, what was not given, from the named size."""
    for name, value in SIZES[arguments.size].items():
        if getattr(arguments, name) is None:
            setattr(arguments, name, value)


def interactions(items: np.ndarray, lengths: np.ndarray) -> Dataset:
    """The library's data set of sessions that lie end to end.

    Args:
      items: [events] item ids.
      lengths: [sessions] events of each, whose number is its user.
    """
    rows = {
        Columns.User: np.repeat(np.arange(len(lengths)), lengths),
        Columns.Item: items,
        Columns.Weight: 1.0,
        # The library sorts a session by time; the order is all that it takes of it.
        Columns.Datetime: np.arange(len(items)),
    }
    return Dataset.construct(pd.DataFrame(rows))


def make_model(
    arguments: argparse.Namespace, epochs: int, callbacks: Sequence[Callback]
) -> SASRecModel:
    """The model as a user of the library makes it.

    Its trainer is the library's own default, besides the callbacks, and besides that it
    may be stopped before its last epoch.
    """
    torch.set_num_threads(arguments.threads)
    seed_everything(arguments.seed, verbose=False)
    be_quiet()
    model = SASRecModel(
        n_blocks=arguments.blocks,
        n_heads=arguments.heads,
        n_factors=arguments.hidden,
        dropout_rate=arguments.dropout,
        session_max_len=arguments.length,
        loss=arguments.loss,
        n_negatives=arguments.negatives,
        gbce_t=arguments.gbce_t,
        lr=arguments.learning_rate,
        batch_size=arguments.batch_size,
        use_key_padding_mask=arguments.mask_padding,
        transformer_layers_type=LAYERS[arguments.layers],
        recommend_torch_device="cpu",
    )
    model._trainer = Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=epochs,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=list(callbacks),
    )
    return model


def be_quiet() -> None:
    """Leaves out what the trainer says at each start and of each workerless loader."""
    warnings.filterwarnings("ignore", module="pytorch_lightning")
    for message in ("Ignoring `CatFeatures", "unique with argument", "Pydantic ser"):
        warnings.filterwarnings("ignore", message=message)
    for name in ("pytorch_lightning", "lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)


def config_of(
    arguments: argparse.Namespace, epochs: int, stop_after: int
) -> dict[str, Any]:
    """The settings by the fields of our configs, and the library under `peer`.

    Its negatives are drawn anew for each event, may be the label and exclude nothing;
    its positions count from the end; it shuffles the sessions; its Adam has a b2 of
    0.98, and it is dense.
    """
    config = default_config()
    config.data.path = ""
    model = config.model
    model.hidden_size, model.num_layers = arguments.hidden, arguments.blocks
    model.num_heads, model.dropout = arguments.heads, arguments.dropout
    model.feedforward_size = FEEDFORWARD[arguments.layers] * arguments.hidden
    model.max_session_length, model.position = arguments.length, "from_end"
    sampled = arguments.loss != "softmax"
    config.negatives.num_uniform = arguments.negatives if sampled else 0
    config.negatives.num_in_batch = 0
    config.negatives.drawn_per, config.negatives.exclude = "event", "none"
    config.loss.name, config.loss.topk = LOSSES[arguments.loss], 0
    config.loss.calibration = arguments.gbce_t
    config.optimizer.learning_rate, config.optimizer.b2 = arguments.learning_rate, 0.98
    config.optimizer.item_table = "dense"
    config.train.order = "shuffled"
    config.train.batch_size, config.train.seed = arguments.batch_size, arguments.seed
    config.train.epochs, config.train.stop_after = epochs, stop_after
    library = {
        "name": "rectools",
        "version": version("rectools"),
        "layers": arguments.layers,
        "mask_padding": arguments.mask_padding,
    }
    return config.to_dict() | {"peer": library}


def versions() -> dict[str, str]:
    """What is installed."""
    return {name: version(name) for name in PACKAGES}
