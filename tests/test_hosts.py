"""Many processes do what one does: here two on this machine, of two devices each."""

import json
import os
import signal
import subprocess
import sys

import jax
import numpy as np
import pytest
import tiny
from conftest import said

from experiments import evaluate
from tron_jax.storage.checkpoints import Checkpoints

pytestmark = pytest.mark.skipif(
    jax.default_backend() != "cpu", reason="devices of a CPU"
)
FIELDS = {"train__mesh": 0, "train__epochs": 1}


@pytest.fixture(scope="module")
def together(compilations):
    """Runs programs in processes of their own: ``runs -> [(statuses, texts), ...]``."""

    def run(*runs):
        with tiny.compiled_once(compilations):
            done = subprocess.run(
                [sys.executable, str(tiny.ROOT / "tests" / "many_processes.py")],
                cwd=tiny.ROOT,
                env=os.environ | {"PYTHONPATH": str(tiny.ROOT)},
                input=json.dumps(runs),
                capture_output=True,
                text=True,
            )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


def of(workdir, data, processes=2, devices=2, moments=None, others=None, **fields):
    """A run for ``together``."""
    return {
        "processes": processes,
        "devices": devices,
        "argv": tiny.command(workdir, data, **FIELDS | fields),
        "moments": moments or {},
        "others": others or {},
    }


def errors(text):
    return [line for line in text.splitlines() if line.startswith("error")]


def assert_one_line(text, *words):
    """Of many processes, jax and gloo may say something besides."""
    assert "Traceback" not in text, text
    (line,) = errors(text)
    for word in words:
        assert word in line


def losses(workdir):
    return [line["loss"] for line in tiny.lines(workdir) if "loss" in line]


def assert_nearly_same_run(left, right):
    """But for the order in which sums over devices are rounded."""
    np.testing.assert_allclose(losses(left), losses(right), rtol=1e-5)
    leaves = jax.tree.leaves_with_path(tiny.saved(right)[0])
    for one, (path, other) in zip(
        jax.tree.leaves(tiny.saved(left)[0]), leaves, strict=True
    ):
        # A softmax does not see the bias of the keys, whose gradient is rounding alone.
        if "['qkv']['bias']" not in jax.tree_util.keystr(path):
            atol = 1e-3 * np.abs(np.asarray(other, float)).max(initial=0)
            np.testing.assert_allclose(one, other, rtol=0, atol=atol)


@pytest.fixture(scope="module")
def whole(together, tiny_data, tmp_path_factory):
    """An unbroken run of two processes."""
    workdir = tmp_path_factory.mktemp("hosts") / "two"
    ((statuses, texts),) = together(of(workdir, tiny_data))
    assert statuses == [0, 0], texts
    assert "4 devices of 2 processes" in texts[0]
    assert [line for line in texts[1].splitlines() if "Gloo" not in line] == []
    return workdir


def test_two_processes_train_as_one_does(together, whole, tiny_data, tmp_path):
    one = tmp_path / "one"
    ((statuses, texts),) = together(of(one, tiny_data, processes=1, devices=4))
    assert statuses == [0], texts
    assert_nearly_same_run(whole, one)


@pytest.mark.portable
def test_sigterm_to_one_saves_on_all_and_they_go_on(
    together, whole, tiny_data, tmp_path
):
    run = tmp_path / "run"
    asked, resumed = together(
        of(run, tiny_data, moments={"1": ["asked", 11]}), of(run, tiny_data)
    )
    assert asked[0] == [128 + signal.SIGTERM] * 2, asked[1]
    stopped = [line for line in asked[1][0].splitlines() if "stopped at" in line]
    assert stopped == ["stopped at step 12, saved; the same command goes on from there"]
    assert resumed[0] == [0, 0], resumed[1]
    assert "resuming at step 12" in resumed[1][0]
    tiny.assert_same_run(run, whole)


