"""experiments.show: what it says of runs in every state, and that it only reads."""

import fcntl
import json
import shutil
import subprocess
import threading

import pytest
import tiny
from made_up_runs import ALL, EPOCHS, STOPPED, damage_line, make, shown

from experiments import run_files, show, workdirs
from experiments.runs import status
from tron_jax.errors import UserError
from tron_jax.training import log_windows


def state(capfd, folder):
    [run] = shown(capfd, folder)
    assert run["run"] == str(folder)
    return run["state"]


@pytest.mark.portable
@pytest.mark.parametrize(
    ("expected", "run"),
    [
        ("finished", {"steps": ALL, "saved": 40}),
        ("interrupted", {}),
        ("interrupted", {"steps": (), "saved": None}),
        # Killed between the last lines and the last checkpoint.
        ("interrupted", {"steps": ALL, "saved": 39}),
        ("interrupted", {"steps": ALL, "saved": 40, "epochs": EPOCHS + 1}),
        ("stopped early", {"info": STOPPED, "stop_after": 2}),
        ("interrupted", {"info": STOPPED, "stop_after": 3}),
        ("interrupted", {"info": STOPPED, "stop_after": 0}),
        ("kept", {"saved": None, "lock": False}),
        ("interrupted", {"lock": False}),
    ],
)
def test_states(tmp_path, capfd, expected, run):
    folder = make(tmp_path / "run", **run)
    assert state(capfd, folder) == expected
    with open(folder / ".lock", "w") as file:  # as a run in training has it
        fcntl.flock(file, fcntl.LOCK_EX)
        assert state(capfd, folder) == "running"
    if expected != "kept":  # it has a lock by now
        assert state(capfd, folder) == expected


def test_a_run_from_its_start_to_its_end(tmp_path, train, capfd, monkeypatch):
    workdir, seen = tmp_path / "run", []
    add = log_windows.Recorder.add

    def added(self, step, totals):
        if step in (10, 30):
            seen.append(status.look_at(show.find(workdir)[0]))
        if step == 33 and len(seen) == 2:
            raise UserError("the loss of step 33 is not finite")
        add(self, step, totals)

    monkeypatch.setattr(log_windows.Recorder, "add", added)
    tiny.assert_refused(train(workdir), "step 33 is not finite")
    assert [run.state for run in seen] == ["running", "running"]
    assert (seen[0].epoch, seen[0].best) == (0.32, None)
    assert seen[1].best_epoch == 1
    assert seen[1].seconds_left >= 0
    [run] = shown(capfd, workdir)
    assert run["state"] == "failed"
    assert run["why"].startswith("the loss of step 33 is not finite; the last good")
    failed = json.loads((workdir / "failed.json").read_text())
    assert failed["step"] == 28
    seen.append(None)
    assert train(workdir)[0] == 0
    [run] = shown(capfd, workdir)
    assert (run["state"], run["epoch"], run["epochs"]) == ("finished", 2, 2)
    assert run["seconds_left"] is None
    assert not (workdir / "failed.json").exists()


def test_a_run_that_ran_out_of_patience(tmp_path, train, capfd):
    workdir = tmp_path / "run"
    often = {"train__evaluate_every": 0.1, "train__stop_after": 1}
    assert train(workdir, train__epochs=9, **often)[0] == 0
    [run] = shown(capfd, workdir)
    assert run["state"] == "stopped early"
    assert run["epoch"] > run["best_epoch"]
    assert (run["epochs"], run["stop_after"]) == (9, 1)


def test_who_is_refused_at_the_door_has_not_failed(stopped, train, capfd):
    tiny.assert_refused(train(stopped, train__seed=7), "train.seed=0, not 7")
    assert state(capfd, stopped) == "interrupted"


def test_an_unexpected_fault_is_recorded_by_its_kind(stopped, train, monkeypatch):
    def add(self, step, totals):
        raise ZeroDivisionError("by nothing\nand more")

    monkeypatch.setattr(log_windows.Recorder, "add", add)
    with pytest.raises(ZeroDivisionError):
        train(stopped)
    failed = json.loads((stopped / "failed.json").read_text())
    assert failed == {"why": "ZeroDivisionError: by nothing", "step": 33}


