"""A sweep makes the runs that were asked for, once each, whatever happens to some."""

import fcntl
import json
import math
import os
import shutil
import signal
import threading

import pytest
import tiny
from conftest import said, without_plot
from made_up_results import write_run

from experiments import keep, sweep, workdirs
from experiments.configs import smoke
from experiments.sweeping import (
    child,
    definition,
    estimates,
    listing,
    measuring,
    processes,
)
from experiments.sweeping.folder import Folder
from tron_jax.reporting import metrics_writer
from tron_jax.storage.checkpoints import Checkpoints


def command(workdir, data, *arguments, **fields):
    """A sweep of the tiny run; a field's dot is written as two underscores."""
    _, config, _, *rest = tiny.command("", data, "dense", **fields)
    swept = tuple(
        f"--config.{argument[len('--over=') :].partition('=')[0]}="
        for argument in arguments
        if argument.startswith("--over=")
    )
    rest = [argument for argument in rest if not argument.startswith(swept)]
    return ["sweep", config, f"--workdir={workdir}", *rest, *arguments]


TOPK = "--over=loss.topk=4,8"


@pytest.fixture
def made(monkeypatch):
    """Makes runs in this process; the workdirs that were begun, in order."""
    begun = []

    def run(command, log, *, watch, signals):
        task = child.Task(**json.loads(command[-1]))
        begun.append(task.workdir)
        log.parent.mkdir(parents=True, exist_ok=True)
        status = child.main(["child", command[-1]])
        watch()
        return f"status {status}" if status else None

    monkeypatch.setattr(processes, "run", run)
    return begun


@pytest.fixture
def run_sweep(tiny_data, compilations, capfd, monkeypatch):
    without_plot(monkeypatch)

    def call(workdir, *arguments, data=tiny_data, **fields):
        capfd.readouterr()
        with tiny.compiled_once(compilations):
            status = sweep.main(command(workdir, data, *arguments, **fields))
        return status, *said(capfd)

    return call


def names(workdir):
    found = workdir.glob("*/*/config.json")
    return sorted(str(path.parent.relative_to(workdir)) for path in found)


def test_each_run_is_that_of_the_train_program(tmp_path, made, run_sweep, train):
    workdir = tmp_path / "sweep"
    status, _, err = run_sweep(workdir, TOPK, "--seeds=2", train__seed=5)
    assert (status, err) == (0, "")
    runs = [f"topk={topk}/seed={seed}" for seed in (5, 6) for topk in (4, 8)]
    assert made == [str(workdir / run) for run in runs]
    stored = json.loads((workdir / "sweep.json").read_text())
    assert list(stored["runs"]) == runs
    assert stored["argv"][0] == "experiments.sweep"
    for run, entry in stored["runs"].items():
        content = json.loads((workdir / run / "config.json").read_text())
        assert (entry["folder"], entry["seed"]) == (run, content["train"]["seed"])
        for field, value in entry["fields"].items():
            group, name = field.split(".")
            assert content[group][name] == value, field
        # Best and latest are all that stays of a finished run.
        checkpoints = Checkpoints(workdir / run / "checkpoints")
        best, latest = checkpoints.best_step(), checkpoints.latest_step()
        assert checkpoints.steps() == sorted({best, latest})
        assert (workdir / run / "ranks.parquet").exists()
    by_hand = tmp_path / "by_hand"
    assert train(by_hand, "dense", loss__topk=4, train__seed=6)[0] == 0
    tiny.assert_same_run(by_hand, workdir / "topk=4/seed=6")

    made.clear()
    assert run_sweep(workdir, TOPK, "--seeds=2", train__seed=5)[0] == 0
    assert made == []
    # What is added is made, and what was there stays in the list.
    added = "--over=loss.topk=8,12"
    assert run_sweep(workdir, added, "--seeds=2", train__seed=5)[0] == 0
    assert made == [str(workdir / f"topk=12/seed={seed}") for seed in (5, 6)]
    assert len(json.loads((workdir / "sweep.json").read_text())["runs"]) == 6


