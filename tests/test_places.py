"""Where a run lies, and what a machine lacks: locks, a home, a path that is no URL."""

import errno
import fcntl
import os
from pathlib import Path

import jax
import pytest
import tiny

from experiments import fitting, workdirs
from experiments.assembly import run_parts


@pytest.fixture
def until_trained(monkeypatch):
    """Lets runs end, complete, where training would begin."""
    monkeypatch.setattr(fitting, "fit", lambda *_: None)


@pytest.mark.usefixtures("until_trained")
@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks(tmp_path, train, monkeypatch, number):
    def flock(file, operation):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    status, _, err = train(tmp_path / "run")
    assert status == 0
    assert err.startswith(f"warning: cannot lock {tmp_path / 'run'}: ")
    assert os.strerror(number) in err
    assert err.count("\n") == 1


@pytest.fixture
def cache_folder(monkeypatch):
    """Returns where compiled programs would be kept, None where nowhere."""
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)

    def call():
        before = jax.config.jax_compilation_cache_dir
        jax.config.update("jax_compilation_cache_dir", None)
        try:
            run_parts.use_compilation_cache()
            return jax.config.jax_compilation_cache_dir
        finally:
            jax.config.update("jax_compilation_cache_dir", before)

    return call


def test_a_home_for_what_is_compiled(tmp_path, cache_folder, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == str(tmp_path / ".cache" / "tron_jax")


@pytest.mark.parametrize("caches", ["/dev/null/caches", "/proc/caches"])
def test_no_room_for_what_is_compiled(cache_folder, monkeypatch, caches):
    monkeypatch.setenv("XDG_CACHE_HOME", caches)
    assert cache_folder() is None


def test_a_user_without_a_home(cache_folder, monkeypatch):
    def home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", home)
    assert cache_folder() is None


def test_a_cache_that_may_not_be_written(tmp_path, cache_folder, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert cache_folder() is None


URLS = ["gs://bucket/run", "s3://bucket/run", "hdfs://host/run", "file:///tmp/run"]


@pytest.mark.parametrize("url", URLS)
def test_a_url_is_no_folder(tmp_path, stopped, train, evaluate, monkeypatch, url):
    monkeypatch.chdir(tmp_path)
    before = {*tmp_path.iterdir()}
    words = (url, "a URL; expected a path")
    tiny.assert_refused(train(url), *words)
    tiny.assert_refused(train(tmp_path / "run", data=url), *words)
    tiny.assert_refused(evaluate(url), *words)
    tiny.assert_refused(evaluate(stopped, f"--data={url}"), *words)
    outcome = evaluate(stopped, f"--out={url}")
    tiny.assert_refused(outcome, *words)
    assert outcome[1] == ""
    assert {*tmp_path.iterdir()} == before


@pytest.mark.usefixtures("until_trained")
def test_folders_with_a_colon_are_folders(tmp_path, train, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("2026-11-26T10:00", "c:/run"):
        assert train(name)[0] == 0
        assert (tmp_path / name / workdirs.CONFIG).exists()


def test_checkpoints_that_may_not_be_written(stopped, train, monkeypatch):
    """Known before the first step, and so said before it."""
    access = os.access
    folder = stopped / "checkpoints"
    monkeypatch.setattr(
        os, "access", lambda path, mode: path != folder and access(path, mode)
    )
    outcome = train(stopped)
    tiny.assert_refused(outcome, str(folder), "Permission denied")
    assert "resuming" not in outcome[1]
