"""Signals, threads and notebooks: what stops a run, and what does not."""

import builtins
import os
import signal
import subprocess
import sys
import threading
import time
import types

import pytest
import tiny
from conftest import signal_at, without_plot

from experiments import entry
from experiments import evaluate as evaluate_program
from experiments import train as train_program
from tron_jax.console import starting
from tron_jax.console.signals import STOPPING
from tron_jax.storage.checkpoints import Checkpoints
from tron_jax.training.loop import asked_to_stop


@pytest.mark.parametrize("number", STOPPING)
def test_what_is_ignored_stays_ignored(number):
    """As nohup ignores SIGHUP, and a shell the SIGINT of what is in its background."""
    before = signal.signal(number, signal.SIG_IGN)
    try:
        with asked_to_stop() as stop:
            os.kill(os.getpid(), number)
            assert stop() is None
            assert signal.getsignal(number) is signal.SIG_IGN
        assert signal.getsignal(number) is signal.SIG_IGN
    finally:
        signal.signal(number, before)


def test_a_notebook_s_own_signals_are_its_own(monkeypatch):
    """All but that of its button to stop, which saves first as Ctrl-C does."""
    monkeypatch.setattr(builtins, "__IPYTHON__", True, raising=False)
    before = {number: signal.getsignal(number) for number in STOPPING}
    with asked_to_stop() as stop:
        found = {number: signal.getsignal(number) for number in STOPPING}
        assert {n for n in STOPPING if found[n] is not before[n]} == {signal.SIGINT}
        os.kill(os.getpid(), signal.SIGINT)
        assert stop() == signal.SIGINT
    assert {number: signal.getsignal(number) for number in STOPPING} == before


def test_the_first_signal_is_the_one_that_stopped_it():
    with asked_to_stop() as stop:
        assert stop() is None
        for number in (signal.SIGUSR1, signal.SIGTERM, signal.SIGTERM):
            os.kill(os.getpid(), number)
        assert stop() == signal.SIGUSR1


def test_a_handler_that_is_not_of_python_stays(monkeypatch):
    """Python cannot restore it: ``getsignal`` returns None for one of faulthandler."""
    getsignal = signal.getsignal
    monkeypatch.setattr(
        signal, "getsignal", lambda n: None if n == signal.SIGUSR1 else getsignal(n)
    )
    before = getsignal(signal.SIGUSR1)
    with asked_to_stop():
        assert getsignal(signal.SIGUSR1) is before
        assert getsignal(signal.SIGUSR2) is not before


def test_complete_is_complete_even_when_asked_to_stop(stopped, train):
    with pytest.MonkeyPatch.context() as patch:
        signal_at(patch, signal.SIGUSR1, 50)
        status, out, err = train(stopped)
    assert (status, err) == (0, "")
    assert "stopped" not in out


def test_training_in_a_thread(tmp_path, tiny_data, tiny_runs, compilations):
    """Of Ray, of an agent, of a server: no handler, and the same results."""
    unbroken = tiny_runs("dense")
    before = {number: signal.getsignal(number) for number in STOPPING}
    ended = []

    def run():
        ended.append(train_program.main(tiny.command(tmp_path, tiny_data, "dense")))

    with tiny.compiled_once(compilations), pytest.MonkeyPatch.context() as patch:
        without_plot(patch)
        thread = threading.Thread(target=run)
        thread.start()
        while thread.is_alive():
            found = {number: signal.getsignal(number) for number in STOPPING}
            assert found == before
            thread.join(0.01)
    assert ended == [0]
    tiny.assert_same_run(tmp_path, unbroken)


ARGUMENTS = ["--config=x.py", "--workdir=RUN"]
FILE = "/code/experiments/train.py"
COMMANDS = {
    "by its name": ([*tiny.PYTHON, "-m", "experiments.train", *ARGUMENTS], True),
    "by its file": ([sys.executable, FILE, *ARGUMENTS], True),
    "in a notebook": ([sys.executable, "-m", "ipykernel_launcher", "-f", "x"], False),
    "in a shell": ([sys.executable], False),
    "from a string": ([sys.executable, "-c", "import runpy", *ARGUMENTS], False),
    "by a launcher": ([sys.executable, "-m", "torchrun", *ARGUMENTS], False),
    "other arguments": ([sys.executable, "-m", "experiments.train", "--help"], False),
}


@pytest.mark.parametrize("how", COMMANDS)
@pytest.mark.parametrize("arguments", [ARGUMENTS, []], ids=["flags", "none"])
def test_only_a_command_of_its_own_is_started_again(monkeypatch, how, arguments):
    command, own = COMMANDS[how]
    if not arguments:
        command = [part for part in command if part not in ARGUMENTS]
    spec = types.SimpleNamespace(name="experiments.train")
    monkeypatch.setitem(sys.modules, "__main__", types.SimpleNamespace(__spec__=spec))
    monkeypatch.setattr(sys, "orig_argv", command)
    monkeypatch.setattr(sys, "argv", [FILE, *arguments])
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    executed = []

    def execv(path, argv):
        executed.append(argv)
        raise SystemExit(0)

    monkeypatch.setattr(os, "execv", execv)
    with pytest.raises(SystemExit) as ended:
        entry.start(lambda argv: 3)
    assert executed == ([command] if own else [])
    assert ended.value.code == (0 if own else 3)


@pytest.mark.parametrize("program", ["experiments.train", "experiments.evaluate"])
def test_an_interruption_of_the_imports_is_one_line(program):
    """Struck at four moments: by then the imports have begun, and not ended."""
    command = [*tiny.PYTHON, "-X", "importtime", "-m", program, "--workdir=unused"]
    for module in (b"absl", b"numpy", b"jaxlib", b"jax"):
        with subprocess.Popen(
            command, cwd=tiny.ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as child:
            seen = b""
            for line in child.stderr:  # a line for each module
                seen = line.rpartition(b"|")[2].strip()
                if seen.partition(b".")[0] == module:
                    break
            child.send_signal(signal.SIGINT)
            rest = child.stderr.read()
        assert seen.partition(b".")[0] == module
        assert child.returncode == 130
        said = [line for line in rest.splitlines() if b"import time:" not in line]
        assert said == [b"error: interrupted"]


def test_a_ctrl_c_that_python_would_drop_strikes_again(monkeypatch):
    """In a callback of the garbage collector, say, which may not raise."""
    again = threading.Event()
    monkeypatch.setattr(starting._thread, "interrupt_main", again.set)
    dropped = types.SimpleNamespace(exc_type=KeyboardInterrupt)
    starting._strike_again(dropped)
    assert again.wait(10)


def test_only_python_s_own_start_is_prepared(monkeypatch):
    """Not the process of somebody who imports the package."""
    before = (sys.unraisablehook, signal.getsignal(signal.SIGINT))
    starting.prepare()
    assert (sys.unraisablehook, signal.getsignal(signal.SIGINT)) == before


def test_a_second_ctrl_c_ends_at_once(tmp_path, train, monkeypatch):
    def save(*_, **__):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(10)

    signal_at(monkeypatch, signal.SIGINT, 6)
    monkeypatch.setattr(Checkpoints, "save", save)
    status, _, err = train(tmp_path / "run")
    assert (status, err) == (130, "error: interrupted\n")


def test_help_says_how_a_run_ends(capfd):
    assert evaluate_program.main(["evaluate", "--help"]) == 0
    assert "--out" in capfd.readouterr().out
    assert train_program.main(["train", "--help"]) == 0
    assert "128 + n" in capfd.readouterr().out
