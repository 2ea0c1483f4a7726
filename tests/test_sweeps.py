"""Every file of sweeps names settings that a run accepts."""

import pytest
import tiny

from experiments.configs import tron_xl
from experiments.configs.defaults import DATASETS
from experiments.sweeping import definition
from experiments.sweeps import ablation

FILES = sorted((tiny.ROOT / "experiments" / "sweeps").glob("[a-z]*.py"))


@pytest.mark.portable
@pytest.mark.parametrize("dataset", DATASETS)
@pytest.mark.parametrize("file", FILES, ids=lambda path: path.stem)
def test_every_setting_is_accepted(file, dataset):
    settings = definition.read_file(f"{file}:{dataset}", None)
    runs, refused = definition.runs_of(settings, seed_by_seed=False)
    assert refused == []
    assert [run.setting for run in runs] == [
        setting.name for setting in settings for _ in range(setting.seeds)
    ]
    for setting in settings:
        seeds = [run.seed for run in runs if run.setting == setting.name]
        assert seeds == list(range(setting.seeds))
    assert len({str(setting.config) for setting in settings}) == len(settings)


@pytest.mark.parametrize("dataset", DATASETS)
def test_the_ablation_arrives_at_tron_xl(dataset):
    arrived, _ = ablation.sweep(dataset)["tron_xl"]
    expected = tron_xl.get_config(dataset)
    expected.train.epochs = ablation.EPOCHS
    assert arrived == expected
