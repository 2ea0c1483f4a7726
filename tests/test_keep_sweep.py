"""``experiments.keep`` of a whole sweep."""

import json
import shutil

import pytest
from conftest import said, without_plot
from made_up_results import build, write_run, write_sweep

from experiments import keep


@pytest.fixture
def sweep(tmp_path, tiny_runs, evaluate, monkeypatch):
    """The folder of a sweep of two settings, of which one is evaluated."""
    without_plot(monkeypatch)
    folder = tmp_path / "sweep"
    folder.mkdir()
    for name in ("z", "a"):
        shutil.copytree(tiny_runs("rows"), folder / name / "seed=0")
    assert evaluate(folder / "z" / "seed=0")[0] == 0
    names = {f"{name}/seed=0": name for name in ("z", "a")}
    fields = {"fields": {"data.path": "/somebody/data", "train.epochs": 2}}
    write_sweep(folder, names, entries=dict.fromkeys(names, fields))
    return folder


@pytest.fixture
def keep_sweep(sweep, tmp_path, capfd):
    def call(*arguments):
        capfd.readouterr()
        out = tmp_path / "kept"
        argv = ["keep", f"--workdir={sweep}", f"--out={out}", *arguments]
        return keep.main(argv), *said(capfd)

    return call


def test_what_is_done_is_kept_and_what_is_done_later_too(
    sweep, keep_sweep, tmp_path, evaluate
):
    out = tmp_path / "kept"
    status, printed, err = keep_sweep()
    assert (status, err) == (0, "")
    assert printed.startswith("kept 1 runs in")
    first = build(out)
    assert [setting.name for setting in first.settings] == ["z"]
    assert "1 of 2 runs are left out, as no epoch" in first.warnings[0]
    before = (out / "z" / "seed=0" / "ranks.npz").stat().st_mtime_ns
    assert evaluate(sweep / "a" / "seed=0")[0] == 0
    assert keep_sweep()[0] == 0
    assert (out / "z" / "seed=0" / "ranks.npz").stat().st_mtime_ns == before
    # Equal runs of equal seeds: the sweep's first one stands for both.
    assert [setting.name for setting in build(out).settings] == ["z"]
    listed = json.loads((out / "sweep.json").read_text())
    assert list(listed["runs"]) == ["z/seed=0", "a/seed=0"]
    assert {name: run["folder"] for name, run in listed["runs"].items()} == {
        "z/seed=0": "z/seed=0",
        "a/seed=0": "a/seed=0",
    }


def test_nothing_kept_names_a_folder_of_the_machine(sweep, keep_sweep, tmp_path):
    assert keep_sweep()[0] == 0
    for path in (tmp_path / "kept").rglob("*.json*"):
        text = path.read_text()
        assert "/somebody" not in text, path
        assert str(tmp_path) not in text, path
    listed = json.loads((tmp_path / "kept" / "sweep.json").read_text())
    assert listed["argv"] == ["experiments.sweep", "--workdir=sweep", "--seeds=2"]


def test_a_result_that_has_changed_is_not_passed_over(sweep, keep_sweep, tmp_path):
    assert keep_sweep()[0] == 0
    path = sweep / "z" / "seed=0" / "evaluation.json"
    lines = json.loads(path.read_text())
    kept = tmp_path / "kept" / "z" / "seed=0" / "evaluation.json"
    kept.write_text(json.dumps([line | {"checkpoint": 7} for line in lines]))
    assert keep_sweep()[0] == 0  # the same bits were saved at another time
    lines[1]["mrr@20"] += 1e-6
    path.write_text(json.dumps(lines))
    status, _, err = keep_sweep()
    assert status == 1
    assert "is another result than" in err
    assert len(err.splitlines()) == 1
    path.write_text(path.read_text()[:-5])
    status, _, err = keep_sweep()
    assert (status, f"{path} is damaged" in err) == (1, True)
    assert len(err.splitlines()) == 1


def test_what_cannot_be_kept_leaves_nothing(sweep, keep_sweep, tmp_path):
    status, _, err = keep_sweep("--evaluated=elsewhere")
    assert (status, "expected none with a sweep" in err) == (1, True)
    (sweep / "z" / "seed=0" / "evaluation.json").unlink()
    status, _, err = keep_sweep()
    assert (status, "no run of this sweep is evaluated" in err) == (1, True)
    assert not (tmp_path / "kept").exists()