def test_more_epochs(tmp_path, made, run_sweep):
    workdir = tmp_path / "sweep"
    assert run_sweep(workdir, TOPK, train__epochs=1)[0] == 0
    made.clear()
    assert run_sweep(workdir, TOPK, train__epochs=2)[0] == 0
    assert len(made) == 2
    evaluation = json.loads((workdir / "topk=4/seed=0/evaluation.json").read_text())
    assert {line["step"] for line in evaluation if line["protocol"] == "exact"} == {50}
    fewer = run_sweep(workdir, TOPK, train__epochs=1)
    tiny.assert_refused(fewer, "train.epochs=2, not 1; expected no less")


def test_one_that_fails_stops_no_other(tmp_path, made, run_sweep):
    workdir = tmp_path / "sweep"
    assert run_sweep(workdir, "--over=loss.topk=8", train__epochs=1)[0] == 0
    made.clear()
    precious = workdir / "topk=4" / "seed=0" / "precious"
    precious.parent.mkdir(parents=True)
    precious.touch()  # so that the run refuses the folder
    over = "--over=loss.topk=4,8,12"
    status, out, _ = run_sweep(workdir, over, train__epochs=1)
    assert status == 1
    assert "failed: topk=4/seed=0: status 1" in out
    assert "2 of 3 runs done" in out
    assert made == [str(workdir / f"topk={topk}/seed=0") for topk in (4, 12)]
    why = json.loads((workdir / "failed" / "topk=4__seed=0.json").read_text())
    assert why == {"why": "status 1"}
    precious.unlink()
    made.clear()
    assert run_sweep(workdir, over, train__epochs=1)[0] == 0
    assert made == [str(precious.parent)]
    assert list((workdir / "failed").iterdir()) == []


def test_refused_settings(tmp_path, made, run_sweep):
    workdir = tmp_path / "sweep"
    over = "--over=loss.topk=4,900"
    status, out, err = run_sweep(workdir, over)
    assert "refused: topk=900: loss.topk is 900; expected at most" in out
    tiny.assert_refused((status, out, err), "1 of 2 settings", "--skip_refused")
    assert not workdir.exists()
    assert run_sweep(workdir, over, "--skip_refused", train__epochs=1)[0] == 0
    assert names(workdir) == ["topk=4/seed=0"]
    nothing = run_sweep(tmp_path / "x", "--over=loss.topk=900", "--skip_refused")
    tiny.assert_refused(nothing, "1 of 1 settings")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--over=loss.topkk=1"], "unknown config field config.loss.topkk"),
        (["--over=loss.topk=1,x"], "loss.topk=x"),
        (["--over=loss.topk"], "expected FIELD=VALUE,VALUE"),
        (["--over=loss.topk=4,,8"], "loss.topk=4,,8: expected FIELD=VALUE,VALUE"),
        (["--over=loss.topk=1", "--over=loss.topk=2"], "swept twice"),
        (["--over=loss.topk=1,1"], "stands there twice"),
        (["--over=train.seed=1,2"], "--seeds"),
        (["--over=loss=1,2"], "expected a field, as GROUP.NAME"),
        (["--over=model.dropout=0.1,.10"], "dropout=0.1 and dropout=.10 are the same"),
        (["--seeds=0"], "seeds"),
        (["--seeds=2", "--config.train.seed=4294967295"], "1 of 1 settings"),
        (["--shard=3/2"], "--shard=3/2: expected I/N"),
        (["--shard=x"], "--shard=x: expected I/N"),
        (["--shard="], "--shard=: expected I/N"),
        (["--sweep=x.py"], "--config=FILE, with --over, or --sweep=FILE"),
        (
            ["--over=loss.topk=4,12", "--config.loss.topk=7"],
            "--config.loss.topk=7 and --over=loss.topk=4,12 set the same field",
        ),
        (["--data=elsewhere"], " and --data=elsewhere set the same field"),
        (
            ["--over=data.path=here", "--data=elsewhere"],
            "--over=data.path=here and --data=elsewhere set the same field",
        ),
        (["--refit"], "data.validation"),
        (
            [
                "--refit",
                "--config.data.validation=0.3",
                "--config.train.evaluate_on=validation",
            ],
            "--refit: smoke/seed=0 has train.evaluate_on=validation; expected all",
        ),
        (["--reuse=nowhere"], "--reuse=nowhere: no such folder"),
    ],
)
def test_bad_input(tmp_path, made, run_sweep, arguments, words):
    tiny.assert_refused(run_sweep(tmp_path / "sweep", *arguments), words)
    assert not (tmp_path / "sweep").exists()


