"""Disks that fill, files that may not be read, devices that are gone: one line."""

import errno
import logging
import os
import shutil
from pathlib import Path

import jax
import pytest
import tiny

from experiments import fitting
from tron_jax.reporting import metrics_writer
from tron_jax.storage import array_files
from tron_jax.storage.checkpoints import Checkpoints


@pytest.mark.parametrize("program", ["train", "evaluate"])
@pytest.mark.parametrize("file", ["manifest.json", "state"])
def test_what_may_not_be_read_is_not_called_damaged(
    stopped, train, evaluate, monkeypatch, program, file
):
    """And not skipped for an older one, nor deleted."""
    read_text, opened = Path.read_text, Path.open

    def denied(path):
        if "33" in path.parts and file in path.parts:
            raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(
        Path, "read_text", lambda p, *a, **k: denied(p) or read_text(p, *a, **k)
    )
    monkeypatch.setattr(
        Path, "open", lambda p, *a, **k: denied(p) or opened(p, *a, **k)
    )
    outcome = train(stopped) if program == "train" else evaluate(stopped)
    tiny.assert_refused(outcome, "cannot read checkpoint", "33", "Permission denied")
    assert Checkpoints(stopped / "checkpoints").steps() == [25, 28, 33]


def test_orbax_is_quiet_about_what_else_failed(caplog):
    """A disk that fills fails many writes; the first is raised, asyncio logs others."""
    array_files._hush_orbax()

    def logged(filename):
        code = compile("raise OSError(28, 'No space left on device')", filename, "exec")
        try:
            exec(code)
        except OSError:
            logging.getLogger("asyncio").error("never retrieved", exc_info=True)
        return len(caplog.records)

    assert logged("/site/orbax/checkpoint/_src/serialization.py") == 0
    assert logged("/site/mine.py") == 1


@pytest.mark.parametrize("how", ["cause", "group", "words"])
def test_a_full_disk_is_told_however_it_is_raised(stopped, train, monkeypatch, how):
    full = OSError(28, "No space left on device")

    def start_writing(*_, **__):
        if how == "words":
            raise ValueError("RESOURCE_EXHAUSTED: x: No space left on device [28]")
        if how == "group":
            raise ExceptionGroup("several", [ValueError("x"), full])
        raise ValueError("RESOURCE_EXHAUSTED") from full

    monkeypatch.setattr(array_files, "start_writing", start_writing)
    outcome = train(stopped)
    tiny.assert_refused(outcome, "No space left on device", "that of step 33")


def test_what_cannot_be_deleted_ends_no_run(stopped, train, monkeypatch):
    """NFS keeps, under another name, what an evaluation still reads."""
    rmtree = shutil.rmtree

    def busy(path, ignore_errors=False):
        if "deleted-" in str(path) and not ignore_errors:
            raise OSError(16, "Device or resource busy", str(path))
        if "deleted-" not in str(path):
            rmtree(path, ignore_errors)

    monkeypatch.setattr(shutil, "rmtree", busy)
    status, _, err = train(stopped)
    assert (status, err) == (0, "")
    assert Checkpoints(stopped / "checkpoints").latest_step() == 50


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (
            "RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.\nmore",
            "no memory left",
        ),
        ("UNAVAILABLE: socket closed", "the device is gone: socket closed"),
    ],
)
def test_a_device_that_fails_is_one_line(stopped, train, monkeypatch, message, words):
    def fit(*_):
        raise jax.errors.JaxRuntimeError(message)

    monkeypatch.setattr(fitting, "fit", fit)
    tiny.assert_refused(train(stopped), words)


def test_a_fault_of_ours_is_not_hidden(stopped, train, monkeypatch):
    def fit(*_):
        raise jax.errors.JaxRuntimeError("INVALID_ARGUMENT: x")

    monkeypatch.setattr(fitting, "fit", fit)
    with pytest.raises(jax.errors.JaxRuntimeError, match="INVALID"):
        train(stopped)


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_that_cannot_say_what_is_on_disk(
    stopped, train, monkeypatch, number
):
    def fsync(handle):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fsync)
    status, _, err = train(stopped)
    assert (status, err) == (0, "")
    assert Checkpoints(stopped / "checkpoints").latest_step() == 50


def test_a_log_that_cannot_be_put_on_disk(stopped, train, monkeypatch):
    def flush(handle):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(metrics_writer, "flush", flush)
    outcome = train(stopped)
    tiny.assert_refused(outcome, "metrics.jsonl: Input/output error", "step 33")
