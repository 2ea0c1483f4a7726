"""A run ends once its score no longer rises, however often it was cut off before."""

import itertools
import json
import os
import shutil
import signal
import subprocess

import pytest
import tiny
from conftest import without_plot
from test_resume_slots import SLOTS

from experiments import train as program
from tron_jax.storage.checkpoints import Checkpoints

FIFTHS = {"train__evaluate_every": 0.2, "train__epochs": 3}
# All stop within their first epoch.
RUNS = {
    "rows": {"train__stop_after": 1, **FIFTHS},
    "dense": {"train__stop_after": 2, "optimizer__learning_rate": 0.015, **FIFTHS},
    "slots": {**SLOTS, "train__stop_after": 1, **FIFTHS},
    "patient": {**FIFTHS, "train__stop_after": 2},
}
KILLED = ("rows", "dense", "slots")
SPLITS = ("validation", "test")
KINDS = ("evaluated", "saved", "asked")
EARLY = "where it stopped early: no higher Recall@20 on test in "


def mode_of(name):
    return name if name in tiny.MODES else "rows"


def scores(workdir, split="test"):
    """What the best checkpoint goes by, by step."""
    return {
        line["step"]: line["recall@20"]
        for line in tiny.lines(workdir)
        if (line.get("split"), line.get("protocol")) == (split, "paper")
    }


def stops_at(scores, stop_after):
    """The first step with so many evaluations since the best one; slow and obvious."""
    steps = sorted(scores)
    for number, step in enumerate(steps):
        best = max(range(number + 1), key=lambda i: (scores[steps[i]], -i))
        if number - best >= stop_after:
            return step
    return None


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory, tiny_data, compilations):
    made = {}

    def run(name):
        if name not in made:
            made[name] = tmp_path_factory.mktemp(name) / "run"
            argv = tiny.command(made[name], tiny_data, mode_of(name), **RUNS[name])
            with (
                tiny.compiled_once(compilations),
                pytest.MonkeyPatch.context() as patch,
            ):
                without_plot(patch)
                assert program.main(argv) == 0
        return made[name]

    return run


@pytest.fixture(scope="module")
def killed(tmp_path_factory, tiny_data, compilations, unbroken):
    """The same runs, cut off at each evaluation: their folders, and how that went."""
    folder, runs = tmp_path_factory.mktemp("killed"), []
    for first, name in enumerate(KILLED):
        kinds = itertools.islice(itertools.cycle(KINDS), first, None)
        moments = list(zip(kinds, scores(unbroken(name)), strict=False))
        argv = tiny.command(folder / name, tiny_data, mode_of(name), **RUNS[name])
        runs.append((moments, argv))
    with tiny.compiled_once(compilations):
        done = subprocess.run(
            [*tiny.PYTHON, "tests/killing.py", json.dumps(runs)],
            cwd=tiny.ROOT,
            capture_output=True,
            text=True,
            timeout=600,
            env=os.environ | {"PYTHONPATH": ".", "OPENBLAS_NUM_THREADS": "1"},
        )
    assert (done.returncode, done.stderr) == (0, "")
    ends = json.loads(done.stdout.splitlines()[-1])
    return {
        name: (folder / name, moments, end)
        for name, (moments, _), end in zip(KILLED, runs, ends, strict=True)
    }


@pytest.mark.parametrize("name", KILLED)
def test_killed_at_each_evaluation(killed, unbroken, name):
    workdir, moments, ends = killed[name]
    found, stop_after = scores(unbroken(name)), RUNS[name]["train__stop_after"]
    last = max(found)
    assert stops_at(found, stop_after) == last
    assert [step for _, step in moments] == [*found]
    signals = {"asked": 128 + signal.SIGTERM}
    expected = [signals.get(kind, -signal.SIGKILL) for kind, _ in moments]
    if moments[-1][0] == "asked":  # when it was complete anyway
        expected[-1] = 0
    assert ends == [*expected, 0]
    tiny.assert_same_run(workdir, unbroken(name))
    checkpoints = [
        Checkpoints(path / "checkpoints") for path in (workdir, unbroken(name))
    ]
    for each in checkpoints:
        assert each.read_info(last)["patience"] == {
            "best": max(found.values()),
            "evaluations_since": stop_after,
            "stopped": True,
        }
    assert checkpoints[0].best_step() == checkpoints[1].best_step()


@pytest.fixture
def stopped_early(tmp_path, unbroken):
    """A copy of the run of rows, which stopped at step 20 after one evaluation."""
    shutil.copytree(unbroken("rows"), tmp_path / "early")
    return tmp_path / "early"


