"""A run that is cut off and started again ends as if nothing had happened."""

import shutil
import signal
import subprocess
import time

import numpy as np
import pytest
import tiny
from conftest import signal_at

from experiments.assembly import run_parts
from tron_jax.console.signals import STOPPING
from tron_jax.data.packing import abstract_batch
from tron_jax.storage.checkpoints import Checkpoints
from tron_jax.storage.manifest import DamagedCheckpointError
from tron_jax.training import loop
from tron_jax.training.step_programs import compile_steps

KILLED = """
import os, signal, sys
from pathlib import Path
from experiments import train
from tron_jax.storage.checkpoints import Checkpoints
from tron_jax.reporting.metrics_writer import MetricsWriter
from tron_jax.training.log_windows import Recorder

kind, at = sys.argv[1].split(":")
calls = [0]

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def is_time():
    calls[0] += 1
    return calls[0] == int(at)

if kind == "line":  # half of the line is in the file
    def write(self, record):
        if is_time():
            self._file.write(b'{"step": 4, "epo')
            die()
        written(self, record)
    written, MetricsWriter.write = MetricsWriter.write, write
elif kind in ("saving", "deleting"):
    def rename(source, target):
        whole = Path(source).parent.name == ".unfinished"
        gone = Path(target).parent.name == ".unfinished"
        if kind == "saving" and whole and is_time():
            die()
        renamed(source, target)
        if kind == "deleting" and gone and is_time():
            die()
    renamed, os.rename = os.rename, rename
elif kind == "evaluated":
    def save(self, step, state, info, *, score=None, **others):
        if score is not None and is_time():
            die()
        return saved(self, step, state, info, score=score, **others)
    saved, Checkpoints.save = Checkpoints.save, save
elif kind == "step":
    def add(self, step, totals):
        if is_time():
            die()
        added(self, step, totals)
    added, Recorder.add = Recorder.add, add
sys.exit(train.main(sys.argv[2:]))
"""


