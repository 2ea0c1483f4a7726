"""experiments.show: which runs it finds, and what it says where it cannot read."""

import json
import os

import pytest
import tiny
from made_up_runs import (
    ALL,
    STOPPED,
    damage_line,
    make,
    shown,
    write_failure,
    write_sweep,
)

from experiments import show


@pytest.mark.portable
def test_finds_what_lies_below(tmp_path, capfd):
    sweep = tmp_path / "a_sweep"
    names = [f"topk={k}/seed={seed}" for k in (100, 10) for seed in (0, 1)]
    write_sweep(sweep, names)
    make(sweep / names[0], ALL, 40)
    make(sweep / names[2])
    write_failure(sweep / "failed" / "topk=10__seed=0.json", "killed by signal 9")
    write_failure(sweep / "failed" / "topk=10__seed=1.json")
    make(sweep / "by_hand")
    (sweep / "logs").mkdir()
    for name in ("run10", "run9"):
        make(tmp_path / "more" / "of" / name)
    make(tmp_path / ".hidden" / "run")
    make(tmp_path / "more" / "of" / "run9" / "nested")
    (tmp_path / "more" / "loop").symlink_to(tmp_path)
    (tmp_path / "more" / "config.json").write_text("{}")  # of something else
    (tmp_path / "none").mkdir()
    runs = shown(capfd, tmp_path, sweep / names[0])
    assert [
        (os.path.relpath(run["run"], tmp_path), run["state"], run["why"])
        for run in runs
    ] == [
        ("a_sweep/topk=100/seed=0", "finished", None),
        ("a_sweep/topk=100/seed=1", "waiting", None),
        ("a_sweep/topk=10/seed=0", "failed", "killed by signal 9"),
        ("a_sweep/topk=10/seed=1", "failed", "the disk is full"),
        ("a_sweep/by_hand", "interrupted", None),
        ("more/of/run9", "interrupted", None),
        ("more/of/run10", "interrupted", None),
    ]


def test_what_a_sweep_reuses_lies_elsewhere(tmp_path, capfd):
    sweep = tmp_path / "sweep"
    make(tmp_path / "old", ALL, 40)
    write_sweep(sweep, ["a"])
    content = json.loads((sweep / "sweep.json").read_text())
    content["runs"]["a"]["folder"] = "../old"
    (sweep / "sweep.json").write_text(json.dumps(content))
    [run] = shown(capfd, sweep)
    assert (run["run"], run["state"]) == (str(tmp_path / "old"), "finished")


def test_what_is_done_by_hand_counts_more_than_what_the_sweep_said(tmp_path, capfd):
    sweep = tmp_path / "sweep"
    write_sweep(sweep, ["a"])
    folder = make(sweep / "a", ALL, 40)
    record = sweep / "failed" / "a.json"
    write_failure(record)
    assert shown(capfd, sweep)[0]["state"] == "failed"
    now = record.stat().st_mtime
    os.utime(folder / "config.json", (now + 5, now + 5))
    assert shown(capfd, sweep)[0]["state"] == "finished"


def damage_manifest(folder):
    (folder / "checkpoints" / "20" / "manifest.json").write_text("{")


DAMAGES = {
    "metrics.jsonl, line 3: not a line of metrics": damage_line,
    "manifest.json is cut or garbled": damage_manifest,
    "config.json is damaged": lambda folder: (folder / "config.json").write_text("{"),
    "config.json is damaged: no train": lambda folder: (
        folder / "config.json"
    ).write_text("{}"),
    "config.json: Is a directory": lambda folder: (
        (folder / "config.json").unlink(),
        (folder / "config.json").mkdir(),
    ),
}


@pytest.mark.portable
@pytest.mark.parametrize("why", DAMAGES)
def test_what_cannot_be_read_does_not_hide_the_others(tmp_path, capfd, why):
    for name in "abc":
        make(tmp_path / name, stop_after=2, info=STOPPED)
    DAMAGES[why](tmp_path / "b")
    assert show.main(["show", str(tmp_path)]) == 1
    out, err = capfd.readouterr()
    assert err == f"error: cannot be read: {tmp_path / 'b'}\n"
    rows = out.splitlines()
    assert len(rows) == 4
    assert "stopped early" in rows[1]
    assert "stopped early" in rows[3]
    assert rows[2].split()[:2] == [str(tmp_path / "b"), "damaged"]
    assert why in rows[2]


def test_a_damaged_sweep_or_record(tmp_path, capfd):
    write_sweep(tmp_path, ["a"])
    make(tmp_path / "a")
    (tmp_path / "a" / "failed.json").write_text("{")
    [run] = shown(capfd, tmp_path)
    assert run["state"] == "failed"
    assert "failed.json cannot be read" in run["why"]
    for text in ("{", "[]", '{"format": "tron-sweep", "runs": {"a": 1}}'):
        (tmp_path / "sweep.json").write_text(text)
        assert show.main(["show", str(tmp_path)]) == 1
        out, _ = capfd.readouterr()
        assert f"{tmp_path / 'sweep.json'} is damaged" in out
        assert len(out.splitlines()) == 3
    (tmp_path / "sweep.json").write_text('{"format": "of another tool"}')
    assert len(shown(capfd, tmp_path)) == 1


@pytest.mark.parametrize("words", [["folder"], [], ["--nosuch", "."], ["gs://b/run"]])
def test_nothing_to_show(tmp_path, capfd, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    status = show.main(["show", *words])
    tiny.assert_refused((status, *capfd.readouterr()))
    (tmp_path / "empty").mkdir()
    make(tmp_path / "run")
    assert show.main(["show", "empty", "run"]) == 1
    out, err = capfd.readouterr()
    assert err == "error: no runs in empty\n"
    assert out.splitlines()[1].startswith("run  interrupted")


def test_a_disk_that_is_full(tmp_path, capfd, monkeypatch):
    make(tmp_path / "run")
    with open("/dev/full", "w") as full:
        monkeypatch.setattr("sys.stdout", full)
        status = show.main(["show", str(tmp_path)])
    tiny.assert_refused((status, *capfd.readouterr()), "No space left on device")
