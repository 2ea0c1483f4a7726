"""``experiments.compare``: which states of runs were evaluated, and by which rule."""

import json

import pytest
import tiny
from made_up_results import build, write_run, write_sweep

from experiments.comparing import differences, settings, statistics
from experiments.comparing.text_table import format_comparison
from experiments.runs import reading

ON_VALIDATION = "best, the highest Recall@20 on validation"
ON_TEST = "best, the highest Recall@20 on test"


@pytest.fixture(autouse=True)
def few_draws(monkeypatch):
    monkeypatch.setattr(statistics, "REPLICATES", 500)
    monkeypatch.setattr(differences, "SLICE_REPLICATES", 400)


def pooled(comparison):
    return [setting.seeds for setting in comparison.settings]


def test_a_run_that_was_extended_but_not_evaluated_again_is_by_itself(
    tmp_path, tiny_data
):
    for topk in (4, 8):
        for seed in (0, 1):
            at = 2 if (topk, seed) == (4, 1) else 4
            folder = tmp_path / f"{topk}-{seed}"
            write_run(folder, tiny_data, seed=seed, epochs=4, at=at, loss__topk=topk)
    comparison = build(tmp_path)
    assert pooled(comparison) == [(0,), (1,), (0, 1)]
    whole, stale, other = comparison.settings
    assert stale.name == "topk=4 (evaluated at step 50, not yet at step 100)"
    assert stale.remarks == (
        "evaluated at step 50, not yet at step 100; in the table by its last "
        "evaluation, and in no difference",
    )
    assert whole.remarks == other.remarks == ()
    compared = {(d.baseline, d.setting) for d in comparison.differences}
    assert compared == {("topk=4", "topk=8")}
    assert comparison.warnings == ()


def test_a_checkpoint_tells_that_a_run_was_trained_on(tmp_path, tiny_data):
    write_run(tmp_path / "a", tiny_data, seed=0)
    ahead = write_run(tmp_path / "b", tiny_data, seed=1)
    (ahead / "checkpoints" / "60").mkdir(parents=True)
    whole, stale = build(tmp_path).settings
    assert whole.remarks == ()
    assert "evaluated at step 50, not yet at step 60" in stale.remarks[0]


def test_a_run_that_was_evaluated_midway_is_not_one_of_all_epochs(tmp_path, tiny_data):
    write_run(tmp_path / "a", tiny_data, seed=0, epochs=4)
    write_run(tmp_path / "b", tiny_data, seed=1, epochs=2, of=4)
    whole, midway = build(tmp_path).settings
    assert (whole.seeds, midway.seeds) == ((0,), (1,))
    assert "not finished: 2 of 4 epochs; in the table by its last" in midway.remarks[0]


def test_a_state_of_more_epochs_than_the_config_says_is_by_itself(tmp_path, tiny_data):
    write_run(tmp_path / "a", tiny_data, seed=0, epochs=4)
    write_run(tmp_path / "b", tiny_data, seed=1, epochs=8, of=4)
    whole, longer = build(tmp_path).settings
    assert (whole.seeds, longer.seeds) == ((0,), (1,))
    assert "trained for 8 epochs, its config says 4" in longer.name
    assert "trained for 8 epochs, its config says 4;" in longer.remarks[0]


def test_runs_that_stopped_early_are_pooled_wherever_they_stopped(tmp_path, tiny_data):
    patient = {"of": 9, "train__stop_after": 2}
    write_run(
        tmp_path / "a", tiny_data, seed=0, epochs=3, scores=[0.5, 0.4, 0.5], **patient
    )
    scores = [0.4, 0.5, 0.4, 0.4]
    write_run(tmp_path / "b", tiny_data, seed=1, epochs=4, scores=scores, **patient)
    # Interrupted, as it has not lost patience
    write_run(tmp_path / "c", tiny_data, seed=2, epochs=2, scores=[0.5, 0.4], **patient)
    comparison = build(tmp_path)
    assert pooled(comparison) == [(0, 1), (2,)]
    assert comparison.settings[0].chosen["exact"].steps == (75, 100)
    assert comparison.settings[0].remarks == ()
    assert "not finished: 2 of 9 epochs" in comparison.settings[1].name


@pytest.mark.portable
def test_what_is_best_on_validation_is_not_said_to_be_old(tmp_path, tiny_data):
    for seed, (best, scores) in enumerate([(2, [0.1, 0.3, 0.2]), (3, [0.1, 0.2, 0.3])]):
        write_run(
            tmp_path / f"{seed}",
            tiny_data,
            seed=seed,
            epochs=3,
            at=best,
            rule=ON_VALIDATION,
            scores=scores,
            data__validation=0.1,
        )
    (setting,) = build(tmp_path).settings
    assert setting.chosen["exact"].steps == (50, 75)
    assert setting.remarks == ()


