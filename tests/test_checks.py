"""Configs that make no sense are refused in one line each."""

import re
from pathlib import Path

import pytest

from experiments import checks
from experiments.configs import defaults
from tron_jax.errors import UserError
from tron_jax.sampling.sources import SOURCES


def test_every_field_is_checked():
    tuples = {"eval.metrics", "eval.cutoffs"}
    counts = {f"negatives.num_{source}" for source in SOURCES}
    by_kind = (checks.CHOICES, checks.RANGES, checks.SWITCHES, checks.TEXTS)
    known = {*counts, *tuples}.union(*by_kind)
    config = defaults.default_config()
    assert known == {f"{group}.{name}" for group in config for name in config[group]}


def test_the_choices_that_a_field_is_said_to_have_are_those_it_has():
    """The comments of defaults.py name them, for whoever writes a config."""
    named = {}
    for line in Path(defaults.__file__).read_text().splitlines():
        if found := re.match(r"    (\w+\.\w+) = .*?# (.*\|.*)", line):
            choices = found[2].split("|")
            named[found[1]] = {re.match(r"\s*(\w+)", choice)[1] for choice in choices}
    assert named == {field: {*choices} for field, choices in checks.CHOICES.items()}


@pytest.mark.parametrize(
    "field", ["model.dropout", "negatives.mask_hits", "data.path", "eval.cutoffs"]
)
def test_a_field_that_is_missing(field):
    config = defaults.default_config().unlock()
    group, name = field.split(".")
    del config[group][name]
    with pytest.raises(UserError, match=f"config field {field} is missing"):
        checks.check(config)


def test_a_count_is_a_whole_number():
    config = defaults.default_config().unlock()
    del config.negatives.num_popularity  # a field of one's own may have any type
    config.negatives.num_popularity = 2.5
    with pytest.raises(UserError, match=r"is 2.5; expected a whole number"):
        checks.check(config)


def test_a_source_has_no_negatives_without_a_count():
    config = defaults.default_config().unlock()
    del config.negatives.num_popularity
    checks.check(config)
    config.negatives.num_popularty = 3
    with pytest.raises(UserError, match=r"no source 'popularty'; expected one of: uni"):
        checks.check(config)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("negatives.num_popularity", -1, "at least 0"),
        ("negatives.num_uniform", 10**11, "at most 100000000"),
        ("train.batch_size", 10**400, "at most 1000000"),
        ("eval.metrics", ("recall,mrr",), "a tuple, as .*of: recall, mrr, ndcg, hit"),
        ("negatives.drawn_per", "batchwise", "event, session, batch"),
        ("negatives.num_in_batch", 128, "at most train.batch_size - 1 = 127"),
        ("loss.topk", 16512, "candidates, .* = 16511"),
        ("loss.topk_steps", 2**31, "at most 1000000000"),
        ("model.hidden_size", None, "at least 1 and at most 1000000"),
        ("eval.cutoffs", None, "a tuple"),
        ("negatives.mask_hits", None, "true or false"),
        ("optimizer.b2", 0.0, "at least 1e-06 and at most 0.9999"),
        ("optimizer.b1", 0.998, r"at most 0.999 \* optimizer.b2 \*\* 1.5 = 0.9975"),
        ("model.num_heads", 3, "a divisor of model.hidden_size = 200"),
        ("data.validation", 1.0, "at most 0.99"),
        ("data.validation", -0.1, "at least 0"),
        ("checkpoint.keep_last", 2, "at least 3"),
        ("train.seed", 2**32, "at most 4294967295"),
        ("train.evaluate_every", 0.0, "a part of an epoch, above 0, or a whole"),
        ("train.evaluate_every", 1.5, "a part of an epoch, above 0, or a whole"),
        ("train.evaluate_every", float("nan"), "at least 0"),
        ("train.stop_after", -1, "at least 0"),
        ("model.position", "start", "from_start, from_end"),
        ("model.compute_dtype", "float16", "float32, bfloat16"),
    ],
)
def test_values_that_make_no_sense(field, value, message):
    config = defaults.default_config()
    group, name = field.split(".")
    config[group][name] = value
    with pytest.raises(UserError, match=message) as caught:
        checks.check(config)
    assert str(caught.value).startswith(f"{field} is {value!r}; expected")


