"""Every file of sweeps names settings that a run accepts."""

import pytest
import tiny

from experiments.comparing import claims
from experiments.configs import tron_plus, tron_xl
from experiments.configs.defaults import DATASETS
from experiments.sweeping import definition
from experiments.sweeps import ablation, ablation_to_the_end, table2
from experiments.sweeps import tron_plus as tron_plus_path

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
def test_the_largest_steps_are_trained_to_the_end(dataset):
    """Each pair is one step of the path apart, and trained as Table 2 is."""
    short, long = ablation.sweep(dataset), ablation_to_the_end.sweep(dataset)
    path, names = list(short), list(long)
    assert len(names) == 2 * len(ablation_to_the_end.LARGEST)
    for before, after in zip(names[::2], names[1::2], strict=True):
        assert path.index(after) == path.index(before) + 1
    for name, (config, _) in long.items():
        assert (config.train.epochs, config.train.stop_after) == (30, 5)
        config.train.epochs, config.train.stop_after = ablation.EPOCHS, 0
        assert config == short[name][0]


@pytest.mark.parametrize("window", tron_plus_path.WINDOWS)
def test_the_path_arrives_at_tron_plus(window):
    *_, (arrived, _) = tron_plus_path.sweep(window).values()
    expected = tron_plus.get_config(window.partition("_")[0])
    expected.train.evaluate_on = "validation"
    shares = arrived.data.validation, arrived.data.without_last
    expected.data.validation, expected.data.without_last = shares
    assert arrived == expected
    assert shares[0] > 0


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
