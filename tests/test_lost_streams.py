"""A terminal, a pipe, a stream that is gone: what is going on goes on."""

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys

import pytest
import tiny

from experiments import train as train_program
from tron_jax.console import messages

STREAMS = """
import os, sys
missing = [int(number) for number in sys.argv[1:]]
for number in missing:
    os.close(number)
    setattr(sys, ("stdin", "stdout", "stderr")[number], None)
sys.argv[0] = "-m"
sys.path.insert(0, {root!r})
from tron_jax.console import starting
starting.prepare()
opened = os.open(os.devnull, os.O_RDONLY)
assert opened > 2, opened
for number in missing:
    assert os.get_inheritable(number)
for stream in (sys.stdout, sys.stderr):
    print("words", file=stream, flush=True)
"""


@pytest.mark.parametrize("missing", [[], [0], [1], [2], [0, 2], [0, 1, 2]], ids=str)
def test_a_file_never_takes_the_place_of_a_missing_stream(missing):
    """Or what XLA logs would be written into a checkpoint."""
    code = STREAMS.format(root=str(tiny.ROOT))
    command = [*tiny.PYTHON, "-c", code, *map(str, missing)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for number, said in ((1, done.stdout), (2, done.stderr)):
        assert said == ("" if number in missing else "words\n")


@contextlib.contextmanager
def gone(name):
    """Makes stdout or stderr a pipe that nobody reads, or a full disk, or nothing."""
    if name == "missing":
        yield None
        return
    if name == "closed":
        stream = io.StringIO()
        stream.close()
        yield stream
        return
    if name == "full":
        number = os.open("/dev/full", os.O_WRONLY)
    else:
        reader, number = os.pipe()
        os.close(reader)
    with os.fdopen(number, "w") as stream:  # closing it must not fail either
        yield stream


@pytest.mark.parametrize("how", ["pipe", "full", "missing", "closed"])
@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_words_that_nobody_can_read(monkeypatch, how, name):
    with gone(how) as stream:
        monkeypatch.setattr(sys, name, stream)
        for _ in range(2):
            messages.say("words")
            messages.warn("words")


@pytest.mark.parametrize("how", ["pipe", "full", "missing"])
def test_training_goes_on_where_nobody_reads(
    stopped, tiny_runs, train, monkeypatch, how
):
    unbroken = tiny_runs("rows")
    with gone(how) as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        monkeypatch.setattr(sys, "stderr", stream)
        assert train(stopped)[0] == 0
    tiny.assert_same_run(stopped, unbroken)


def test_a_picture_that_cannot_be_drawn_fails_no_run(tmp_path, tiny_runs, capfd):
    shutil.copytree(tiny_runs("rows"), tmp_path / "run")
    (tmp_path / "run" / "plot.png").unlink(missing_ok=True)
    (tmp_path / "run" / "plot.png").mkdir()
    pytest.importorskip("matplotlib")
    content = json.loads((tmp_path / "run" / "config.json").read_text())
    capfd.readouterr()
    argv = tiny.command(tmp_path / "run", content["data"]["path"])
    assert train_program.main(argv) == 0
    err = capfd.readouterr().err
    assert err.startswith("warning: no plot is drawn: cannot write ")
    assert err.count("\n") == 1


@pytest.mark.parametrize("how", ["pipe", "full", "missing"])
def test_an_evaluation_that_nobody_reads_is_written(
    stopped, evaluate, monkeypatch, how
):
    """Where a disk is too full for the figures, that is said; to a head, nothing."""
    with gone(how) as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        outcome = evaluate(stopped)
    assert (stopped / "evaluation.json").exists()
    if how == "full":
        tiny.assert_refused(outcome, "No space left on device", "evaluation.json")
    else:
        assert (outcome[0], outcome[2]) == (0, "")
