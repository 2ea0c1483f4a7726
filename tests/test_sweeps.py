"""Every file of sweeps names settings that a run accepts."""

import pytest
import tiny

from experiments.comparing import claims
from experiments.configs import tron_xl
from experiments.configs.defaults import DATASETS
from experiments.sweeping import definition
from experiments.sweeps import ablation, table2

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


@pytest.mark.parametrize("dataset", DATASETS)
def test_the_paper_is_quoted_of_rows_that_are_made(dataset):
    """The figures stand in the configs' first lines as well, typed a second time."""
    quoted = claims.read(f"{table2.__file__}:{dataset}")
    assert quoted.figures.keys() == table2.sweep(dataset).keys() - {"gru4rec_original"}
    for row, figures in quoted.figures.items():
        text = " ".join((table2.ROWS[row][0].__doc__ or "").split())
        shown = " / ".join(f"{figures[key]:.3f}" for key in ("recall@20", "mrr@20"))
        assert f"{dataset} {shown}" in text.lower(), row
    assert len(quoted.claims) == len(set(quoted.claims)) > 0