FULL_SOFTMAX = {
    "loss.name": "full_softmax",
    "loss.topk": 0,
    "negatives.num_uniform": 0,
    "negatives.num_in_batch": 0,
}
SLOTS = {"model.name": "gru4rec", "model.num_layers": 1, "model.position": "from_start"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"negatives.drawn_per": "event"}, "exclude is batch with .*drawn_per=event"),
        ({"negatives.exclude": "session"}, "exclude is session with .*drawn_per=batch"),
        (FULL_SOFTMAX | {"loss.topk": 5}, "topk is 5 with loss.name=full_softmax"),
        (FULL_SOFTMAX | {"loss.logq": "plain"}, "logq is plain with .*samples nothing"),
        (
            FULL_SOFTMAX | {"negatives.num_uniform": 5},
            "num_uniform is 5 with loss.name",
        ),
        (FULL_SOFTMAX | {"negatives.mask_hits": True}, "mask_hits is set"),
        (
            {"loss.name": "bce", "loss.logq": "plain"},
            "logq is plain with loss.name=bce",
        ),
        (
            {"loss.logq": "by_source", "negatives.num_in_batch": 0},
            "without popularity or in-batch negatives; expected negatives.num_popular",
        ),
        ({"loss.logq": "plain", "loss.elu": 0.5}, "elu is 0.5 with loss.logq=plain"),
        ({"loss.logq": "corrected"}, "corrected with negatives.mask_hits=false"),
        ({"loss.penalty": 0.1}, "penalty is 0.1 with loss.name=ssm"),
        (
            {"optimizer.schedule": "step", "optimizer.schedule_epochs": 2}
            | {"init.workdir": "RUN", "init.moments": "keep"},
            "schedule_epochs is 2.0 with init.moments=keep.*expected .*schedule_steps",
        ),
        (
            SLOTS | {"optimizer.schedule": "step", "optimizer.schedule_epochs": 2},
            "schedule_epochs is 2.0 with model.name=gru4rec; .*schedule_steps",
        ),
        ({"loss.topk_start": 200}, "expected all three above 0"),
        ({"loss.topk_steps": 200}, "expected all three above 0"),
        ({"loss.topk_start": 16512, "loss.topk_steps": 9}, "topk_start is 16512"),
        ({"optimizer.momentum": 0.2}, "momentum is 0.2 with optimizer.name=adam"),
        ({"optimizer.epsilon_in_root": True}, "epsilon_in_root is True with"),
        ({"model.init": "original"}, "init is original with model.name=sasrec"),
        (
            SLOTS | {"model.position": "from_end"},
            "position is from_end with model.name",
        ),
        (SLOTS | {"model.num_layers": 2}, "num_layers is 2 with model.name=gru4rec"),
        (SLOTS | {"train.order": "shuffled"}, "order is shuffled with model.name"),
        (
            SLOTS | {"negatives.drawn_per": "session", "negatives.exclude": "none"},
            "drawn_per is session with model.name=gru4rec",
        ),
    ],
)
def test_combinations_that_make_no_sense(changes, message):
    config = defaults.default_config()
    for field, value in changes.items():
        group, name = field.split(".")
        config[group][name] = value
    with pytest.raises(UserError, match=message) as caught:
        checks.check(config)
    assert "\n" not in str(caught.value)


def test_full_softmax_and_slots_are_allowed():
    for changes in (FULL_SOFTMAX, SLOTS):
        config = defaults.default_config()
        for field, value in changes.items():
            group, name = field.split(".")
            config[group][name] = value
        checks.check(config)


def test_limits_are_allowed():
    config = defaults.default_config()
    config.negatives.num_in_batch = config.train.batch_size - 1
    config.loss.topk = config.negatives.num_uniform + config.negatives.num_in_batch
    config.train.seed = 2**32 - 1
    config.model.dropout = 0.0
    checks.check(config)
    config.negatives.num_in_batch = config.negatives.num_uniform = config.loss.topk = 0
    with pytest.raises(UserError, match="at least one negative"):
        checks.check(config)
