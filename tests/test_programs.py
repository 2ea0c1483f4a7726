"""The programs beside train and evaluate, and how all of them start."""

import fcntl
import json
import os
import shutil
import sys

import jax
import numpy as np
import pyarrow.parquet as pq
import pytest
import tiny

from experiments import benchmark, entry, export, keep
from tron_jax.data.sessions import open_prepared
from tron_jax.storage.checkpoints import Checkpoints


@pytest.fixture
def finished(tmp_path, tiny_runs):
    shutil.copytree(tiny_runs("rows"), tmp_path / "finished")
    return tmp_path / "finished"


@pytest.fixture
def run_keep(capfd):
    def call(workdir, out, *arguments):
        capfd.readouterr()
        argv = ["keep", f"--workdir={workdir}", f"--out={out}", *arguments]
        status = keep.main(argv)
        return status, *capfd.readouterr()

    return call


def test_keeps_ranks_without_ids_and_config_without_path(
    tmp_path, finished, evaluate, run_keep
):
    out = tmp_path / "results" / "tiny"
    assert evaluate(finished)[0] == 0
    assert run_keep(finished, out)[0] == 0
    names = {"config.json", "metrics.jsonl", "evaluation.json", "plot.png", "ranks.npz"}
    assert {path.name for path in out.iterdir()} == names
    content = json.loads((out / "config.json").read_text())
    assert content["data"]["path"] == ""
    argv = content["provenance"]["argv"]
    assert argv[:3] == ["experiments.train", "--config=smoke.py", "--workdir=run"]
    assert str(tmp_path.parent.parent) not in (out / "config.json").read_text()
    exact = pq.read_table(
        finished / "ranks.parquet", filters=[("protocol", "=", "exact")]
    )
    with np.load(out / "ranks.npz") as ranks:
        # Its last epoch is its best, so there are no ranks of another.
        assert sorted(ranks) == ["equal", "higher", "predictions"]
        for name in ("equal", "higher"):
            np.testing.assert_array_equal(ranks[name], exact[name])
        recall = (1 + ranks["higher"] + ranks["equal"] <= 20).mean()
    printed = json.loads((out / "evaluation.json").read_text())[1]
    np.testing.assert_allclose(printed["recall@20"], recall, rtol=1e-12)
    tiny.assert_refused(run_keep(finished, out), str(out), "exists")


def test_keeps_the_ranks_of_the_best_step_and_the_predictions_of_a_session(
    tmp_path, stopped, tiny_data, evaluate, run_keep
):
    assert evaluate(stopped)[0] == 0
    assert run_keep(stopped, tmp_path / "kept")[0] == 0
    lines = json.loads((tmp_path / "kept" / "evaluation.json").read_text())
    with np.load(tmp_path / "kept" / "ranks.npz", allow_pickle=False) as file:
        kept = dict(file)
    assert {array.dtype for array in kept.values()} == {np.dtype(np.uint32)}
    test = open_prepared(tiny_data).test
    np.testing.assert_array_equal(kept.pop("predictions"), test.lengths - 1)
    for line, prefix in ((lines[1], ""), (lines[2], "best_")):
        rank = 1 + kept.pop(f"{prefix}higher") + kept.pop(f"{prefix}equal")
        assert len(rank) == line["events"]
        assert np.mean(rank <= 20) == pytest.approx(line["recall@20"], rel=1e-12)
    assert lines[1]["recall@20"] != lines[2]["recall@20"]
    assert not kept


def test_keeps_an_evaluation_of_before_there_was_a_line_for_the_best(
    tmp_path, stopped, evaluate, run_keep
):
    assert evaluate(stopped)[0] == 0
    lines = json.loads((stopped / "evaluation.json").read_text())[:2]
    for line in lines:
        del line["chosen_by"]
    (stopped / "evaluation.json").write_text(json.dumps(lines))
    path = stopped / "ranks.parquet"
    known = [("protocol", "in", ["paper", "exact"])]
    pq.write_table(pq.read_table(path, filters=known), path)
    assert run_keep(stopped, tmp_path / "kept")[0] == 0
    with np.load(tmp_path / "kept" / "ranks.npz") as ranks:
        assert sorted(ranks) == ["equal", "higher", "predictions"]


def test_keeps_an_evaluation_from_elsewhere(tmp_path, finished, evaluate, run_keep):
    """Of a workdir that may only be read."""
    out, kept = tmp_path / "evaluated", tmp_path / "kept"
    assert evaluate(finished, f"--out={out}")[0] == 0
    outcome = run_keep(finished, kept)
    tiny.assert_refused(outcome, "evaluation.json is missing", "--evaluated")
    assert run_keep(finished, kept, f"--evaluated={out}")[0] == 0
    for name in ("evaluation.json", "ranks.npz", "metrics.jsonl", "config.json"):
        assert (kept / name).exists()
    assert (kept / "evaluation.json").read_text() == (
        out / "evaluation.json"
    ).read_text()


