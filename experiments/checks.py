"""Refuses a config that makes no sense, in one line, before anything is compiled."""

from __future__ import annotations

import math
import typing
from collections import ChainMap
from collections.abc import Collection
from typing import Any

from ml_collections import ConfigDict

from experiments import checks_together
from experiments.assembly.architectures import MODELS, SCORINGS
from experiments.assembly.run_parts import EVALUATE_ON
from experiments.assembly.settings import FULL_SOFTMAX
from experiments.assembly.update_rules import ITEM_TABLES, MOMENTS, OPTIMIZERS
from experiments.checks_together import NEW_ITEMS, get, refuse
from tron_jax.data.packing import Order, Position
from tron_jax.errors import UserError
from tron_jax.evaluation.metrics import METRICS, OTHER_NAMES, canonical_name
from tron_jax.models.gru4rec import INIT_BOUNDS
from tron_jax.models.precision import COMPUTE_DTYPES
from tron_jax.objectives.log_q import LOGQ
from tron_jax.objectives.losses import LOSSES
from tron_jax.objectives.objective import MEANS
from tron_jax.optimizers.schedules import MOST_STEPS, SCHEDULES
from tron_jax.sampling.exclusion import EXCLUDES
from tron_jax.sampling.in_batch import IN_BATCH_FROM
from tron_jax.sampling.sampler import DRAWN_PER
from tron_jax.sampling.sources import SOURCES

# The mappings themselves: a loss that is added to LOSSES is a choice at once.
CHOICES: dict[str, Collection[str]] = {
    "model.name": MODELS,
    "model.init": INIT_BOUNDS,
    "model.compute_dtype": COMPUTE_DTYPES,
    "model.position": typing.get_args(Position),
    "model.scoring": SCORINGS,
    "negatives.drawn_per": DRAWN_PER,
    "negatives.exclude": EXCLUDES,
    "negatives.in_batch_from": IN_BATCH_FROM,
    "loss.name": ChainMap[str, Any]({FULL_SOFTMAX: None}, LOSSES),
    "loss.logq": LOGQ,
    "loss.mean_over": MEANS,
    "optimizer.name": OPTIMIZERS,
    "optimizer.item_table": ITEM_TABLES,
    "optimizer.schedule": SCHEDULES,
    "train.order": typing.get_args(Order),
    "train.evaluate_on": EVALUATE_ON,
    "init.new_items": NEW_ITEMS,
    "init.moments": MOMENTS,
}
# field: (lowest, highest or None). Sizes and steps are limited where XLA's own would
# overflow.
RANGES = {
    "data.validation": (0, 0.99),
    "data.without_last": (0, 0.99),
    "data.last_days": (0, 100_000),
    "model.hidden_size": (1, 10**6),
    "model.num_layers": (1, 1000),
    "model.num_heads": (1, None),
    "model.feedforward_size": (1, 10**6),
    "model.max_session_length": (1, 10**6),
    "model.dropout": (0, 0.99),
    "model.scale": (1e-3, 1e4),
    "negatives.popularity_exponent": (0, 10),
    "loss.topk": (0, None),
    "loss.topk_start": (0, None),
    "loss.topk_steps": (0, 10**9),
    "loss.penalty": (0, None),
    "loss.calibration": (0, 1),
    "loss.elu": (0, None),
    "optimizer.learning_rate": (0, None),
    "optimizer.warmup_steps": (0, MOST_STEPS),
    "optimizer.schedule_steps": (0, MOST_STEPS),
    "optimizer.schedule_epochs": (0, 100_000),
    "optimizer.schedule_end": (0, 1),
    "optimizer.b1": (0, 0.999),
    "optimizer.b2": (1e-6, 0.9999),  # sleeping rows divide by powers of it
    "optimizer.epsilon": (1e-30, None),
    "optimizer.momentum": (0, 0.999),
    "train.epochs": (1, 100_000),
    "train.batch_size": (1, 10**6),
    "train.steps_per_call": (1, 100_000),
    "train.steps_per_group": (0, 1000),
    "train.seed": (0, 2**32 - 1),
    "train.mesh": (0, None),
    "train.evaluate_every": (0, None),
    "train.stop_after": (0, None),
    "train.log_every_steps": (1, None),
    "checkpoint.every_steps": (1, None),
    "checkpoint.keep_last": (3, None),
}
SWITCHES = (
    "model.repeats",
    "negatives.mask_hits",
    "negatives.mask_session",
    "negatives.deduplicate",
    "optimizer.epsilon_in_root",
    "train.deterministic",
)
TEXTS = ("data.path", "init.workdir", "init.step")  # or None