def test_of_a_killed_one_the_other_ends_and_one_process_goes_on(
    together, whole, tiny_data, tmp_path
):
    run = tmp_path / "run"
    killed, alone, back, over = together(
        of(run, tiny_data, moments={"1": ["saved", 7]}),
        of(run, tiny_data, 1, 1, {"0": ["asked", 16]}, train__mesh=1),
        of(run, tiny_data, moments={"0": ["killed", 20]}),
        of(run, tiny_data),
    )
    assert killed[0] == [1, -signal.SIGKILL], killed[1]
    assert_one_line(killed[1][0], "process 1", "the same command")
    assert alone[0] == [128 + signal.SIGTERM], alone[1]
    assert "resuming at step 7" in alone[1][0]
    assert "train.mesh was 4 and is 1" in alone[1][0]
    assert back[0] == [-signal.SIGKILL, 1], back[1]
    assert_one_line(back[1][1], "process 0", "the same command")
    assert over[0] == [0, 0], over[1]
    assert_nearly_same_run(run, whole)


def test_a_fault_of_one_is_told_by_all(together, tiny_data, tmp_path):
    run = tmp_path / "run"
    (tmp_path / "mine").mkdir()
    seed, folder, mesh = together(
        of(run, tiny_data, others={"1": ["--config.train.seed=3"]}),
        of(run, tiny_data, others={"1": [f"--workdir={tmp_path / 'mine'}"]}),
        of(run, tiny_data, train__mesh=3),
    )
    for words, (statuses, texts) in {
        ("process 1 has train.seed=3, process 0 ",): seed,
        ("of process 1 is not that of process 0", "that all share"): folder,
        ("train.mesh=3 in 2 processes", "all of their 4"): mesh,
    }.items():
        assert statuses == [1, 1], texts
        for text in texts:
            assert_one_line(text, *words)
    assert list((tmp_path / "mine").iterdir()) == []


def test_an_evaluation_of_two_processes_is_that_of_one(together, whole, tmp_path):
    run = {"processes": 2, "devices": 2}
    outs = [tmp_path / "one", tmp_path / "two"]
    one, two = (
        ["evaluate", f"--workdir={whole}", f"--out={out}", *more]
        for out, more in zip(outs, ([], ["--mesh=0"]), strict=True)
    )
    found = together(run | {"argv": two}, {"processes": 1, "devices": 1, "argv": one})
    assert [statuses for statuses, _ in found] == [[0, 0], [0]], found
    for name in ("ranks.parquet", "evaluation.json"):
        assert (outs[0] / name).read_bytes() == (outs[1] / name).read_bytes()


def test_an_evaluation_of_two_things_is_refused(together, whole):
    argv = ["evaluate", f"--workdir={whole}", "--mesh=0"]
    run = {"processes": 2, "devices": 2, "argv": argv, "others": {"1": ["--step=25"]}}
    ((statuses, texts),) = together(run)
    assert statuses == [1, 1], texts
    for text in texts:
        assert_one_line(text, "process 1 has --step=25, process 0 ")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (
            ["--coordinator=127.0.0.1:1", "--num_processes=2", "--process_id=2"],
            ["--process_id is 2", "below --num_processes, 2"],
        ),
        (["--num_processes=2", "--process_id=0"], ["--coordinator=HOST:PORT"]),
    ],
    ids=["beyond the last", "nowhere to meet"],
)
def test_a_process_that_cannot_be_one_is_refused(tmp_path, capfd, flags, words):
    status = evaluate.main(["evaluate", f"--workdir={tmp_path}", *flags])
    tiny.assert_refused((status, *said(capfd)), *words)


def test_no_process_writes_rows_of_another(whole):
    """The table on disk is in as many files as devices, and has no row too many."""
    folder = Checkpoints(whole / "checkpoints").folder / "25" / "state" / "items.table"
    about = json.loads((folder / "zarr.json").read_text())
    assert about["shape"] == [tiny.NUM_ITEMS + 1, 8]
    assert sorted(p.name for p in (folder / "c").iterdir()) == ["0", "1", "2", "3"]
