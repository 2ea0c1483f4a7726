"""The processes of a sweep: what ends one, the other, or both."""

import itertools
import json
import os
import signal
import subprocess
import time
from types import SimpleNamespace

import pytest
import tiny
from test_sweep import command

from experiments.sweeping import processes, runner
from experiments.sweeping.runner import Trained
from tron_jax.storage.checkpoints import Checkpoints

FIELDS = {"train__epochs": 6, "checkpoint__every_steps": 10, "loss__topk": 8}


@pytest.fixture
def start(tiny_data, compilations, tmp_path):
    """Starts a sweep of two settings in a process of its own."""
    environment = os.environ | {
        "JAX_COMPILATION_CACHE_DIR": str(compilations),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        "PYTHONWARNINGS": "error,ignore:the load_module",
    }
    started = []

    def call(workdir, *arguments):
        argv = command(workdir, tiny_data, *arguments, **FIELDS)
        log = open(tmp_path / "printed", "ab")  # noqa: SIM115  (until it has ended)
        process = subprocess.Popen(
            [*tiny.PYTHON, "-m", "experiments.sweep", *argv[1:]],
            cwd=tiny.ROOT,
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        started.append((process, log))
        return process

    yield call
    for process, log in started:
        log.close()
        if process.poll() is None:
            process.kill()
            process.wait()


def wait_for(condition, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def latest(workdir):
    return Checkpoints(workdir / "checkpoints").latest_step() or 0


def test_killed_three_times(tmp_path, start, train):
    """Where each run would have ended, and bit for bit."""
    workdir = tmp_path / "sweep"
    first, second = (workdir / f"mask_hits={x}/seed=0" for x in ("true", "false"))
    over = "--over=negatives.mask_hits=true,false"
    for run, step in ((first, 1), (first, 50), (second, 30)):
        process = start(workdir, over)
        begun = max(latest(run), step)
        wait_for(lambda run=run, begun=begun: latest(run) > begun)
        process.kill()
        assert process.wait() == -signal.SIGKILL
    process = start(workdir, over)
    printed = tmp_path / "printed"
    assert process.wait(120) == 0, printed.read_text()
    for run, mask_hits in ((first, True), (second, False)):
        by_hand = tmp_path / f"by_hand_{mask_hits}"
        fields = FIELDS | {"negatives__mask_hits": mask_hits}
        assert train(by_hand, "dense", **fields)[0] == 0
        assert latest(run) == 150
        tiny.assert_same_run(by_hand, run)
        assert (run / "evaluation.json").exists()
        steps = Checkpoints(run / "checkpoints").steps()
        assert len(steps) <= 2


def test_ctrl_c_stops_it_saved(tmp_path, start):
    workdir = tmp_path / "sweep"
    run = workdir / "topk=8" / "seed=0"
    process = start(workdir, "--over=loss.topk=8,4")
    wait_for(lambda: latest(run) > 0)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 128 + signal.SIGINT
    assert "stopped; the same command goes on" in (tmp_path / "printed").read_text()
    assert 0 < latest(run) < 150
    log = (workdir / "logs" / "topk=8__seed=0.txt").read_text()
    assert f"stopped at step {latest(run)}, saved" in log
    assert not (workdir / "topk=4").exists()
    assert not (workdir / "failed").exists()


@pytest.mark.parametrize("parts", [("--shard=1/2", "--shard=2/2"), ("", "--shard=1/2")])
def test_two_that_start_at_once_share_the_runs(tmp_path, start, parts):
    workdir = tmp_path / "sweep"
    arguments = ("--over=loss.topk=8,4", "--config.train.epochs=1")
    both = [start(workdir, *arguments, *filter(None, [part])) for part in parts]
    assert [process.wait(120) for process in both] == [0, 0]
    made = [line.split(": ")[1] for line in printed_runs(tmp_path)]
    assert sorted(made) == ["topk=4/seed=0", "topk=8/seed=0"]
    stored = json.loads((workdir / "sweep.json").read_text())
    assert sorted(stored["runs"]) == sorted(made)
    for run in made:
        assert latest(workdir / run) == 25
        assert (workdir / run / "evaluation.json").exists()


def printed_runs(folder):
    lines = (folder / "printed").read_text().splitlines()
    return [line for line in lines if line.startswith("run ")]


def test_dry_run_writes_nothing(tmp_path, start):
    workdir = tmp_path / "sweep"
    process = start(workdir, "--over=loss.topk=8,900", "--skip_refused", "--dry_run")
    assert process.wait(120) == 0
    lines = (tmp_path / "printed").read_text().splitlines()
    assert lines[0].startswith("refused: topk=900: ")
    assert lines[1].split() == ["run", "time", "memory", "disk"]
    assert lines[2].split()[0] == "topk=8/seed=0"
    assert lines[3].startswith("1 runs")
    assert lines[2].split()[1:] == lines[3].split()[2:]
    assert not workdir.exists()


SAYS = "import sys; print('a'); print('error: no room', file=sys.stderr); sys.exit(1)"
DIES = "import os; print('working', flush=True); os.kill(os.getpid(), 9)"


@pytest.mark.portable
@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("print('well')", None),
        (SAYS, "no room"),
        (DIES, "ended by SIGKILL (out of memory?); its last line: working"),
        ("raise SystemExit(3)", "exit status 3"),
    ],
)
def test_why_a_process_failed(tmp_path, code, why):
    log = tmp_path / "logs" / "log"
    for before in (b"", b"error: of another time\n"):
        log.parent.mkdir(exist_ok=True)
        log.write_bytes(before)
        found = processes.run(
            [*tiny.PYTHON, "-c", code], log, watch=lambda: None, signals=lambda: ()
        )
        assert found == why
        assert log.read_bytes().startswith(before)