def test_what_was_kept_is_no_sweep_to_go_on_with(tmp_path, made, run_sweep):
    """It has no checkpoints, so that all would be made anew, and what is there lost."""
    workdir, kept = tmp_path / "sweep", tmp_path / "kept"
    assert run_sweep(workdir, "--over=loss.topk=4", train__epochs=1)[0] == 0
    assert keep.main(["keep", f"--workdir={workdir}", f"--out={kept}"]) == 0
    before = (kept / "sweep.json").read_bytes()
    made.clear()
    outcome = run_sweep(kept, "--over=loss.topk=4", train__epochs=1)
    tiny.assert_refused(outcome, "is what was kept of a sweep", f"--reuse={kept}")
    assert (kept / "sweep.json").read_bytes() == before
    assert made == []


def test_a_warm_start_is_from_the_same_folder_wherever_one_stands(
    tmp_path, made, run_sweep, monkeypatch, tiny_runs
):
    shutil.copytree(tiny_runs("dense"), tmp_path / "old")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    fields = {"train__epochs": 1, "init__workdir": "../old"}
    assert run_sweep(tmp_path / "sweep", "--over=loss.topk=4", **fields)[0] == 0
    monkeypatch.chdir(tmp_path)
    fields["init__workdir"] = tmp_path / "old"
    made.clear()
    assert run_sweep(tmp_path / "sweep", "--over=loss.topk=4", **fields)[0] == 0
    assert made == []  # it is done
    config, _ = workdirs.read_config(tmp_path / "sweep" / "topk=4" / "seed=0")
    assert config.init.workdir == str(tmp_path / "old")


def test_of_another_sweep(tmp_path, made, run_sweep):
    workdir = tmp_path / "sweep"
    assert run_sweep(workdir, "--over=loss.topk=4", train__epochs=1)[0] == 0
    before = (workdir / "sweep.json").read_bytes()
    other = run_sweep(workdir, "--over=negatives.mask_hits=true")
    tiny.assert_refused(other, "another sweep", "topk=4/seed=0")
    other = run_sweep(workdir, TOPK, model__dropout=0.3)
    tiny.assert_refused(other, "another sweep", "model.dropout=0.1, not 0.3")
    data = tiny.write_data(tmp_path / "data", seed=1)
    tiny.assert_refused(run_sweep(workdir, TOPK, data=data), "other data")
    assert (workdir / "sweep.json").read_bytes() == before
    tiny.assert_refused(run_sweep(tmp_path / "data", TOPK), "no sweep.json")
    (workdir / "sweep.json").write_text("{}")
    tiny.assert_refused(run_sweep(workdir, TOPK), "sweep.json is damaged")


def test_no_test_sessions(tmp_path, made, run_sweep):
    data = tiny.write_data(tmp_path / "data", test_sessions=0)
    outcome = run_sweep(tmp_path / "sweep", TOPK, data=data)
    tiny.assert_refused(outcome, "no test sessions; a sweep evaluates runs")
    assert not (tmp_path / "sweep").exists()


