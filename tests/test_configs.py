"""Every config file builds with every data set, and says what the paper says."""

import importlib.util
import json

import jax
import numpy as np
import pyarrow as pa
import pytest
import tiny

from experiments import checks
from experiments.assembly import run_parts, settings
from experiments.checks_together import get
from experiments.configs import defaults
from tron_jax.data.sessions import Sessions

FOLDER = tiny.ROOT / "experiments" / "configs"
PUBLISHED = sorted(
    path.stem
    for path in FOLDER.glob("*.py")
    if path.stem not in ("__init__", "defaults", "smoke", "stored", "tron_plus")
)
NUM_ITEMS = {"diginetica": 43_097, "yoochoose": 37_483, "otto": 1_855_603}


def get_config(name, *arguments):
    """Loads a config as a person's own file is loaded: by path."""
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config(*arguments)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, False),  # 100 of 16,511
        ({"topk": 1000}, True),
        ({"topk_start": 3000, "topk_steps": 9}, True),
        ({"topk": 0}, False),
    ],
)
def test_many_selected_candidates_get_their_gradient_by_matmul(fields, expected):
    config = get_config("tron_xl", "diginetica")
    config.loss.update(fields)
    assert settings.selects_many(config) == expected


def sessions():
    """300 sessions of 10 clicks: batches of 128 need 1,152 inputs."""
    offsets = np.arange(0, 3001, 10, dtype=np.int32)
    return Sessions(np.ones(3000, np.int32), offsets, pa.nulls(300), pa.nulls(300))


def assert_builds(config, num_items):
    checks.check(config)
    config = run_parts.resolve(config, num_items, train=sessions())
    parts = run_parts.build(config, num_items, sessions())
    state = jax.eval_shape(parts.init)
    width = config.model.hidden_size + (config.model.name == "gru4rec")
    assert state.items.table.shape == (num_items + 1, width)
    batch = parts.batches.shapes[-1]
    after, totals = jax.eval_shape(parts.train_step, state, batch, parts.constants)
    assert jax.tree.structure(after) == jax.tree.structure(state)
    for left, right in zip(jax.tree.leaves(after), jax.tree.leaves(state), strict=True):
        assert (left.shape, left.dtype) == (right.shape, right.dtype)
    assert totals.loss.shape == totals.events.shape
    return config


@pytest.mark.parametrize("dataset", defaults.DATASETS)
@pytest.mark.parametrize("name", [*PUBLISHED, "tron_plus"])
def test_builds(name, dataset):
    config = assert_builds(get_config(name, dataset), NUM_ITEMS[dataset])
    large = dataset == "otto" or config.model.name == "gru4rec"
    expected = "rows" if large else "dense"
    assert config.optimizer.item_table == expected


def test_the_epochs_of_a_schedule_become_steps():
    config = get_config("tron_plus", "diginetica")
    config.optimizer.schedule_epochs = 1.5
    optimizer = assert_builds(config, 2000).optimizer
    assert (optimizer.schedule_steps, optimizer.schedule_epochs) == (4, 0)  # of 3 each


def test_smoke_builds():
    assert_builds(get_config("smoke"), 2000)


