"""Workdirs of older versions: their configs are read, and their runs resume."""

import json
import shutil

import pytest
import tiny

from experiments import workdirs
from experiments.assembly.settings import negative_sampling
from experiments.configs import defaults
from tron_jax.sampling.sources import SOURCES
from tron_jax.storage.checkpoints import Checkpoints

RESULTS = tiny.ROOT / "experiments" / "results"
OLD = sorted(path.parent for path in RESULTS.glob("*/*/config.json"))
OLDEST = RESULTS / "diginetica" / "tron_xl_mask_hits_from_start"


def fields(config):
    return {f"{group}.{name}" for group in config for name in config[group]}


@pytest.mark.parametrize("workdir", OLD, ids=lambda path: path.name)
def test_an_old_config_gets_every_field_of_today(workdir):
    """Or else a field was added without a line in ``workdirs.ADDED``."""
    config, _ = workdirs.read_config(workdir)
    counts = {f"negatives.num_{source}" for source in SOURCES}
    assert fields(config) - counts == fields(defaults.default_config()) - counts


def test_the_oldest_run_had_what_it_does_not_say():
    assert "uniform_style" in (OLDEST / "config.json").read_text()
    config, made_with = workdirs.read_config(OLDEST)
    published = defaults.default_config()  # of TRON XL, whose fields it was before
    published.model.dropout = 0.2
    published.model.position = "from_start"
    published.negatives.mask_hits = True
    published.optimizer.item_table = "dense"
    published.train.epochs = 3
    published.train.steps_per_group = 1
    published.data.path = ""
    assert negative_sampling(config).counts == {"uniform": 16384, "in_batch": 127}
    del published.unlock().negatives["num_popularity"]
    assert config.to_dict() == published.to_dict()
    assert made_with["jax"] == "0.10.2"


def test_no_field_is_both_added_and_renamed():
    today = fields(defaults.default_config())
    assert {*workdirs.ADDED} <= today
    assert {new for new, _ in workdirs.RENAMED.values()} <= today - {*workdirs.ADDED}
    assert not {*workdirs.RENAMED} & today
    assert {*workdirs.MAY_CHANGE} <= today


def make_old(workdir):
    """Rewrites config.json as the first version did."""
    content = json.loads((workdir / "config.json").read_text())
    for field in [*workdirs.ADDED, "negatives.num_popularity"]:
        group, name = field.split(".")
        del content[group][name]
    assert content["negatives"].pop("drawn_per") == "batch"
    content["negatives"]["uniform_style"] = "batchwise"
    (workdir / "config.json").write_text(json.dumps(content))


@pytest.fixture
def unbroken(tiny_runs):
    """The run that was not stopped; made before ``train`` changes what a run does."""
    return tiny_runs("rows")


def test_an_old_run_resumes(unbroken, stopped, train):
    make_old(stopped)
    status, out, err = train(stopped)
    assert (status, err) == (0, "")
    assert "resuming at step 33" in out
    tiny.assert_same_run(stopped, unbroken)
    found = json.loads((stopped / "config.json").read_text())
    assert found["negatives"]["drawn_per"] == "batch"
    assert "uniform_style" not in found["negatives"]


def test_checkpoints_may_come_at_other_steps_when_a_run_resumes(
    tmp_path, unbroken, stopped, tiny_data, train
):
    """And more of them may stay; the training itself is the same."""
    moved = tmp_path / "moved"
    shutil.copytree(tiny_data, moved)
    changes = {
        "checkpoint__every_steps": 6,
        "checkpoint__keep_last": 4,
        "train__log_every_steps": 5,
    }
    assert {name.replace("__", ".") for name in changes} < {*workdirs.MAY_CHANGE}
    status, _, err = train(stopped, data=moved, **changes)
    assert (status, err) == (0, "")
    steps = [step for step in Checkpoints(stopped / "checkpoints").steps() if step > 33]
    assert steps == [36, 42, 48, 50]
    tiny.assert_same_bits(tiny.saved(stopped)[0], tiny.saved(unbroken)[0])
    found = json.loads((stopped / "config.json").read_text())
    assert found["checkpoint"] == {"every_steps": 6, "keep_last": 4}
    ends = [line["step"] for line in tiny.lines(stopped) if "loss" in line]
    assert ends[ends.index(32) + 1 :] == [35, 36, 40, 42, 45, 48, 50]