@pytest.mark.portable
def test_the_best_is_that_of_validation_in_the_first_protocol(tmp_path, capfd):
    folder = make(tmp_path / "run", ALL)
    [run] = shown(capfd, folder)
    assert (run["best"], run["best_epoch"], run["best_split"]) == (0.3, 2, "test")
    scores = [0.1, 0.4, 0.4, 0.2]
    with (folder / "metrics.jsonl").open("a") as file:
        for epoch, score in enumerate(scores, start=1):
            line = {"step": epoch, "epoch": epoch, "time": 1, "split": "validation"}
            file.write(json.dumps(line | {"protocol": "exact", "recall@20": score}))
            file.write("\n")
    [run] = shown(capfd, folder)
    assert (run["best"], run["best_epoch"], run["best_split"]) == (0.4, 2, "validation")


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ((), None),
        ((5,), 70.0),  # 10 s for half an epoch
        # From the evaluation at step 10 to that at step 20: 20 s, 2 epochs are left.
        ((5, 10, 15, 20), 40.0),
        # 26 s at step 13 less 2 at step 1, which is the last an epoch before.
        ((1, 2, 10, 13), (40 - 13) * 24 / 12),
        (ALL, 0.0),
    ],
)
@pytest.mark.parametrize("every", [{}, {"evaluate_every": 0.5}])
def test_time_left(tmp_path, capfd, steps, expected, every):
    folder = make(tmp_path / "run", steps, **every)
    with open(folder / ".lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        [run] = shown(capfd, folder)
    if expected is None:
        assert run["seconds_left"] is run["seconds_since"] is None
    else:  # the last line was written a moment ago
        left = run["seconds_left"] + min(run["seconds_since"], expected)
        assert left == pytest.approx(expected, abs=1e-6)


def test_the_pace_has_an_evaluation_in_it(tmp_path, capfd):
    folder = make(tmp_path / "run", (), evaluate_every=2)
    times = [10, 20, 100, 110, 120]  # after half an epoch each; an evaluation at 1
    lines = [
        {"step": 5 * i, "epoch": 0.5 * i, "time": seconds}
        for i, seconds in enumerate(times, start=1)
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "metrics.jsonl").write_text(text)
    with open(folder / ".lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        [run] = shown(capfd, folder)
    assert run["seconds_left"] + run["seconds_since"] == pytest.approx(1.5 * 110 / 2)


def test_time_left_is_a_bound_where_patience_may_end(tmp_path, capfd):
    folder = make(tmp_path / "run", stop_after=3)
    with open(folder / ".lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert show.main(["show", str(folder)]) == 0
    header, row = capfd.readouterr().out.splitlines()
    assert " ".join(header.split()) == " ".join(show.HEADER)
    assert row.split()[:3] == [str(folder), "running", "2/4"]
    assert row.split()[3:6] == ["0.3000", "2", "test"]
    assert row.split()[6].startswith("<0:00:")


def test_a_line_that_is_being_written(tmp_path, capfd):
    folder = make(tmp_path / "run")
    whole = shown(capfd, folder)[0]
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 25, "epo')
    torn = shown(capfd, folder)[0]
    assert torn | {"seconds_since": 0} == whole | {"seconds_since": 0}


def test_a_damaged_line_keeps_a_run_from_going_on(stopped, train):
    damage_line(stopped)
    before = (stopped / "metrics.jsonl").read_bytes()
    tiny.assert_refused(train(stopped), "metrics.jsonl, line 3: ", "remove or repair")
    assert (stopped / "metrics.jsonl").read_bytes() == before


def test_a_file_system_without_locks(tmp_path, capfd, monkeypatch):
    make(tmp_path / "a")
    make(tmp_path / "b", ALL, 40)

    def flock(file, operation):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", flock)
    assert [run["state"] for run in shown(capfd, tmp_path)] == ["unknown", "finished"]


def test_a_run_starts_while_others_look(tmp_path):
    (tmp_path / ".lock").touch()
    looking = open(tmp_path / ".lock", "rb")  # noqa: SIM115  (closed by the timer)
    fcntl.flock(looking, fcntl.LOCK_SH)
    threading.Timer(0.05, looking.close).start()
    with workdirs._locked(tmp_path):
        assert run_files.is_held(tmp_path)
        with (
            pytest.raises(UserError, match="in use by another process"),
            workdirs._locked(tmp_path),
        ):
            pass
    assert run_files.is_held(tmp_path) is False


PRINT_LOADED = """
import runpy, sys
sys.argv = ["show", sys.argv[1]]
try:
    runpy.run_module("experiments.show", run_name="__main__", alter_sys=True)
except SystemExit as stop:
    assert not stop.code
names = {"jax", "jaxlib", "flax", "orbax", "ml_collections", "pyarrow", "matplotlib"}
print("loaded:", *names.intersection(name.partition(".")[0] for name in sys.modules))
"""


@pytest.mark.portable
def test_reads_only_and_needs_no_jax(tmp_path, tiny_runs):
    folder = tmp_path / "run"
    shutil.copytree(tiny_runs("rows"), folder)

    def snapshot():
        return {
            path: path.stat().st_mtime_ns for path in [tmp_path, *tmp_path.rglob("*")]
        }

    before = snapshot()
    command = [*tiny.PYTHON, "-c", PRINT_LOADED, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tiny.ROOT)
    assert (done.returncode, done.stderr) == (0, "")
    _, row, loaded = done.stdout.splitlines()
    assert row.split()[:3] == [str(folder), "finished", "2/2"]
    assert loaded == "loaded:"
    assert snapshot() == before