# What all SASRec and TRON rows of Table 2 share, by the paper and its code.
TRANSFORMER = {
    "model.name": "sasrec",
    "model.hidden_size": 200,
    "model.num_layers": 2,
    "model.num_heads": 1,
    "model.feedforward_size": 200,
    "model.max_session_length": 50,
    "model.position": "from_end",
    "model.dropout": 0.05,
    "model.compute_dtype": "float32",
    "negatives.in_batch_from": "inputs",
    "negatives.mask_session": True,
    "negatives.mask_hits": False,
    "negatives.deduplicate": False,
    "negatives.num_popularity": 0,
    "loss.topk_start": 0,
    "loss.elu": 0.0,
    "loss.logq": "none",
    "loss.mean_over": "events",
    "optimizer.name": "adam",
    "optimizer.learning_rate": 5e-4,
    "optimizer.b1": 0.9,
    "optimizer.b2": 0.999,
    "optimizer.epsilon": 1e-8,
    "optimizer.warmup_steps": 0,
    "train.batch_size": 128,
    "train.order": "chronological",
    "data.validation": 0.0,
}
SASREC = {
    **TRANSFORMER,
    "negatives.drawn_per": "session",
    "negatives.exclude": "none",
    "negatives.num_uniform": 8192,
    "negatives.num_in_batch": 127,
    "loss.topk": 0,
    "loss.penalty": 0.0,
}
TRON = {
    **TRANSFORMER,
    "negatives.drawn_per": "batch",
    "negatives.exclude": "batch",
    "negatives.num_in_batch": 127,
    "loss.name": "ssm",
    "loss.topk": 100,
}
GRU4REC = {
    "model.name": "gru4rec",
    "model.hidden_size": 100,
    "model.compute_dtype": "float32",
    "negatives.drawn_per": "batch",
    "negatives.exclude": "none",
    "negatives.num_in_batch": 31,
    "negatives.mask_hits": False,
    "loss.topk": 0,
    "optimizer.name": "adagrad",
    "optimizer.learning_rate": 0.2,
    "train.batch_size": 32,
    "train.order": "chronological",
    "data.validation": 0.0,
}
TRON_DROPOUT = {"model.dropout": (0.2, 0.05, 0.05)}
SSM_DROPOUT = {"model.dropout": (0.1, 0.05, 0.05)}
# A tuple holds the values of Diginetica, Yoochoose and OTTO.
ROWS = {
    "sasrec": SASREC
    | {
        "negatives.drawn_per": "event",
        "negatives.exclude": "session",
        "negatives.num_uniform": 1,
        "negatives.num_in_batch": 0,
        "loss.name": "bce",
        "optimizer.learning_rate": 1e-3,
    },
    "sasrec_m_negs": SASREC
    | {
        "negatives.num_uniform": 512,
        "negatives.num_in_batch": 16,
        "loss.name": "bce",
    },
    "sasrec_l_negs": SASREC | {"loss.name": "bce"},
    "sasrec_bpr_max": SASREC
    | SSM_DROPOUT
    | {"loss.name": "bpr_max", "loss.penalty": (0.1, 0.125, 0.03)},
    "sasrec_ssm": SASREC | SSM_DROPOUT | {"loss.name": "ssm"},
    "tron_l": TRON | TRON_DROPOUT | {"negatives.num_uniform": 8192},
    "tron_xl": TRON | TRON_DROPOUT | {"negatives.num_uniform": 16384},
    "gru4rec": GRU4REC
    | {
        "model.init": "published",
        "model.dropout": 0.0,
        "model.max_session_length": 200,
        "negatives.num_uniform": 2048,
        "negatives.num_popularity": 0,
        "negatives.in_batch_from": "inputs",
        "loss.name": "bpr_max",
        "loss.penalty": 0.5,
        "loss.elu": 0.5,
        "loss.logq": "none",
        "optimizer.epsilon": 1e-10,
        "optimizer.epsilon_in_root": False,
        "optimizer.momentum": 0.0,
        "train.epochs": (10, 3, 1),
    },
    "gru4rec_original": GRU4REC
    | {
        "model.init": "original",
        "model.dropout": 0.4,
        "model.max_session_length": 10**6,
        "negatives.num_uniform": 0,
        "negatives.num_popularity": 2048,
        "negatives.popularity_exponent": 0.5,
        "negatives.in_batch_from": "labels",
        "loss.name": "ssm",
        "loss.logq": "by_source",
        "loss.mean_over": "batch",
        "optimizer.epsilon": 1e-6,
        "optimizer.epsilon_in_root": True,
        "optimizer.momentum": 0.2,
        "train.epochs": 10,
    },
}


def test_every_row_of_table_2_has_a_config():
    assert sorted(ROWS) == PUBLISHED


@pytest.mark.parametrize("dataset", defaults.DATASETS)
@pytest.mark.parametrize("name", PUBLISHED)
def test_published_values(name, dataset):
    config = get_config(name, dataset)
    expected = {"train.epochs": (100, 10, 10)} | ROWS[name]
    found = {field: get(config, field) for field in expected}
    which = defaults.DATASETS.index(dataset)
    assert found == {
        field: value[which] if isinstance(value, tuple) else value
        for field, value in expected.items()
    }


def test_the_argument_is_a_data_set():
    for name in PUBLISHED:
        assert get_config(name).to_dict() == get_config(name, "diginetica").to_dict()
        for unknown in ("digi", "", "Diginetica", "otto "):
            with pytest.raises(ValueError, match="expected one of: diginetica, yooch"):
                get_config(name, unknown)


def test_every_config_names_its_command():
    for name in [*PUBLISHED, "smoke"]:
        said = (FOLDER / f"{name}.py").read_text()
        assert "python -m experiments.train --" in said, name
        assert f"--config=experiments/configs/{name}.py" in said, name


def test_a_stored_config_is_the_one_that_was_stored(tmp_path):
    config = get_config("gru4rec_original", "yoochoose")
    config.eval.cutoffs = (1, 7)
    content = config.to_dict() | {"provenance": {"fingerprint": "0"}}
    (tmp_path / "config.json").write_text(json.dumps(content))
    stored = get_config("stored", str(tmp_path / "config.json"))
    assert stored.to_dict() == config.to_dict()
    assert stored.is_locked
    (tmp_path / "stats.json").write_text("{}")
    with pytest.raises(ValueError, match=r"stats\.json: expected a config"):
        get_config("stored", str(tmp_path / "stats.json"))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot read .*: No such file"),
        (b"not", r"not JSON \(Expecting value"),
        (b"\xff\xfe", r"not JSON \('utf-8' codec"),
        (b'{"model": 3}', "model is no group of config fields"),
        (b'{"model": {}, "loss_": {}}', "loss_ is no group of config fields"),
    ],
)
def test_a_stored_config_that_is_none(tmp_path, content, words):
    """As a ValueError of words alone, of which absl makes another."""
    path = tmp_path / "config.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=words) as caught:
        get_config("stored", str(path))
    assert type(caught.value) is ValueError
    assert str(path) in str(caught.value)