def test_several_sets_of_data(tmp_path, made, run_sweep, tiny_data, monkeypatch):
    """A run of one is not reused for the other, nor done once its set is another."""
    measure_here(monkeypatch)
    other, third = (tmp_path / name for name in ("other", "third"))
    tiny.write_data(other, seed=1)
    short = {"train__epochs": 1}
    assert run_sweep(tmp_path / "first", "--seeds=1", **short)[0] == 0
    made.clear()
    workdir = tmp_path / "sweep"
    over = f"--over=data.path={tiny_data},{other}"
    reuse = f"--reuse={tmp_path / 'first'}"
    status, out, _ = run_sweep(workdir, over, reuse, **short)
    assert status == 0
    assert out.count("reused for ") == 1
    assert len(made) == 1
    entries = json.loads((workdir / "sweep.json").read_text())["runs"].values()
    assert len({entry["fingerprint"] for entry in entries}) == 2
    other.rename(third)
    tiny.write_data(other, seed=2)
    tiny.assert_refused(run_sweep(workdir, over, **short), "on other data")


def test_a_wait_can_be_stopped(tmp_path, made, run_sweep):
    workdir = tmp_path / "sweep"
    (workdir / "locks").mkdir(parents=True)
    content = {"format": "tron-sweep", "version": 1, "runs": {}}
    (workdir / "sweep.json").write_text(json.dumps(content))
    with open(workdir / "locks" / "part-1-of-1", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGTERM)).start()
        status, out, _ = run_sweep(workdir, TOPK)
    assert status == 128 + signal.SIGTERM
    assert "waiting for the sweep" in out
    assert made == []


def test_the_commands_that_made_it(tmp_path, made, run_sweep):
    workdir = tmp_path / "sweep"
    for arguments in (("--shard=1/2",), ("--shard=2/2",), ("--seeds=2",)):
        assert run_sweep(workdir, TOPK, *arguments, train__epochs=1)[0] == 0
    first, second = json.loads((workdir / "sweep.json").read_text())["commands"]
    assert "--shard=1/2" not in first
    assert second == [*first, "--seeds=2"]