@pytest.mark.parametrize("of", ["another run", "a kept result", "a data set"])
def test_an_evaluation_is_not_written_over_that_of_something_else(
    of, tmp_path, finished, tiny_data, evaluate, run_keep
):
    assert evaluate(finished)[0] == 0
    other = tmp_path / "other"
    if of == "a kept result":
        assert run_keep(finished, other)[0] == 0
    else:
        shutil.copytree(finished if of == "another run" else tiny_data, other)
    before = {path.name: path.stat() for path in other.iterdir()}
    outcome = evaluate(finished, f"--out={other}")
    tiny.assert_refused(outcome, f"--out={other} is a", "expected a folder for")
    assert {path.name: path.stat() for path in other.iterdir()} == before


@pytest.mark.parametrize("of", ["a kept result", "an exported model"])
def test_what_has_nothing_to_go_on_from_is_not_trained(
    of, tmp_path, finished, train, evaluate, run_keep
):
    folder = tmp_path / "folder"
    if of == "a kept result":
        assert evaluate(finished)[0] == 0
        assert run_keep(finished, folder)[0] == 0
    else:
        argv = ["export", f"--workdir={finished}", f"--out={folder}"]
        assert export.main(argv) == 0
    before = {path.name: path.stat() for path in folder.iterdir()}
    tiny.assert_refused(train(folder, train__epochs=3), f"{folder} is {of}")
    assert {path.name: path.stat() for path in folder.iterdir()} == before