def test_what_is_no_longer_the_best_on_validation_is_by_itself(tmp_path, tiny_data):
    held_out = {"epochs": 3, "rule": ON_VALIDATION, "data__validation": 0.1}
    scores = [0.1, 0.3, 0.3]  # the first of equals, but either may have been taken
    for seed, at in enumerate((2, 3, 1)):
        folder = tmp_path / str(seed)
        write_run(folder, tiny_data, seed=seed, at=at, scores=scores, **held_out)
    whole, stale = build(tmp_path).settings
    assert (whole.seeds, stale.seeds) == ((0, 1), (2,))
    assert "evaluated at step 25, not yet at step 50" in stale.remarks[0]


@pytest.mark.parametrize(
    ("rules", "ats", "apart"),
    [
        (("latest", ON_TEST), (3, 2), True),
        (("latest", "asked for by --step"), (3, 3), True),
        (("asked for by --step", "asked for by --step"), (3, 2), True),
        (("asked for by --step", "asked for by --step"), (2, 2), False),
        ((ON_TEST, ON_TEST), (2, 2), False),
        (("latest", None), (3, 3), False),
        ((ON_TEST, None), (2, 2), False),
    ],
)
def test_runs_are_pooled_where_one_rule_chose(tmp_path, tiny_data, rules, ats, apart):
    for seed, (rule, at) in enumerate(zip(rules, ats, strict=True)):
        folder = tmp_path / str(seed)
        scores = [0.1, 0.3, 0.2]
        write_run(
            folder, tiny_data, seed=seed, epochs=3, at=at, rule=rule, scores=scores
        )
    comparison = build(tmp_path)
    assert pooled(comparison) == ([(0,), (1,)] if apart else [(0, 1)])
    assert len({s.name for s in comparison.settings}) == len(comparison.settings)
    assert len(comparison.warnings) == apart
    if apart:
        assert (
            "0 have the same fields but were evaluated at other states"
            in (comparison.warnings[0])
        )
    assert not any(s.remarks for s in comparison.settings)


def test_an_older_evaluation_that_training_left_behind_is_by_itself(
    tmp_path, tiny_data
):
    write_run(tmp_path / "a", tiny_data, seed=0, epochs=3)
    write_run(tmp_path / "b", tiny_data, seed=1, epochs=3, at=2, rule=None)
    _, stale = build(tmp_path).settings
    assert "evaluated at step 50, not yet at step 75" in stale.remarks[0]


def test_a_figure_of_fewer_runs_than_the_row_says_so(tmp_path, tiny_data):
    for seed in (0, 1):
        write_run(tmp_path / str(seed), tiny_data, seed=seed, scores=[0.5, 0.4])
    path = tmp_path / "0" / "evaluation.json"
    paper, exact = json.loads(path.read_text())
    best = exact | {"protocol": "exact_at_best", "step": 25, "recall@20": 0.875}
    path.write_text(json.dumps([paper, exact, best]))
    comparison = build(tmp_path)
    (setting,) = comparison.settings
    assert setting.figures["exact_at_best"]["recall@20"].runs == 1
    text = format_comparison(comparison, 400)
    assert "0.8750 (1 of 2 runs)" in text
    assert text.count("of 2 runs") == 2  # and MRR@20


def test_what_a_sweep_lacks_is_said_by_its_reason(tmp_path, tiny_data):
    names = {f"{name}/seed=0": name for name in ("plain", "old", "later", "refit")}
    entries = {
        "old/seed=0": {"reused": True, "folder": "../gone"},
        "refit/seed=0": {"retired": True},
    }
    commands = [["experiments.sweep", "--seeds=1"], ["experiments.sweep", "--seeds=2"]]
    sweep = tmp_path / "sweep"
    write_run(sweep / "plain" / "seed=0", tiny_data)
    write_run(sweep / "refit" / "seed=0", tiny_data, loss__topk=4)
    write_sweep(sweep, names, entries, commands=commands)
    comparison = build(sweep)
    assert len(comparison.settings) == 1
    said = [line.partition(": ")[2].split(", as ") for line in comparison.warnings]
    assert [count for count, _ in said] == ["1 of 4 runs are left out"] * 3
    assert [why for _, why in said] == [
        "their folders, from which they were reused, are gone",
        "no epoch of them was evaluated yet",
        "they are refits that another choice has replaced",
    ]
    assert comparison.commands == (
        "python -m experiments.sweep --seeds=1",
        "python -m experiments.sweep --seeds=2",
        "again",
    )


def test_settings_are_named_by_the_folders_of_their_data(tmp_path):
    sets = [tiny.write_data(tmp_path / n, seed=s) for s, n in enumerate(("A", "B"))]
    found = [
        reading.load(str(write_run(tmp_path / name, data)))
        for name, data in zip("ab", sets, strict=True)
    ]
    assert [p.name for p in settings.pool(found)[0]] == ["data=A", "data=B"]
    # One name for two, or none: only the fingerprint tells.
    for path in ("", "elsewhere/A"):
        moved = found[1]._replace(fields=found[1].fields | {"data.path": path})
        names = [p.name for p in settings.pool([found[0], moved])[0]]
        assert names == [f"data={run.fingerprint[:12]}" for run in found]
