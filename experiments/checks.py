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
# field: (lowest, highest, whether the highest itself is allowed)
RANGES = {
    "data.validation": (0, 1, False),
    "model.hidden_size": (1, None, True),
    "model.num_layers": (1, None, True),
    "model.num_heads": (1, None, True),
    "model.feedforward_size": (1, None, True),
    "model.max_session_length": (1, None, True),
    "model.dropout": (0, 1, False),
    "negatives.num_uniform": (0, None, True),
    "negatives.num_in_batch": (0, None, True),
    "loss.topk": (0, None, True),
    "loss.penalty": (0, None, True),
    "optimizer.learning_rate": (0, None, True),
    "optimizer.warmup_steps": (0, None, True),
    "optimizer.b1": (0, 1, False),
    "optimizer.b2": (0, 1, False),
    "optimizer.epsilon": (0, None, True),
    "train.epochs": (1, None, True),
    "train.batch_size": (1, None, True),
    "train.seed": (0, 2**32 - 1, True),
    "train.log_every_steps": (1, None, True),
    "checkpoint.every_steps": (1, None, True),
    "checkpoint.keep_last": (3, None, True),
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
    for field, (lowest, highest, inclusive) in RANGES.items():
        value = _get(config, field)
        above = highest is not None and (
            value > highest or (value == highest and not inclusive)
        )
        if not lowest <= value < math.inf or above:
            limit = (
                ""
                if highest is None
                else f" and {'up to' if inclusive else 'below'} {highest}"
            )
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