def test_waits_for_a_run_that_somebody_makes(tmp_path, made, run_sweep):
    """As after the end of a parent whose child is not done saving."""
    workdir = tmp_path / "sweep"
    assert run_sweep(workdir, "--over=loss.topk=4", train__epochs=1)[0] == 0
    with open(workdir / "topk=4" / "seed=0" / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        threading.Timer(0.7, lambda: fcntl.flock(lock, fcntl.LOCK_UN)).start()
        status, out, _ = run_sweep(workdir, "--over=loss.topk=4", train__epochs=2)
    assert status == 0
    assert "waiting for run topk=4/seed=0: in use by another process" in out


def test_shards_share_the_runs(tmp_path, made, run_sweep, monkeypatch):
    workdir = tmp_path / "sweep"
    arguments = ("--over=loss.topk=4,8,12", "--seeds=1")
    status, out, _ = run_sweep(workdir, *arguments, "--shard=2/2", train__epochs=1)
    assert status == 0
    assert "part 2 of 2: 1 of 3" in out
    assert names(workdir) == ["topk=8/seed=0"]
    for name, value in {"ID": 5, "MIN": 5, "MAX": 6, "COUNT": 2}.items():
        monkeypatch.setenv(f"SLURM_ARRAY_TASK_{name}", str(value))
    assert run_sweep(workdir, *arguments, train__epochs=1)[0] == 0
    assert names(workdir) == [f"topk={k}/seed=0" for k in (12, 4, 8)]
    assert len(made) == 3
    monkeypatch.setenv("SLURM_ARRAY_TASK_MAX", "9")
    gaps = run_sweep(workdir, *arguments, train__epochs=1)
    tiny.assert_refused(gaps, "without gaps", "--shard=I/N")


BCE = ("bce/seed=0", "bce/seed=1")


def test_a_file_says_what_is_no_product(tmp_path, made, capfd, tiny_data, compilations):
    file = tmp_path / "mine.py"
    fields = tiny.FIELDS | tiny.MODES["dense"] | {"train.epochs": 1}
    file.write_text(
        f"""
from experiments.configs import smoke

def sweep(name="a"):
    config = smoke.get_config()
    for field, value in {fields!r}.items():
        group, leaf = field.split(".")
        config[group][leaf] = value
    other = config.copy_and_resolve_references()
    other.loss.name = "bce"
    return {{name: (config, 1), "bce": (other, 2)}}
"""
    )
    argv = ["sweep", f"--data={tiny_data}"]
    with tiny.compiled_once(compilations):
        workdir = tmp_path / "sweep"
        argv += [f"--workdir={workdir}"]
        assert sweep.main([*argv, f"--sweep={file}:ssm"]) == 0
        assert names(workdir) == ["bce/seed=0", "bce/seed=1", "ssm/seed=0"]
        assert sweep.main([*argv, f"--sweep={file}:ssm", "--seeds=1"]) == 0
    assert made == [str(workdir / f"{x}") for x in ("ssm/seed=0", *BCE)]
    for content, words in (
        ("def sweep():\n    return 1 / 0", "ZeroDivisionError"),
        ("x = 1", "no function sweep in it"),
        (
            "def sweep():\n    return {'a': 3}",
            "of sweep expected {name: (config, seeds)}",
        ),
        ("def sweep():\n    return {'a': (3, 3)}", "a pair (config, seeds)"),
        ("def sweep():\n    return {}", "a sweep of no settings"),
    ):
        file.write_text(content)
        capfd.readouterr()
        status = sweep.main([*argv, f"--sweep={file}"])
        tiny.assert_refused((status, *said(capfd)), words)


def measure_here(monkeypatch):
    def measured(runs, **_):
        return {run.setting: measuring.measure(run.config, timed=False) for run in runs}

    monkeypatch.setattr(estimates, "measure_settings", measured)


def test_reuses_what_exists(tmp_path, made, run_sweep, monkeypatch):
    measure_here(monkeypatch)
    first, second = tmp_path / "first", tmp_path / "second"
    assert run_sweep(first, TOPK)[0] == 0
    kept = tmp_path / "kept" / "mine"
    argv = ["keep", f"--workdir={first}/topk=8/seed=0", f"--out={kept}"]
    assert keep.main(argv) == 0
    made.clear()
    reuse = [f"--reuse={first / 'topk=4'}", f"--reuse={kept.parent}"]
    arguments = ("--over=loss.topk=4,8,12",)
    status, out, _ = run_sweep(second, *arguments, *reuse)
    assert status == 0
    reused = {"topk=4/seed=0", "topk=8/seed=0"}
    said_so = [line for line in out.splitlines() if line.startswith("reused for ")]
    assert {line.split()[2].rstrip(":") for line in said_so} == reused
    entries = json.loads((second / "sweep.json").read_text())["runs"]
    assert {name for name, entry in entries.items() if "reused" in entry} == reused
    for name in reused:
        assert (second / entries[name]["folder"] / "evaluation.json").exists()
    assert made == [str(second / "topk=12/seed=0")]
    # What was reused stays so, without the flag, as long as it is the result.
    made.clear()
    assert run_sweep(second, *arguments)[0] == 0
    assert made == []
    (first / "topk=4" / "seed=0" / "evaluation.json").unlink()
    assert run_sweep(second, *arguments)[0] == 0
    assert made == [str(second / "topk=4/seed=0")]
    made.clear()


def test_reuses_across_links(tmp_path, made, run_sweep, monkeypatch):
    measure_here(monkeypatch)
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "deep" / "er")
    over, short = "--over=loss.topk=4", {"train__epochs": 1}
    assert run_sweep(tmp_path / "first", over, **short)[0] == 0
    reuse = f"--reuse={tmp_path / 'first'}"
    made.clear()
    for workdir in ("link", "deep/er"):
        assert run_sweep(tmp_path / workdir / "sweep", over, reuse, **short)[0] == 0
        assert made == []
    sweep_there = tmp_path / "deep" / "er" / "sweep"
    [entry] = json.loads((sweep_there / "sweep.json").read_text())["runs"].values()
    assert (sweep_there / entry["folder"] / "evaluation.json").is_file()


