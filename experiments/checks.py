"""Refuses a config that makes no sense, in one line, before anything is compiled."""

from __future__ import annotations

import math
import typing
from collections import ChainMap
from collections.abc import Collection
from typing import Any

from ml_collections import ConfigDict

from experiments.assembly.architectures import MODELS, SCORINGS
from experiments.assembly.run_parts import EVALUATE_ON
from experiments.assembly.settings import FULL_SOFTMAX, negative_sampling
from experiments.assembly.update_rules import ITEM_TABLES, MOMENTS, OPTIMIZERS
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
from tron_jax.sampling.sampler import DRAWN_PER, FITTING_EXCLUDES
from tron_jax.sampling.sources import IN_BATCH, SOURCES

MOST_LEFT = 0.999  # share of a sleeping row's move that may be left a step later
NEW_ITEMS = ("initializer", "neighbours")  # what the rows of new items begin as

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
        value = _get(config, field)
        if value not in choices:
            raise UserError(
                f"{field} is {value!r}; expected one of: {', '.join(choices)}"
            )
    for field, (lowest, highest) in RANGES.items():
        _check_range(field, _get(config, field), lowest, highest)
    for field in SWITCHES:
        value = _get(config, field)
        _refuse(type(value) is not bool, f"{field} is {value!r}", "true or false")
    for field in TEXTS:
        value = _get(config, field)
        _refuse(not isinstance(value, str | None), f"{field} is {value!r}", "a text")
    for part in (
        _check_counts,
        _check_negatives,
        _check_loss,
        _check_model,
        _check_optimizer,
        _check_evaluate_every,
        _check_eval,
        _check_evaluate_on,
        _check_init,
    ):
        part(config)


def _check_range(
    field: str, value: float | None, lowest: float, highest: float | None
) -> None:
    """Refuses what is outside, and None, to which a config lets any field be set."""
    inside = (
        value is not None
        and lowest <= value < math.inf
        and (highest is None or value <= highest)
    )
    if not inside:
        limit = "" if highest is None else f" and at most {highest}"
        raise UserError(f"{field} is {value}; expected at least {lowest}{limit}")


def _refuse(when: bool, found: str, expected: str) -> None:
    if when:
        raise UserError(f"{found}; expected {expected}")


def _check_counts(config: ConfigDict) -> None:
    """How many negatives of each source: of one without a field there are none."""
    for field, value in config.negatives.items():
        source = field.removeprefix("num_")
        if source == field:
            continue
        _refuse(
            source not in SOURCES,
            f"negatives.{field} is a count, but there is no source {source!r}",
            f"one of: {', '.join(SOURCES)}",
        )
        field = f"negatives.{field}"
        _refuse(type(value) is not int, f"{field} is {value!r}", "a whole number")
        _check_range(field, value, 0, 10**8)


def _check_negatives(config: ConfigDict) -> None:
    negatives = negative_sampling(config)
    others = config.train.batch_size - 1
    _refuse(
        negatives.count(IN_BATCH) > others,
        f"negatives.num_in_batch is {negatives.count(IN_BATCH)}",
        f"at most train.batch_size - 1 = {others}",
    )
    drawn_per, exclude = negatives.drawn_per, negatives.exclude
    fitting = FITTING_EXCLUDES.get(drawn_per, tuple(EXCLUDES))
    _refuse(
        exclude not in fitting,
        f"negatives.exclude is {exclude} with negatives.drawn_per={drawn_per}",
        f"one of: {', '.join(fitting)}",
    )