def test_a_sweep_is_not_kept_in_itself(sweep, capfd):
    before = (sweep / "sweep.json").read_bytes()
    for out in (sweep, sweep / "kept"):
        assert keep.main(["keep", f"--workdir={sweep}", f"--out={out}"]) == 1
        assert "is in the sweep" in said(capfd)[1]
    assert (sweep / "sweep.json").read_bytes() == before


def test_a_folder_of_something_else_stays_as_it_is(sweep, keep_sweep, tmp_path):
    out = tmp_path / "kept"
    out.mkdir()
    (out / "notes").write_text("mine")
    assert "holds other files" in keep_sweep()[2]
    (out / "notes").unlink()
    write_sweep(out, {"x/seed=0": "x"})
    assert "holds another sweep, of x/seed=0" in keep_sweep()[2]
    assert [path.name for path in out.iterdir()] == ["sweep.json"]


def test_one_that_cannot_be_kept_stops_before_any_is(sweep, keep_sweep, tmp_path):
    shutil.copy(sweep / "z" / "seed=0" / "evaluation.json", sweep / "a" / "seed=0")
    path = sweep / "a" / "seed=0" / "evaluation.json"
    lines = json.loads(path.read_text())
    path.write_text(json.dumps([line | {"step": 7} for line in lines]))
    status, _, err = keep_sweep()
    assert (status, "is of step 7" in err) == (1, True)
    assert not (tmp_path / "kept").exists()


@pytest.fixture
def reusing(tmp_path, tiny_data):
    """The folder of a sweep all of whose runs are reused, from where they are kept."""
    folder = tmp_path / "sweep"
    folder.mkdir()
    entries = {}
    for setting in ("z", "hard"):  # the latter is a choice, as write_sweep has it
        kept = write_run(tmp_path / "elsewhere" / setting, tiny_data, kept=True)
        place = {"folder": f"../elsewhere/{setting}", "reused": True, "key": "k"}
        entries[f"{setting}/seed=0"] = place
        (kept / "notes").write_text("/somebody's")
    write_sweep(folder, {name: name[:-7] for name in entries}, entries=entries)
    return folder


def test_what_was_kept_before_is_copied(reusing, tmp_path, capfd):
    out = tmp_path / "kept"
    argv = ["keep", f"--workdir={reusing}", f"--out={out}"]
    assert (keep.main(argv), said(capfd)[1]) == (0, "")
    names = {"config.json", "evaluation.json", "metrics.jsonl", "ranks.npz"}
    for setting in ("z", "hard"):
        place, kept = tmp_path / "elsewhere" / setting, out / setting / "seed=0"
        assert {path.name for path in kept.iterdir()} == names
        for name in names:
            assert (kept / name).read_bytes() == (place / name).read_bytes(), name
    assert [setting.name for setting in build(out).settings] == ["z"]
    assert keep.main(argv) == 0
    assert "kept 0 runs in" in said(capfd)[0]


def test_a_refit_that_is_retired_later_stays_known_as_one(reusing, tmp_path, capfd):
    out = tmp_path / "kept"
    argv = ["keep", f"--workdir={reusing}", f"--out={out}"]
    path = reusing / "sweep.json"
    before = path.read_text()
    retired = json.loads(before)
    retired["runs"]["hard/seed=0"]["retired"] = True
    path.write_text(json.dumps(retired))
    assert keep.main(argv) == 0
    assert list(json.loads((out / "sweep.json").read_text())["runs"]) == ["z/seed=0"]
    assert not (out / "hard").exists()
    for text in (before, json.dumps(retired)):
        path.write_text(text)
        assert (keep.main(argv), said(capfd)[1]) == (0, "")
        assert (out / "hard" / "seed=0").exists()
    listed = json.loads((out / "sweep.json").read_text())["runs"]
    assert [run.get("retired") for run in listed.values()] == [None, True]
    assert "1 of 2 runs are left out, as they are refits" in build(out).warnings[0]