def test_a_dry_run_tells_what_is_reused(
    tmp_path, made, run_sweep, tiny_data, monkeypatch
):
    """What is reused of a sweep that is there, too, until more epochs are asked for."""

    def measured(runs, timed, signals):
        about = {"program": "p", "seconds": 90.0, "memory": 10**9, "state": 10**6}
        about = about if timed else {"program": "p"}
        return {run.setting: about | {"config": run.config.to_dict()} for run in runs}

    monkeypatch.setattr(estimates, "measure_settings", measured)
    workdir, kept = tmp_path / "sweep", tmp_path / "kept"
    fields = {name.replace(".", "__"): v for name, v in tiny.MODES["dense"].items()}
    write_run(kept / "mine", tiny_data, kept=True, loss__topk=4, **fields)
    over, reuse = "--over=loss.topk=4", f"--reuse={kept}"

    def dry_run(*arguments, **fields):
        before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
        status, out, err = run_sweep(workdir, *arguments, "--dry_run", **fields)
        assert (status, err) == (0, "")
        after = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
        assert after == before
        return out.splitlines()

    found = f"reused for topk=4/seed=0: {kept / 'mine'}"
    assert dry_run(over, reuse) == [found, "every run is done"]
    both = dry_run(TOPK, reuse)
    assert both[0] == found
    assert [line.split()[0] for line in both[2:4]] == ["topk=8/seed=0", "1"]
    assert run_sweep(workdir, over, reuse)[0] == 0
    assert dry_run(over) == ["every run is done"]
    more = dry_run(over, reuse, train__epochs=3)
    assert [line.split()[0] for line in more[:3]] == ["run", "topk=4/seed=0", "1"]
    assert made == []
    other = run_sweep(workdir, over, "--dry_run", model__dropout=0.3)
    tiny.assert_refused(other, "another sweep", "model.dropout=0.1, not 0.3")


def test_what_is_done_keeps_its_evaluation(tmp_path, made, run_sweep):
    workdir = tmp_path / "sweep"
    over, asked = "--over=loss.topk=4", {"eval__cutoffs": "10,20"}
    words = "1 of 1 runs are done and keep their evaluations, with the former"
    assert words not in run_sweep(workdir, over, train__epochs=1)[1]
    assert words not in run_sweep(workdir, over, train__epochs=1)[1]
    path = workdir / "topk=4" / "seed=0" / "evaluation.json"
    before = path.read_bytes()
    for arguments in ([], ["--dry_run"]):
        status, out, _ = run_sweep(workdir, over, *arguments, train__epochs=1, **asked)
        assert (status, out.count(words)) == (0, 1)
    assert (len(made), path.read_bytes()) == (1, before)
    # As experiments.evaluate leaves it, once the run's config has these cut-offs.
    lines = json.loads(before)
    less = [{k: v for k, v in line.items() if "@5" not in k} for line in lines]
    path.write_text(json.dumps(less))
    assert words not in run_sweep(workdir, over, train__epochs=1, **asked)[1]