def _check_loss(config: ConfigDict) -> None:
    loss, candidates = config.loss, negative_sampling(config).num_candidates
    if loss.name == FULL_SOFTMAX:
        _check_full_softmax(config)
        return
    *first, last = (f"num_{name}" for name in SOURCES)
    _refuse(
        candidates == 0,
        f"negatives.{', '.join(first)} and {last} are all 0",
        "at least one negative",
    )
    for field in ("topk", "topk_start"):
        _refuse(
            loss[field] > candidates,
            f"loss.{field} is {loss[field]}",
            f"at most the number of candidates, {' + '.join((*first, last))} = "
            f"{candidates}",
        )
    scheduled = (loss.topk_start > 0, loss.topk_steps > 0)
    _refuse(
        any(scheduled) and not (all(scheduled) and loss.topk > 0),
        f"loss.topk_start is {loss.topk_start}, loss.topk_steps {loss.topk_steps}, "
        f"loss.topk {loss.topk}",
        "all three above 0 for a schedule, or both of the first 0",
    )
    _check_log_q(config)
    _refuse(
        loss.penalty > 0 and loss.name != "bpr_max",
        f"loss.penalty is {loss.penalty} with loss.name={loss.name}",
        "loss.name=bpr_max or loss.penalty=0",
    )


def _check_log_q(config: ConfigDict) -> None:
    loss = config.loss
    _refuse(
        loss.logq != "none" and loss.name != "ssm",
        f"loss.logq is {loss.logq} with loss.name={loss.name}",
        "loss.name=ssm or loss.logq=none",
    )
    _refuse(
        loss.logq == "corrected" and not config.negatives.mask_hits,
        "loss.logq is corrected with negatives.mask_hits=false",
        "negatives.mask_hits=true, for the label is not among what is corrected",
    )
    _refuse(
        loss.logq != "none" and loss.elu > 0,
        f"loss.elu is {loss.elu} with loss.logq={loss.logq}",
        "loss.elu=0, for it would bend what logQ has corrected",
    )
    by_clicks = [name for name, source in SOURCES.items() if source.click_power]
    _refuse(
        loss.logq == "by_source"
        and not any(map(negative_sampling(config).count, by_clicks)),
        "loss.logq is by_source without "
        f"{' or '.join(name.replace('_', '-') for name in by_clicks)} negatives",
        f"{' or '.join(f'negatives.num_{name}' for name in by_clicks)} above 0",
    )


def _check_full_softmax(config: ConfigDict) -> None:
    """No sampling, no selection: every item is scored."""
    fields = [f"negatives.num_{name}" for name in negative_sampling(config).counts]
    fields += ["loss.topk", "loss.topk_start", "loss.topk_steps"]
    for field in (*fields, "loss.penalty", "loss.elu"):
        value = _get(config, field)
        _refuse(
            value != 0, f"{field} is {value} with loss.name=full_softmax", f"{field}=0"
        )
    logq = config.loss.logq
    _refuse(
        logq != "none",
        f"loss.logq is {logq} with loss.name=full_softmax, which samples nothing",
        "loss.logq=none",
    )
    for field in ("negatives.mask_hits", "negatives.deduplicate", "model.repeats"):
        _refuse(
            _get(config, field),
            f"{field} is set with loss.name=full_softmax",
            f"{field}=false",
        )


def _check_model(config: ConfigDict) -> None:
    model = config.model
    _refuse(
        model.hidden_size % model.num_heads != 0,
        f"model.num_heads is {model.num_heads}",
        f"a divisor of model.hidden_size = {model.hidden_size}",
    )
    if model.name == "sasrec":
        _refuse(
            model.init != "published",
            f"model.init is {model.init} with model.name=sasrec",
            "published",
        )
        return
    for field, expected in {
        "model.position": "from_start",
        "model.scoring": "dot",
        "model.repeats": False,
        "model.num_layers": 1,
        "model.num_heads": 1,
        "negatives.drawn_per": "batch",
        "train.order": "chronological",
    }.items():
        value = _get(config, field)
        _refuse(
            value != expected,
            f"{field} is {value} with model.name=gru4rec",
            str(expected),
        )
    group = config.train.steps_per_group
    _refuse(
        group > 1,
        f"train.steps_per_group is {group} with model.name=gru4rec",
        "0 or 1: train.steps_per_call is gru4rec's",
    )
    epochs = config.optimizer.schedule_epochs
    _refuse(
        epochs > 0,
        f"optimizer.schedule_epochs is {epochs} with model.name=gru4rec",
        "optimizer.schedule_steps, as its sessions go on from step to step",
    )


