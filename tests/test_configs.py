"""Every config file builds with every data set, and says what the paper says."""

import importlib.util

import jax
import numpy as np
import pyarrow as pa
import pytest
import tiny

from experiments import checks, runs
from experiments.configs import fields
from tron_jax.data.sessions import Sessions
from tron_jax.errors import UserError

FOLDER = tiny.ROOT / "experiments" / "configs"
PUBLISHED = sorted(
    path.stem
    for path in FOLDER.glob("*.py")
    if path.stem not in ("__init__", "fields", "smoke")
)
NUM_ITEMS = {"diginetica": 43_097, "yoochoose": 37_483, "otto": 1_855_603}


def get_config(name, *arguments):
    """Loads a config as a person's own file is loaded: by path."""
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config(*arguments)


def sessions():
    """300 sessions of 10 clicks: batches of 128 need 1,152 inputs."""
    offsets = np.arange(0, 3001, 10, dtype=np.int32)
    return Sessions(np.ones(3000, np.int32), offsets, pa.nulls(300), pa.nulls(300))


def assert_builds(config, num_items):
    checks.check(config)
    config = runs.resolve(config, num_items)
    parts = runs.build(config, num_items, sessions())
    state = jax.eval_shape(parts.init)
    shape = (num_items + 1, config.model.hidden_size)
    assert state.items.table.shape == shape
    batch = runs.abstract_batch(parts.batches.sizes[-1])
    after, totals = jax.eval_shape(parts.train_step, state, batch)
    assert jax.tree.structure(after) == jax.tree.structure(state)
    for left, right in zip(jax.tree.leaves(after), jax.tree.leaves(state), strict=True):
        assert (left.shape, left.dtype) == (right.shape, right.dtype)
    assert totals.loss.shape == totals.events.shape == ()
    return config


@pytest.mark.parametrize("dataset", fields.DATASETS)
@pytest.mark.parametrize("name", PUBLISHED)
def test_builds(name, dataset):
    config = assert_builds(get_config(name, dataset), NUM_ITEMS[dataset])
    expected = "rows" if dataset == "otto" else "dense"
    assert config.optimizer.item_table == expected


def test_smoke_builds():
    assert_builds(get_config("smoke"), 2000)


# Values that design.md gives for all SASRec and TRON rows of Table 2.
TRANSFORMER = {
    "model.hidden_size": 200,
    "model.num_layers": 2,
    "model.num_heads": 1,
    "model.feedforward_size": 200,
    "model.max_session_length": 50,
    "model.position": "from_end",
    "negatives.mask_hits": False,
    "optimizer.b1": 0.9,
    "optimizer.b2": 0.999,
    "optimizer.epsilon": 1e-8,
    "optimizer.warmup_steps": 0,
    "train.batch_size": 128,
    "train.order": "chronological",
    "data.validation": 0.0,
}
TRON = {
    "optimizer.learning_rate": 5e-4,
    "negatives.uniform_style": "batchwise",
    "negatives.exclude": "batch",
    "negatives.num_in_batch": 127,
    "loss.name": "ssm",
    "loss.topk": 100,
}
EPOCHS = {"diginetica": 100, "yoochoose": 10, "otto": 10}
TRON_DROPOUT = {"diginetica": 0.2, "yoochoose": 0.05, "otto": 0.05}


@pytest.mark.parametrize("dataset", fields.DATASETS)
@pytest.mark.parametrize(
    ("name", "num_uniform"), [("tron_l", 8192), ("tron_xl", 16384)]
)
def test_published_values(name, num_uniform, dataset):
    config = get_config(name, dataset)
    expected = {
        **TRANSFORMER,
        **TRON,
        "negatives.num_uniform": num_uniform,
        "model.dropout": TRON_DROPOUT[dataset],
        "train.epochs": EPOCHS[dataset],
    }
    found = {field: checks._get(config, field) for field in expected}
    assert found == expected


def test_the_argument_is_a_data_set():
    for name in PUBLISHED:
        assert get_config(name).to_dict() == get_config(name, "diginetica").to_dict()
        for unknown in ("digi", "", "Diginetica", "otto "):
            with pytest.raises(ValueError, match="expected one of: diginetica, yooch"):
                get_config(name, unknown)


def test_every_config_names_its_command():
    for name in [*PUBLISHED, "smoke"]:
        said = (FOLDER / f"{name}.py").read_text()
        command = f"python -m experiments.train --config=experiments/configs/{name}.py"
        assert command in said, name


def test_every_field_is_checked():
    """What is neither a choice, a range nor a path is a switch."""
    known = {*checks.CHOICES, *checks.RANGES, "data.path", "negatives.mask_hits"}
    config = fields.default_config()
    assert known == {f"{group}.{name}" for group in config for name in config[group]}


def test_a_field_that_is_missing():
    config = fields.default_config().unlock()
    del config.model.dropout
    with pytest.raises(UserError, match=r"config field model.dropout is missing"):
        checks.check(config)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("negatives.num_in_batch", 128, "at most train.batch_size - 1 = 127"),
        ("loss.topk", 16512, "candidates, num_uniform . num_in_batch = 16511"),
        ("optimizer.b1", 0.9986, r"below optimizer.b2 \*\* 1.5"),
        ("model.num_heads", 3, "a divisor of model.hidden_size = 200"),
        ("data.validation", 1.0, "at most 0.99"),
        ("data.validation", -0.1, "at least 0"),
        ("checkpoint.keep_last", 2, "at least 3"),
        ("train.seed", 2**32, "at most 4294967295"),
        ("model.position", "start", "from_start, from_end"),
    ],
)
def test_values_that_make_no_sense(field, value, message):
    config = fields.default_config()
    group, name = field.split(".")
    config[group][name] = value
    with pytest.raises(UserError, match=message) as caught:
        checks.check(config)
    assert str(caught.value).startswith(f"{field} is {value!r}; expected")


def test_limits_are_allowed():
    config = fields.default_config()
    config.negatives.num_in_batch = config.train.batch_size - 1
    config.loss.topk = config.negatives.num_uniform + config.negatives.num_in_batch
    config.train.seed = 2**32 - 1
    config.model.dropout = 0.0
    checks.check(config)
    config.negatives.num_in_batch = config.negatives.num_uniform = config.loss.topk = 0
    with pytest.raises(UserError, match="at least one negative"):
        checks.check(config)