def files(workdir):
    """All that training leaves; not config.json, which says what was asked for last."""
    return {
        path: (path.stat().st_mtime_ns, path.read_bytes())
        for path in [workdir / "metrics.jsonl", *workdir.glob("checkpoints/**/*")]
        if path.is_file()
    }


@pytest.mark.parametrize("changes", [{}, {"train__epochs": 9}])
def test_a_run_that_stopped_is_finished(stopped_early, train, changes):
    before = files(stopped_early)
    status, out, err = train(stopped_early, **{**RUNS["rows"], **changes})
    assert (status, err) == (0, "")
    assert out.splitlines()[1:] == [  # after the line of the device
        f"trained to step 20, {EARLY}1 evaluation; a higher train.stop_after goes on"
    ]
    assert files(stopped_early) == before


@pytest.mark.parametrize("changes", [{"stop_after": 2}, {"stop_after": 0, "epochs": 1}])
def test_more_patience_goes_on(stopped_early, unbroken, train, changes):
    """To where a run ends that had it from the start; that is step 25 in both cases."""
    changes = {f"train__{name}": value for name, value in changes.items()}
    status, out, err = train(stopped_early, **{**RUNS["rows"], **changes})
    assert (status, err) == (0, "")
    assert "resuming at step 20" in out
    tiny.assert_same_run(stopped_early, unbroken("patient"))
    found = scores(stopped_early)
    assert stops_at(found, 2) == max(found) == 25
    assert (EARLY in out) == (changes["train__stop_after"] == 2)
    info = Checkpoints(stopped_early / "checkpoints").read_info(25)
    assert info["patience"]["stopped"] == (EARLY in out)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (
            {"train__stop_after": 2},
            "stop_after=3, not 2; expected 3 or more, 0 (never)",
        ),
        ({"train__evaluate_every": 0.5}, "train.evaluate_every=1.0, not 0.5"),
    ],
)
def test_what_may_not_change(stopped, train, fields, words):
    content = json.loads((stopped / "config.json").read_text())
    content["train"]["stop_after"] = 3
    (stopped / "config.json").write_text(json.dumps(content))
    before = files(stopped)
    outcome = train(stopped, **{"train__stop_after": 3, **fields})
    tiny.assert_refused(outcome, str(stopped), words)
    assert files(stopped) == before
    assert json.loads((stopped / "config.json").read_text()) == content


def test_a_run_that_never_was_to_stop_may_not_stop(stopped, train):
    outcome = train(stopped, train__stop_after=3)
    tiny.assert_refused(outcome, "stop_after=0, not 3; expected 0 or a new workdir")


def test_refused_without_anything_to_go_by(tmp_path, train):
    data = tiny.write_data(tmp_path / "data", test_sessions=0)
    outcome = train(tmp_path / "run", data=data, train__stop_after=1)
    tiny.assert_refused(outcome, "train.stop_after is 1 without test sessions")
    assert not (tmp_path / "run").exists()


def test_validation_alone_decides(tmp_path, train, evaluate):
    """By the test sessions, which are written too, the run would not have stopped."""
    fields = {
        "data__validation": 0.5,
        "train__evaluate_every": 0.25,
        "train__stop_after": 2,
        "optimizer__learning_rate": 0.004,
    }
    status, out, _ = train(tmp_path / "run", "dense", **fields)
    assert status == 0
    assert EARLY.replace("test", "validation") in out
    validation, test = (scores(tmp_path / "run", split) for split in SPLITS)
    assert [*validation] == [*test]
    assert stops_at(validation, 2) == max(validation) < 26
    assert stops_at(test, 2) is None
    best = max(validation, key=lambda step: (validation[step], -step))
    assert best != max(test, key=lambda step: (test[step], -step))
    assert Checkpoints(tmp_path / "run" / "checkpoints").best_step() == best
    status, out, _ = evaluate(tmp_path / "run")
    assert status == 0
    lines = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert [(line["protocol"], line["step"]) for line in lines] == [
        ("paper", best),
        ("exact", best),
    ]
    assert {line["split"] for line in lines} == {"test"}
    assert {line["chosen_by"] for line in lines} == {
        "best, the highest Recall@20 on validation"
    }


def test_groups_of_steps_end_at_evaluations(tmp_path, train):
    fields = {"train__steps_per_group": 8, "train__evaluate_every": 0.3}
    status, _, err = train(tmp_path / "run", "dense", train__epochs=1, **fields)
    assert (status, err) == (0, "")
    assert [*scores(tmp_path / "run")] == [8, 15, 25]