def test_a_run_in_training_is_not_kept(tmp_path, finished, evaluate, run_keep):
    assert evaluate(finished)[0] == 0
    with (finished / ".lock").open("a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        tiny.assert_refused(run_keep(finished, tmp_path / "kept"), "is in training")
    assert run_keep(finished, tmp_path / "kept")[0] == 0


def test_keeps_no_evaluation_of_another_run(
    tmp_path, finished, train, evaluate, run_keep
):
    """Of the same step."""
    other = tmp_path / "other"
    shutil.copytree(finished, other)
    shutil.rmtree(other / "checkpoints" / "50")
    assert train(other)[0] == 0  # the last epoch once more
    for run in (finished, other):
        assert evaluate(run, f"--out={tmp_path / 'of' / run.name}")[0] == 0
    of_other = f"--evaluated={tmp_path / 'of' / 'other'}"
    outcome = run_keep(finished, tmp_path / "kept", of_other)
    tiny.assert_refused(outcome, "is of another checkpoint than step 50 of")
    assert not (tmp_path / "kept").exists()
    assert run_keep(other, tmp_path / "kept", of_other)[0] == 0


def test_what_older_versions_have_evaluated_is_kept(
    finished, tmp_path, evaluate, run_keep
):
    """They did not say which checkpoint it was."""
    assert evaluate(finished)[0] == 0
    path = finished / "evaluation.json"
    lines = json.loads(path.read_text())
    for line in lines:
        del line["checkpoint"]
    path.write_text(json.dumps(lines))
    assert run_keep(finished, tmp_path / "kept")[0] == 0


def test_keeps_only_a_whole_evaluation_of_the_last_checkpoint(
    tmp_path, finished, evaluate, run_keep
):
    out = tmp_path / "results"
    tiny.assert_refused(run_keep(tmp_path, out), "config.json")
    tiny.assert_refused(run_keep(finished, out), "evaluation.json", "evaluate first")
    # The last three are kept.
    assert evaluate(finished, "--step=42")[0] == 0
    tiny.assert_refused(run_keep(finished, out), "step 42", "step 50")
    assert evaluate(finished)[0] == 0
    ranks = finished / "ranks.parquet"
    ranks.write_bytes(ranks.read_bytes()[:-50])
    tiny.assert_refused(run_keep(finished, out), "ranks.parquet", "damaged")
    ranks.unlink()
    tiny.assert_refused(run_keep(finished, out), "ranks.parquet is missing")
    assert not list(tmp_path.glob("*results*"))


def test_a_folder_beside_what_is_kept_is_nobody_elses(
    tmp_path, finished, evaluate, run_keep
):
    notes = tmp_path / "kept.new" / "notes"
    notes.parent.mkdir()
    notes.write_text("mine")
    assert evaluate(finished)[0] == 0
    assert run_keep(finished, tmp_path / "kept")[0] == 0
    assert notes.read_text() == "mine"


def test_keeps_the_best_of_a_run_with_validation(tmp_path, train, evaluate, run_keep):
    workdir = tmp_path / "run"
    assert train(workdir, data__validation=0.1, train__epochs=1)[0] == 0
    summary = workdir / "evaluation.json"
    assert evaluate(workdir)[0] == 0
    # As if a later epoch had been no better on validation.
    checkpoints = workdir / "checkpoints"
    best = Checkpoints(checkpoints).best_step()
    shutil.copytree(checkpoints / str(best), checkpoints / str(best + 1))
    assert Checkpoints(checkpoints).latest_step() == best + 1
    assert json.loads(summary.read_text())[1]["step"] == best
    status, _, err = run_keep(workdir, tmp_path / "kept")
    assert (status, err) == (0, "")


@pytest.mark.parametrize("command", ["train", "evaluate"])
@pytest.mark.parametrize("topk", [8, 0])
def test_benchmark(tmp_path, tiny_data, compilations, capsys, command, topk):
    program, *arguments = tiny.command("unused", tiny_data, loss__topk=topk)
    arguments = [a for a in arguments if not a.startswith("--workdir")]
    figures = tmp_path / "figures.json"
    with tiny.compiled_once(compilations):
        status = benchmark.main(
            [program, command, *arguments, "--repeats=3", f"--json={figures}"]
        )
    assert status == 0
    assert "ratio" in capsys.readouterr().out
    found = json.loads(figures.read_text())
    assert found["ratio"] == pytest.approx(found["seconds"] / found["floor_seconds"])
    low, high = found["ratio_interval"]
    assert 0 < low <= high
    assert found["repeats"] == 3
    lower = found.get("lower_floor")
    assert (lower is not None) == (command == "train" and topk > 0)
    if lower:
        assert lower["seconds"] == found["seconds"]
        assert lower["floor_samples"] != found["floor_samples"]


@pytest.mark.parametrize("flag", ["--json", "--plot"])
@pytest.mark.parametrize("place", ["none/figures", "", "gs://bucket/figures"])
def test_a_benchmark_whose_figures_have_no_place(
    tmp_path, tiny_data, capfd, monkeypatch, flag, place
):
    """Known before anything is measured."""
    monkeypatch.setattr(benchmark, "open_workload", lambda _: pytest.fail("measured"))
    program, config, _, *fields = tiny.command("unused", tiny_data)
    path = place if "://" in place else tmp_path / place
    argv = [program, "train", config, *fields, "--breakdown", f"{flag}={path}"]
    tiny.assert_refused((benchmark.main(argv), *capfd.readouterr()), str(path))


def test_benchmark_of_nothing_and_of_something_else(capsys):
    for command in ([], ["swim"]):
        assert benchmark.main(["benchmark", *command, "--config=x"]) == 1
        assert capsys.readouterr().err.startswith("error: ")


def test_starts_again_with_the_memory_settings_just_once(monkeypatch):
    started = []

    def execv(path, argv):
        started.append((path, argv, os.environ["GLIBC_TUNABLES"]))
        raise SystemExit(0)  # as if the process were gone

    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(sys, "orig_argv", [sys.executable, *sys.argv])
    monkeypatch.setattr(os, "execv", execv)
    with pytest.raises(SystemExit):
        entry.start(lambda argv: 3)
    assert started == [(sys.executable, sys.orig_argv, entry.MALLOC)]
    with pytest.raises(SystemExit) as ended:
        entry.start(lambda argv: 3)
    assert ended.value.code == 3
    assert len(started) == 1


def test_of_many_processes_one_that_fails_waits_for_nobody(monkeypatch, capsys):
    """As jax does at an exit in order, up to five minutes."""
    statuses = []

    def leave(status):
        statuses.append(status)
        raise SystemExit

    def fail(argv):
        raise RuntimeError("a mistake of ours")

    monkeypatch.setattr(entry, "_is_own_command", lambda: True)
    monkeypatch.setenv("GLIBC_TUNABLES", entry.MALLOC)
    monkeypatch.setattr(os, "_exit", leave)
    with pytest.raises(RuntimeError):
        entry.start(fail)
    monkeypatch.setattr(jax.distributed, "is_initialized", lambda: True)
    with pytest.raises(SystemExit):
        entry.start(fail)
    assert statuses == [1]
    assert "RuntimeError: a mistake of ours" in capsys.readouterr().err


def test_a_config_named_with_a_space(capfd, tmp_path):
    from experiments import train

    config = str(tiny.ROOT / "experiments" / "configs" / "smoke.py")
    argv = ["train", "--config", config, "--workdir=unused", "--config.train.epoch=3"]
    assert train.main(argv) == 1
    assert "beside it there are: batch_size, deterministic" in capfd.readouterr().err
    argv[2] = str(tmp_path / "none.py")
    assert train.main(argv) == 1
    assert "no file" in capfd.readouterr().err


def test_a_misspelt_field_in_a_config_file_is_refused(capfd, tmp_path):
    from experiments import train

    path = tmp_path / "mine.py"
    path.write_text(
        "from experiments.configs import smoke\n"
        "def get_config():\n"
        "    config = smoke.get_config()\n"
        "    config.negatives.mask_hit = False\n"
        "    return config\n"
    )
    argv = ["train", f"--config={path}", f"--workdir={tmp_path / 'run'}"]
    status = train.main(argv)
    tiny.assert_refused((status, *capfd.readouterr()), "mask_hit")
    assert not (tmp_path / "run").exists()