def check(config: ConfigDict) -> None:
    """Checks every field alone, then those that must fit each other.

    Raises:
      UserError: naming the field, its value and what was expected.
    """
    for field, choices in CHOICES.items():
        value = get(config, field)
        if value not in choices:
            raise UserError(
                f"{field} is {value!r}; expected one of: {', '.join(choices)}"
            )
    for field, (lowest, highest) in RANGES.items():
        _check_range(field, get(config, field), lowest, highest)
    for field in SWITCHES:
        value = get(config, field)
        refuse(type(value) is not bool, f"{field} is {value!r}", "true or false")
    for field in TEXTS:
        value = get(config, field)
        refuse(not isinstance(value, str | None), f"{field} is {value!r}", "a text")
    for part in (
        _check_counts,
        _check_evaluate_every,
        _check_eval,
        checks_together.check,
    ):
        part(config)


def _check_range(
    field: str, value: float | None, lowest: float, highest: float | None
) -> None:
    """Refuses what is outside, and what is no number, as a config file may have it."""
    inside = (
        value is not None
        and type(value) is not bool
        and lowest <= value < math.inf
        and (highest is None or value <= highest)
    )
    if not inside:
        limit = "" if highest is None else f" and at most {highest}"
        raise UserError(f"{field} is {value}; expected at least {lowest}{limit}")


def _check_counts(config: ConfigDict) -> None:
    """How many negatives of each source: of one without a field there are none."""
    for field, value in config.negatives.items():
        source = field.removeprefix("num_")
        if source == field:
            continue
        refuse(
            source not in SOURCES,
            f"negatives.{field} is a count, but there is no source {source!r}",
            f"one of: {', '.join(SOURCES)}",
        )
        field = f"negatives.{field}"
        refuse(type(value) is not int, f"{field} is {value!r}", "a whole number")
        _check_range(field, value, 0, 10**8)


def _check_evaluate_every(config: ConfigDict) -> None:
    epochs = config.train.evaluate_every
    refuse(
        not 0 < epochs < 1 and (epochs == 0 or not float(epochs).is_integer()),
        f"train.evaluate_every is {epochs}",
        "a part of an epoch, above 0, or a whole number of epochs",
    )


def _check_eval(config: ConfigDict) -> None:
    """Names and cut-offs; a config read back from JSON has lists for tuples."""
    metrics, cutoffs = (get(config, f"eval.{x}") for x in ("metrics", "cutoffs"))
    for field, value in {"metrics": metrics, "cutoffs": cutoffs}.items():
        refuse(value is None, f"eval.{field} is None", "a tuple")
    for name in metrics:
        try:
            canonical_name(name)
        except (KeyError, AttributeError):
            known = ", ".join([*METRICS, *OTHER_NAMES])
            raise UserError(
                f"eval.metrics is {tuple(metrics)}; expected a tuple, as "
                f'("recall","ndcg"), of: {known}'
            ) from None
    refuse(
        not all(type(cutoff) is int and cutoff > 0 for cutoff in cutoffs),
        f"eval.cutoffs is {tuple(cutoffs)}",
        "a tuple of whole numbers of at least 1",
    )