@pytest.mark.portable
def test_a_second_signal_kills(tmp_path):
    code = "import signal, time; signal.signal(15, signal.SIG_IGN); print(flush=True);"
    log = tmp_path / "log"
    received = itertools.count()

    def signals():
        there = log.exists() and log.stat().st_size > 0
        return [signal.SIGINT] * (next(received) if there else 0)

    command = [*tiny.PYTHON, "-c", f"{code} time.sleep(60)"]
    found = processes.run(command, log, watch=lambda: None, signals=signals)
    assert found.startswith("ended by SIGKILL")


@pytest.mark.portable
def test_time_left():
    def run(setting, seed):
        return SimpleNamespace(setting=setting, name=f"{setting}{seed}")

    runs = [run("a", 0), run("b", 0), run("a", 1), run("b", 1), run("c", 0)]
    done = dict.fromkeys((run.name for run in runs), Trained(0.0, 0.0))
    assert runner.seconds_left(runs, done, still=runs) is None
    done["a0"] = Trained(1.0, 100.0)
    done["b0"] = Trained(0.25, 10.0)
    # b takes 40 seconds as a whole, c as long as the mean of a and b.
    left = runner.seconds_left(runs, done, still=runs[1:])
    assert left == pytest.approx(30 + 100 + 40 + 70)


@pytest.mark.portable
def test_how_far_a_run_is(tmp_path):
    run = SimpleNamespace(
        name="r", config=SimpleNamespace(train=SimpleNamespace(epochs=4))
    )
    folder = SimpleNamespace(workdir=lambda run: tmp_path)
    assert runner.trained(folder, run) == Trained(0.0, 0.0)
    lines = [json.dumps({"step": 1, "epoch": e, "time": 10 * e}) for e in (0.5, 1.0)]
    file = tmp_path / "metrics.jsonl"
    file.write_text("\n".join([*lines, '{"step": 2, "epo']))
    assert runner.trained(folder, run) == Trained(0.25, 10.0)