def _check_optimizer(config: ConfigDict) -> None:
    optimizer = config.optimizer
    falls = optimizer.schedule != "constant"
    steps, epochs = optimizer.schedule_steps, optimizer.schedule_epochs
    _refuse(
        (steps > 0) + (epochs > 0) != falls,
        f"optimizer.schedule_steps is {steps} and schedule_epochs {epochs} with "
        f"optimizer.schedule={optimizer.schedule}",
        "one of them above 0 for a rate that falls, and both 0 for a constant one",
    )
    _refuse(
        epochs > 0 and bool(config.init.workdir) and config.init.moments == "keep",
        f"optimizer.schedule_epochs is {epochs} with init.moments=keep, where updates "
        "are counted on from the other run",
        "optimizer.schedule_steps, those of the other run included, or "
        "init.moments=reset",
    )
    if optimizer.name == "adagrad":
        return
    for field in ("momentum", "epsilon_in_root"):
        _refuse(
            bool(optimizer[field]),
            f"optimizer.{field} is {optimizer[field]} with optimizer.name=adam",
            "optimizer.name=adagrad",
        )
    _refuse(
        optimizer.b1 > MOST_LEFT * optimizer.b2**1.5,
        f"optimizer.b1 is {optimizer.b1}",
        f"at most {MOST_LEFT} * optimizer.b2 ** 1.5 = "
        f"{MOST_LEFT * optimizer.b2**1.5:.6g}",
    )


def _check_evaluate_every(config: ConfigDict) -> None:
    epochs = config.train.evaluate_every
    _refuse(
        not 0 < epochs < 1 and (epochs == 0 or not float(epochs).is_integer()),
        f"train.evaluate_every is {epochs}",
        "a part of an epoch, above 0, or a whole number of epochs",
    )


def _check_eval(config: ConfigDict) -> None:
    """Names and cut-offs; a config read back from JSON has lists for tuples."""
    metrics, cutoffs = (_get(config, f"eval.{x}") for x in ("metrics", "cutoffs"))
    for field, value in {"metrics": metrics, "cutoffs": cutoffs}.items():
        _refuse(value is None, f"eval.{field} is None", "a tuple")
    for name in metrics:
        try:
            canonical_name(name)
        except (KeyError, AttributeError):
            known = ", ".join([*METRICS, *OTHER_NAMES])
            raise UserError(
                f"eval.metrics is {tuple(metrics)}; expected a tuple, as "
                f'("recall","ndcg"), of: {known}'
            ) from None
    _refuse(
        not all(type(cutoff) is int and cutoff > 0 for cutoff in cutoffs),
        f"eval.cutoffs is {tuple(cutoffs)}",
        "a tuple of whole numbers of at least 1",
    )


def _check_evaluate_on(config: ConfigDict) -> None:
    on, share = config.train.evaluate_on, config.data.validation
    _refuse(
        on == "validation" and not share,
        f"train.evaluate_on is {on} with data.validation={share}",
        "data.validation above 0",
    )


def _check_init(config: ConfigDict) -> None:
    init = config.init
    for field, default in {
        "step": None,
        "new_items": NEW_ITEMS[0],
        "moments": MOMENTS[0],
    }.items():
        _refuse(
            not init.workdir and init[field] != default,
            f"init.{field} is {init[field]} without init.workdir",
            "the workdir of a run to start warm from",
        )


def _get(config: ConfigDict, field: str):
    group, name = field.split(".")
    if group not in config or name not in config[group]:
        raise UserError(f"config field {field} is missing")
    return config[group][name]
