"""Refuses a config that makes no sense, in one line, before anything is compiled."""

from __future__ import annotations

import math

from ml_collections import ConfigDict

from tron_jax.errors import UserError
from tron_jax.losses import LOSSES
from tron_jax.negatives import EXCLUDES, UNIFORM_STYLES

CHOICES = {
    "model.position": ("from_start", "from_end"),
    "negatives.uniform_style": UNIFORM_STYLES,
    "negatives.exclude": EXCLUDES,
    "loss.name": tuple(LOSSES),
    "optimizer.item_table": ("auto", "dense", "rows"),
    "train.order": ("chronological", "shuffled"),
}
# field: (lowest, highest or None)
RANGES = {
    "data.validation": (0, 0.99),
    "model.hidden_size": (1, None),
    "model.num_layers": (1, None),
    "model.num_heads": (1, None),
    "model.feedforward_size": (1, None),
    "model.max_session_length": (1, None),
    "model.dropout": (0, 0.99),
    "negatives.num_uniform": (0, None),
    "negatives.num_in_batch": (0, None),
    "loss.topk": (0, None),
    "loss.penalty": (0, None),
    "optimizer.learning_rate": (0, None),
    # The catch-up of sleeping rows tabulates the steps until Adam has settled.
    "optimizer.warmup_steps": (0, 1_000_000),
    "optimizer.b1": (0, 0.999),
    "optimizer.b2": (0, 0.9999),
    "optimizer.epsilon": (1e-30, None),
    "train.epochs": (1, None),
    "train.batch_size": (1, None),
    "train.seed": (0, 2**32 - 1),
    "train.log_every_steps": (1, None),
    "checkpoint.every_steps": (1, None),
    "checkpoint.keep_last": (3, None),
}


def check(config: ConfigDict) -> None:
    """Checks every field alone, then those that must fit each other.

    Raises:
      UserError: naming the field, its value and what was expected.
    """
    for field, choices in CHOICES.items():
        value = _get(config, field)
        if value not in choices:
            raise UserError(
                f"{field} is {value!r}; expected one of: {', '.join(choices)}"
            )
    for field, (lowest, highest) in RANGES.items():
        value = _get(config, field)
        inside = lowest <= value and (highest is None or value <= highest)
        if not (inside and math.isfinite(value)):
            limit = "" if highest is None else f" and at most {highest}"
            raise UserError(f"{field} is {value}; expected at least {lowest}{limit}")
    _check_together(config)


def _check_together(config: ConfigDict) -> None:
    negatives, model = config.negatives, config.model
    others = config.train.batch_size - 1
    if negatives.num_in_batch > others:
        raise UserError(
            f"negatives.num_in_batch is {negatives.num_in_batch}; expected at most "
            f"train.batch_size - 1 = {others}"
        )
    candidates = negatives.num_uniform + negatives.num_in_batch
    if candidates == 0:
        raise UserError(
            "negatives.num_uniform and negatives.num_in_batch are both 0; "
            "expected at least one negative"
        )
    if config.loss.topk > candidates:
        raise UserError(
            f"loss.topk is {config.loss.topk}; expected at most the number of "
            f"candidates, num_uniform + num_in_batch = {candidates}"
        )
    if model.hidden_size % model.num_heads:
        raise UserError(
            f"model.num_heads is {model.num_heads}; expected a divisor of "
            f"model.hidden_size = {model.hidden_size}"
        )
    if config.optimizer.b1 >= config.optimizer.b2**1.5:
        raise UserError(
            f"optimizer.b1 is {config.optimizer.b1}; expected below "
            f"optimizer.b2 ** 1.5 = {config.optimizer.b2**1.5:.6g}"
        )


def _get(config: ConfigDict, field: str):
    group, name = field.split(".")
    if group not in config or name not in config[group]:
        raise UserError(f"config field {field} is missing")
    return config[group][name]