def run_until_killed(moment, argv):
    command = [*tiny.PYTHON, "-c", KILLED, moment, *argv]
    done = subprocess.run(
        command, cwd=tiny.ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert done.stderr == ""


def kill_from_outside(argv, workdir, step):
    """Kills the program, started as people start it, once a step is saved."""
    command = [*tiny.PYTHON, "-m", "experiments.train", *argv[1:]]
    child = subprocess.Popen(
        command, cwd=tiny.ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    deadline = time.monotonic() + 300
    while (Checkpoints(workdir / "checkpoints").latest_step() or 0) < step:
        assert time.monotonic() < deadline
        assert child.poll() is None, child.stdout.read()
        time.sleep(0.002)
    time.sleep(np.random.default_rng().uniform(0, 0.05))
    child.kill()
    said, _ = child.communicate(timeout=60)
    assert b"error" not in said


# Of steps 1 to 50 with a line every 4, a checkpoint every 7 and an evaluation every 25.
MOMENTS = {
    # The first line is torn; a checkpoint is whole but for its name; then from outside.
    "rows": ["line:5", "saving:3", 35],
    # Between two lines; the log is ahead of the checkpoint; while one is deleted.
    "dense": ["step:17", "evaluated:1", "deleting:2"],
}


@pytest.mark.parametrize("mode", MOMENTS)
def test_killed_at_any_moment(
    tmp_path, tiny_runs, tiny_data, compilations, train, mode
):
    unbroken = tiny_runs(mode)
    workdir = tmp_path / "killed"
    argv = tiny.command(workdir, tiny_data, mode)
    with tiny.compiled_once(compilations):
        for moment in MOMENTS[mode]:
            if isinstance(moment, str):
                run_until_killed(moment, argv)
            else:
                kill_from_outside(argv, workdir, moment)
    status, out, err = train(workdir, mode)
    assert (status, err) == (0, "")
    assert "resuming at step" in out
    tiny.assert_same_run(workdir, unbroken)


@pytest.mark.device
def test_unbroken_runs_are_what_these_tests_need(tiny_runs):
    state, info = tiny.saved(tiny_runs("rows"))
    last = np.asarray(state.items.last)
    assert state.step == 50
    assert info["window"]["steps"] == 0
    # Rows of both kinds: touched by the last step, and asleep for many.
    assert last.max() == 50
    assert np.sum(last < 40) > 10
    assert len({*map(int, last)}) > 10
    other, _ = tiny.saved(tiny_runs("dense"))
    assert other.step == 50
    assert not hasattr(other.items, "last")


@pytest.mark.device
@pytest.mark.portable
def test_sigterm_within_a_window_and_data_that_move(
    tmp_path, tiny_data, tiny_runs, stopped, train
):
    step, lines = 33, tiny.lines(stopped)
    state, info = tiny.saved(stopped)
    assert state.step == step
    # The window since the line of step 32 is open: in the checkpoint, not in the log.
    assert lines[-1]["step"] == 32
    assert info["window"]["steps"] == 1
    assert info["window"]["sessions"] == 12
    assert np.isfinite(info["window"]["loss"])
    shutil.copytree(tiny_data, tmp_path / "moved")
    status, out, err = train(stopped, data=tmp_path / "moved")
    assert (status, err) == (0, "")
    assert "resuming at step 33" in out
    tiny.assert_same_run(stopped, tiny_runs("rows"))


@pytest.mark.parametrize("number", STOPPING)
def test_a_signal_saves_and_is_the_exit_status(tmp_path, train, tiny_runs, number):
    before = signal.getsignal(number)
    with pytest.MonkeyPatch.context() as patch:
        # At a step that ends a window but saves nothing, the line is written first.
        signal_at(patch, number, 8)
        status, out, err = train(tmp_path / "run")
    assert (status, err) == (128 + number, "")
    assert "stopped at step 8, saved" in out
    assert signal.getsignal(number) is before
    whole = tiny.lines(tiny_runs("rows"))
    assert tiny.lines(tmp_path / "run") == [x for x in whole if x["step"] <= 8]
    assert tiny.saved(tmp_path / "run")[1]["window"]["steps"] == 0


def test_more_epochs_go_on(tmp_path, tiny_runs, train):
    workdir = tmp_path / "run"
    assert train(workdir, "dense", train__epochs=1)[0] == 0
    status, out, _ = train(workdir, "dense", train__epochs=1)
    assert status == 0
    assert "already trained to step 25" in out
    assert train(workdir, "dense")[0] == 0
    tiny.assert_same_run(workdir, tiny_runs("dense"))


def test_log_may_become_coarser(stopped, tiny_runs, train):
    before = tiny.lines(stopped)
    assert train(stopped, train__log_every_steps=1000)[0] == 0
    tiny.assert_same_bits(tiny.saved(stopped)[0], tiny.saved(tiny_runs("rows"))[0])
    after = tiny.lines(stopped)
    assert after[: len(before)] == before
    steps = [line["step"] for line in after[len(before) :] if "loss" in line]
    assert steps == [35, 42, 49, 50]


def damage(workdir, step):
    """Flips one bit in the largest file of a checkpoint."""
    files = [p for p in (workdir / "checkpoints" / str(step)).rglob("*") if p.is_file()]
    largest = max(files, key=lambda path: path.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 1
    largest.write_bytes(content)
    return largest


def test_damaged_newest_checkpoint(stopped, tiny_runs, train, caplog):
    steps = Checkpoints(stopped / "checkpoints").steps()
    assert steps == [25, 28, 33]
    name = damage(stopped, 33).name
    status, out, _ = train(stopped)
    assert status == 0
    assert "resuming at step 28" in out
    (warning,) = [r.getMessage() for r in caplog.records if r.name == "absl"]
    assert str(stopped / "checkpoints" / "33") in warning
    assert name in warning
    assert "using the one before" in warning
    tiny.assert_same_run(stopped, tiny_runs("rows"))
    for step in Checkpoints(stopped / "checkpoints").steps():
        tiny.saved(stopped, step)  # the damaged one is gone


def test_all_checkpoints_damaged(stopped, train):
    for step in Checkpoints(stopped / "checkpoints").steps():
        damage(stopped, step)
    before = sorted(path.name for path in (stopped / "checkpoints").iterdir())
    log = (stopped / "metrics.jsonl").read_bytes()
    status, _, err = train(stopped)
    assert status == 1
    assert err.splitlines()[-1].startswith("error: all 3 checkpoints in ")
    # They stay, for somebody may want to see them, and so does the log.
    assert sorted(p.name for p in (stopped / "checkpoints").iterdir()) == before
    assert (stopped / "metrics.jsonl").read_bytes() == log
    with pytest.raises(DamagedCheckpointError):
        tiny.saved(stopped)


def test_full_disk_while_saving(stopped, tiny_runs, train, monkeypatch):
    checkpoints = Checkpoints(stopped / "checkpoints")
    before = checkpoints.steps()
    run = loop.Loop.run

    def limited(*args):
        with tiny.largest_file(9000):  # the item table is larger
            return run(*args)

    with monkeypatch.context() as patch:
        patch.setattr(loop.Loop, "run", limited)
        status, out, err = train(stopped)
    tiny.assert_refused((status, out, err), "File too large")
    assert f"cannot write checkpoint {checkpoints.folder / '35'}" in err
    assert "the last good checkpoint is that of step 33" in err
    assert sorted(path.name for path in checkpoints.folder.iterdir()) == [
        str(step) for step in before
    ]
    assert train(stopped)[0] == 0
    tiny.assert_same_run(stopped, tiny_runs("rows"))


@pytest.mark.parametrize("mode", tiny.MODES)
def test_reading_the_state_changes_nothing(
    tmp_path, tiny_runs, tiny_data, compilations, mode
):
    """Evaluating and saving leave the next twenty steps as they would have been."""
    config = tiny.config(tiny_data, mode)
    data = run_parts.open_data(config)
    splits = run_parts.splits(config, data)
    start = Checkpoints(tiny_runs(mode) / "checkpoints").steps()[0]
    with tiny.compiled_once(compilations):
        parts = run_parts.build(config, data.num_items, splits["train"])
        state, _ = tiny.saved(tiny_runs(mode), start)
        like = run_parts.jax.eval_shape(parts.init)
        batch = abstract_batch(48)
        train_step = compile_steps(parts.train_step, like, [batch], parts.constants)

        def go_on(state, read):
            for step in range(start, start + 20):
                if step - start in (0, 1, 10):
                    state = read(state, step)
                batch = run_parts.jax.device_put(parts.batches.at(step))
                state, _ = train_step(state, batch)
            return state

        untouched = go_on(state, lambda state, step: state)
        seen = []
        with Checkpoints(tmp_path / "checkpoints") as checkpoints:

            def evaluate_and_save(state, step):
                before = run_parts.jax.device_get(state)
                ranks = parts.evaluator(state.params, state.items, step, splits["test"])
                seen.append((step, before, ranks))
                checkpoints.save(step, state, {})
                return state

            state, _ = tiny.saved(tiny_runs(mode), start)
            after_reading = go_on(state, evaluate_and_save)
        tiny.assert_same_bits(after_reading, untouched)
        # And what was saved while training went on is the state of that very step.
        for step, before, _ in seen:
            tiny.assert_same_bits(checkpoints.restore(step, like)[0], before)
    assert len(seen) == 3
    first, last = (ranks["exact"].higher for _, _, ranks in (seen[0], seen[2]))
    assert np.any(first != last)
    if mode == "rows":
        assert np.sum(np.asarray(untouched.items.last) < start + 10) > 0
