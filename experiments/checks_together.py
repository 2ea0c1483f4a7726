"""Refuses fields of a config that make no sense together, each of which alone does."""

from __future__ import annotations

from typing import Any

from ml_collections import ConfigDict

from experiments.assembly.settings import FULL_SOFTMAX, negative_sampling
from experiments.assembly.update_rules import MOMENTS
from tron_jax.errors import UserError
from tron_jax.sampling.exclusion import EXCLUDES
from tron_jax.sampling.sampler import FITTING_EXCLUDES
from tron_jax.sampling.sources import IN_BATCH, SOURCES

MOST_LEFT = 0.999  # share of a sleeping row's move that may be left a step later
NEW_ITEMS = ("initializer", "neighbours")  # what the rows of new items begin as


def check(config: ConfigDict) -> None:
    """Checks what must fit each other, of fields that were checked alone.

    Raises:
      UserError: naming the fields, their values and what was expected.
    """
    for part in (
        _check_negatives,
        _check_loss,
        _check_model,
        _check_optimizer,
        _check_evaluate_on,
        _check_init,
    ):
        part(config)


def refuse(when: bool, found: str, expected: str) -> None:
    """Raises UserError when something is found that was not expected."""
    if when:
        raise UserError(f"{found}; expected {expected}")


def get(config: ConfigDict, field: str) -> Any:
    """The value of a field, given as group.name; UserError where a config lacks it."""
    group, name = field.split(".")
    fields = config.get(group)
    if not isinstance(fields, ConfigDict) or name not in fields:
        raise UserError(f"config field {field} is missing")
    return fields[name]


def _check_negatives(config: ConfigDict) -> None:
    negatives = negative_sampling(config)
    others = config.train.batch_size - 1
    refuse(
        negatives.count(IN_BATCH) > others,
        f"negatives.num_in_batch is {negatives.count(IN_BATCH)}",
        f"at most train.batch_size - 1 = {others}",
    )
    drawn_per, exclude = negatives.drawn_per, negatives.exclude
    fitting = FITTING_EXCLUDES.get(drawn_per, tuple(EXCLUDES))
    refuse(
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
    refuse(
        candidates == 0,
        f"negatives.{', '.join(first)} and {last} are all 0",
        "at least one negative",
    )
    for field in ("topk", "topk_start"):
        refuse(
            loss[field] > candidates,
            f"loss.{field} is {loss[field]}",
            f"at most the number of candidates, {' + '.join((*first, last))} = "
            f"{candidates}",
        )
    scheduled = (loss.topk_start > 0, loss.topk_steps > 0)
    refuse(
        any(scheduled) and not (all(scheduled) and loss.topk > 0),
        f"loss.topk_start is {loss.topk_start}, loss.topk_steps {loss.topk_steps}, "
        f"loss.topk {loss.topk}",
        "all three above 0 for a schedule, or both of the first 0",
    )
    _check_log_q(config)
    refuse(
        loss.penalty > 0 and loss.name != "bpr_max",
        f"loss.penalty is {loss.penalty} with loss.name={loss.name}",
        "loss.name=bpr_max or loss.penalty=0",
    )


def _check_log_q(config: ConfigDict) -> None:
    loss = config.loss
    refuse(
        loss.logq != "none" and loss.name != "ssm",
        f"loss.logq is {loss.logq} with loss.name={loss.name}",
        "loss.name=ssm or loss.logq=none",
    )
    refuse(
        loss.logq == "corrected" and not config.negatives.mask_hits,
        "loss.logq is corrected with negatives.mask_hits=false",
        "negatives.mask_hits=true, for the label is not among what is corrected",
    )
    refuse(
        loss.logq != "none" and loss.elu > 0,
        f"loss.elu is {loss.elu} with loss.logq={loss.logq}",
        "loss.elu=0, for it would bend what logQ has corrected",
    )
    by_clicks = [name for name, source in SOURCES.items() if source.click_power]
    refuse(
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
        value = get(config, field)
        refuse(
            value != 0, f"{field} is {value} with loss.name=full_softmax", f"{field}=0"
        )
    logq = config.loss.logq
    refuse(
        logq != "none",
        f"loss.logq is {logq} with loss.name=full_softmax, which samples nothing",
        "loss.logq=none",
    )
    for field in ("negatives.mask_hits", "negatives.deduplicate", "model.repeats"):
        refuse(
            get(config, field),
            f"{field} is set with loss.name=full_softmax",
            f"{field}=false",
        )


def _check_model(config: ConfigDict) -> None:
    model = config.model
    refuse(
        model.hidden_size % model.num_heads != 0,
        f"model.num_heads is {model.num_heads}",
        f"a divisor of model.hidden_size = {model.hidden_size}",
    )
    if model.name == "sasrec":
        refuse(
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
        value = get(config, field)
        refuse(
            value != expected,
            f"{field} is {value} with model.name=gru4rec",
            str(expected),
        )
    group = config.train.steps_per_group
    refuse(
        group > 1,
        f"train.steps_per_group is {group} with model.name=gru4rec",
        "0 or 1: train.steps_per_call is gru4rec's",
    )
    epochs = config.optimizer.schedule_epochs
    refuse(
        epochs > 0,
        f"optimizer.schedule_epochs is {epochs} with model.name=gru4rec",
        "optimizer.schedule_steps, as its sessions go on from step to step",
    )


def _check_optimizer(config: ConfigDict) -> None:
    optimizer = config.optimizer
    falls = optimizer.schedule != "constant"
    steps, epochs = optimizer.schedule_steps, optimizer.schedule_epochs
    refuse(
        (steps > 0) + (epochs > 0) != falls,
        f"optimizer.schedule_steps is {steps} and schedule_epochs {epochs} with "
        f"optimizer.schedule={optimizer.schedule}",
        "one of them above 0 for a rate that falls, and both 0 for a constant one",
    )
    refuse(
        epochs > 0 and bool(config.init.workdir) and config.init.moments == "keep",
        f"optimizer.schedule_epochs is {epochs} with init.moments=keep, where updates "
        "are counted on from the other run",
        "optimizer.schedule_steps, those of the other run included, or "
        "init.moments=reset",
    )
    if optimizer.name == "adagrad":
        return
    for field in ("momentum", "epsilon_in_root"):
        refuse(
            bool(optimizer[field]),
            f"optimizer.{field} is {optimizer[field]} with optimizer.name=adam",
            "optimizer.name=adagrad",
        )
    refuse(
        optimizer.b1 > MOST_LEFT * optimizer.b2**1.5,
        f"optimizer.b1 is {optimizer.b1}",
        f"at most {MOST_LEFT} * optimizer.b2 ** 1.5 = "
        f"{MOST_LEFT * optimizer.b2**1.5:.6g}",
    )


def _check_evaluate_on(config: ConfigDict) -> None:
    on, share = config.train.evaluate_on, config.data.validation
    refuse(
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
        refuse(
            not init.workdir and init[field] != default,
            f"init.{field} is {init[field]} without init.workdir",
            "the workdir of a run to start warm from",
        )