@pytest.mark.parametrize("changed", ["epochs", "trained on", "evaluated elsewhere"])
def test_reuses_nothing_but_the_result(
    tmp_path, made, run_sweep, train, monkeypatch, changed
):
    measure_here(monkeypatch)
    first = tmp_path / "first"
    over = "--over=loss.topk=4"
    assert run_sweep(first, over)[0] == 0
    workdir = first / "topk=4" / "seed=0"
    wanted = {"train__epochs": 1} if changed == "epochs" else {}
    if changed == "trained on":
        assert train(workdir, "dense", loss__topk=4, train__epochs=3)[0] == 0
    if changed == "evaluated elsewhere":
        lines = json.loads((workdir / "evaluation.json").read_text())
        text = json.dumps([line | {"step": 25} for line in lines])
        (workdir / "evaluation.json").write_text(text)
    made.clear()
    again = run_sweep(tmp_path / "again", over, f"--reuse={first}", **wanted)
    assert again[0] == 0
    assert "reused" not in again[1]
    assert len(made) == 1


def test_refit(tmp_path, made, run_sweep):
    workdir = tmp_path / "sweep"
    asked = {"data__validation": 0.3, "optimizer__warmup_steps": 10}
    arguments = ("--over=optimizer.learning_rate=0.002,0.05", "--seeds=2", "--refit")
    status, out, _ = run_sweep(workdir, *arguments, train__epochs=2, **asked)
    assert status == 0
    means, epochs = {}, {}
    for rate in ("0.002", "0.05"):
        best = []
        for seed in (0, 1):
            path = workdir / f"learning_rate={rate}" / f"seed={seed}" / "metrics.jsonl"
            scores = [
                (line["recall@20"], -line["epoch"])
                for line in metrics_writer.read(path)
                if line.get("split") == "validation" and line["protocol"] == "exact"
            ]
            best.append(max(scores))
        means[rate] = (best[0][0] + best[1][0]) / 2
        epochs[rate] = math.ceil(-(best[0][1] + best[1][1]) / 2)
    chosen = max(means, key=lambda rate: means[rate])
    setting = f"learning_rate={chosen}"
    rule = f"chosen on validation of {setting}"
    assert rule in out
    entries = json.loads((workdir / "sweep.json").read_text())["runs"]
    for seed in (0, 1):
        name = f"refit,epochs={epochs[chosen]},{setting}/seed={seed}"
        assert entries[name]["chosen"].startswith(rule)
        fields = entries[name]["fields"]
        assert fields["data.validation"] == 0
        assert fields["train.epochs"] == epochs[chosen]
        assert fields["optimizer.warmup_steps"] == round(10 * 300 / 210)
        evaluation = json.loads((workdir / name / "evaluation.json").read_text())
        assert {line["step"] for line in evaluation} == {25 * epochs[chosen]}
    made.clear()
    assert run_sweep(workdir, *arguments, train__epochs=2, **asked)[0] == 0
    assert made == []
    # A choice among some of the runs would be none.
    some = ("--over=optimizer.learning_rate=0.05", "--seeds=2", "--refit")
    before = (workdir / "sweep.json").read_bytes()
    refused = run_sweep(workdir, *some, train__epochs=2, **asked)
    assert (workdir / "sweep.json").read_bytes() == before
    tiny.assert_refused(refused, "has other runs too, such as learning_rate=0.002")
    assert retired(workdir) == [False, False]
    # Another choice retires this one.
    others = [definition.Run("refit,x", 0, smoke.get_config(), "0")]
    listing.replace_refits(Folder(workdir), others, "chosen by x")
    assert retired(workdir) == [True, True, False]


def retired(workdir):
    entries = json.loads((workdir / "sweep.json").read_text())["runs"].values()
    return [entry["retired"] for entry in entries if "chosen" in entry]


def test_more_runs_retire_a_refit(tmp_path, made, run_sweep):
    workdir = tmp_path / "sweep"
    asked = {"data__validation": 0.3, "train__epochs": 1}
    assert run_sweep(workdir, "--over=loss.topk=4", "--refit", **asked)[0] == 0
    assert run_sweep(workdir, "--over=loss.topk=4", **asked)[0] == 0
    assert retired(workdir) == [False]
    assert run_sweep(workdir, TOPK, **asked)[0] == 0
    assert retired(workdir) == [True]
