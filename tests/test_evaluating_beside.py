"""Evaluating what is somebody else's: a workdir to read only, a run that trains."""

import json
import os
import shutil

import pytest
import tiny

from tron_jax.evaluation import rank_file
from tron_jax.storage import array_files
from tron_jax.storage.checkpoints import Checkpoints


def test_figures_come_before_files(stopped, evaluate, monkeypatch):
    """A workdir that may only be read, as of a colleague: figures, then the way out."""

    def save(path, ranks, ids):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(rank_file, "save", save)
    outcome = evaluate(stopped)
    tiny.assert_refused(outcome, "ranks.parquet", "Permission denied", "--out=DIR")
    assert "Recall@20" in outcome[1]
    assert not (stopped / "evaluation.json").exists()


def test_files_of_an_evaluation_may_go_elsewhere(stopped, tmp_path, evaluate):
    before = {path: path.stat().st_mtime_ns for path in stopped.rglob("*")}
    out = tmp_path / "new" / "folder"
    status, _, err = evaluate(stopped, f"--out={out}")
    assert (status, err) == (0, "")
    assert {path.name for path in out.iterdir()} == {"evaluation.json", "ranks.parquet"}
    assert {path: path.stat().st_mtime_ns for path in stopped.rglob("*")} == before


def test_a_place_that_may_not_be_written_is_refused_first(
    stopped, tmp_path, evaluate, monkeypatch
):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "denied").mkdir()
    access = os.access
    monkeypatch.setattr(
        os, "access", lambda path, mode: path.name != "denied" and access(path, mode)
    )
    for name in ("file", "file/folder", "denied", "denied/folder"):
        outcome = evaluate(stopped, f"--out={tmp_path / name}")
        tiny.assert_refused(outcome, str(tmp_path / name))
        assert outcome[1] == ""


@pytest.mark.parametrize("flag", ["out", "data"])
def test_a_variable_that_is_not_set_is_no_folder(stopped, evaluate, flag):
    """Or the results that a run has would be replaced."""
    tiny.assert_refused(evaluate(stopped, f"--{flag}="), "an empty path")
    assert not (stopped / "evaluation.json").exists()


def deleted_meanwhile(monkeypatch, workdir, when, times):
    """Lets a run that still trains delete a checkpoint, before or while it is read."""
    checkpoints = workdir / "checkpoints"
    read = array_files.read if when == "arrays" else Checkpoints._read
    left = [times]

    def deleting(*arguments):
        folder = arguments[0] if when == "arrays" else arguments[1]
        if left[0]:
            left[0] -= 1
            newest = Checkpoints(checkpoints).latest_step()
            # What the run does: the state of a later step, and this one goes.
            shutil.copytree(checkpoints / str(newest), checkpoints / str(newest + 1))
            shutil.rmtree(folder)
        return read(*arguments)

    owner = array_files if when == "arrays" else Checkpoints
    monkeypatch.setattr(owner, "read" if when == "arrays" else "_read", deleting)


@pytest.mark.parametrize("when", ["manifest", "arrays"])
@pytest.mark.parametrize("asked", [None, "latest", "best"])
def test_a_checkpoint_is_deleted_while_it_is_chosen(
    stopped, evaluate, monkeypatch, when, asked
):
    deleted_meanwhile(monkeypatch, stopped, when, 2)
    flags = [] if asked is None else [f"--step={asked}"]
    status, out, err = evaluate(stopped, *flags)
    if asked == "best":  # another is not the best of the run, but none is left
        tiny.assert_refused((status, out, err), "was evaluated yet")
        return
    assert (status, err) == (0, "")
    assert Checkpoints(stopped / "checkpoints").latest_step() == 35
    found = json.loads((stopped / "evaluation.json").read_text())
    assert found[1]["step"] == 35


@pytest.mark.parametrize("when", ["manifest", "arrays"])
def test_the_step_that_was_asked_for_is_deleted(stopped, evaluate, monkeypatch, when):
    deleted_meanwhile(monkeypatch, stopped, when, 1)
    outcome = evaluate(stopped, "--step=28")
    tiny.assert_refused(outcome, "no checkpoint of step 28", "there are: 25, 33, 34")
