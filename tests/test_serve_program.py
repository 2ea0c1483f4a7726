"""``experiments.serve`` as a process: how it starts, is stopped, and killed."""

import contextlib
import http.client
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
import tiny
from conftest import said
from served import JSON, Served, resealed

from experiments import serve

pytestmark = pytest.mark.usefixtures("compiled")


class Process:
    """The program, and where it listens."""

    def __init__(self, *flags, port=0):
        command = [*tiny.PYTHON, "-m", "experiments.serve", f"--port={port}", *flags]
        self.process = subprocess.Popen(
            command,
            cwd=tiny.ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        greeting = self.process.stdout.readline()
        found = re.search(r"at http://127\.0\.0\.1:(\d+)$", greeting)
        assert found, greeting + self.process.stderr.read()
        self.served = Served(int(found[1]), None)

    def end(self, number):
        """Sends a signal; returns status, and what was printed since the greeting."""
        self.process.send_signal(number)
        out, err = self.process.communicate(timeout=60)
        return self.process.returncode, out, err


@contextlib.contextmanager
def started(*flags, **options):
    process = Process(*flags, **options)
    try:
        yield process
    finally:
        process.process.kill()
        process.process.communicate()


class Load:
    """Clients that ask without end, and remember what came of it."""

    def __init__(self, served, clients=4):
        self.statuses, self.failures = [], 0
        self._served, self._stop = served, threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(clients)]
        for thread in self._threads:
            thread.start()

    def _ask(self):
        while not self._stop.is_set():
            try:
                self.statuses.append(self._served.recommend(items=[1, 2]).status)
            except (OSError, http.client.HTTPException):
                self.failures += 1
                time.sleep(0.01)

    def wait_for_more(self, count=20):
        end, before = time.monotonic() + 60, len(self.statuses)
        while len(self.statuses) < before + count:
            assert time.monotonic() < end
            time.sleep(0.01)

    def stop(self):
        self._stop.set()
        for thread in self._threads:
            thread.join()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_order(tiny_export, number):
    with started(f"--model={tiny_export}") as process:
        assert process.served.recommend(items=[1]).status == 200
        assert process.end(number) == (0, "stopped\n", "")


def test_what_has_been_asked_is_answered_at_the_end(tiny_export):
    """A request that waits for others, which will not come any more."""
    flags = (f"--model={tiny_export}", "--gather_ms=1000")
    with started(*flags) as process:
        answers = []
        thread = threading.Thread(
            target=lambda: answers.append(process.served.recommend(items=[1]))
        )
        thread.start()
        metrics = process.served
        while b"queue_sessions 1" not in metrics.ask("GET", "/metrics").body:
            assert thread.is_alive()
        status, _, err = process.end(signal.SIGTERM)
        thread.join()
    assert (status, err) == (0, "")
    assert answers[0].status == 200


def test_killed_under_load_it_starts_again_at_the_same_port(tiny_export):
    with started(f"--model={tiny_export}") as first:
        load = Load(first.served)
        load.wait_for_more()
        assert first.end(signal.SIGKILL)[0] == -signal.SIGKILL
    with started(f"--model={tiny_export}", port=first.served.port) as second:
        load.wait_for_more()
        load.stop()
        assert set(load.statuses) == {200}
        assert load.failures > 0
        assert second.served.recommend(items=[1]).status == 200


def test_it_is_only_for_this_machine(tiny_export):
    with started(f"--model={tiny_export}") as process:
        found = process.served.ask("GET", "/health", None, {"Host": "0.0.0.0"})
        assert found.status == 400
        assert process.served.ask("POST", "/reload").status == 403


def run(*flags):
    return serve.main(["serve", *map(str, flags)])


def refused(capfd, *flags):
    """What a mistake is told in, which is one line."""
    capfd.readouterr()
    assert run(*flags) == 1
    out, err = said(capfd)
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("error: ")
    return err


def test_a_port_in_use(tiny_export, capfd):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        error = refused(capfd, f"--model={tiny_export}", f"--port={port}")
    assert f"--port={port}: cannot listen at 127.0.0.1" in error
    assert "in use" in error


def test_a_run_is_no_export(tiny_runs, capfd):
    error = refused(capfd, f"--model={tiny_runs('rows')}", "--port=0")
    assert "experiments.export" in error


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda place: resealed(place, version=3), "expected tron-export 1"),
        (lambda place: (place / "items.parquet").unlink(), "no items.parquet"),
        (lambda place: (place / "config.json").write_text("{}"), "is not what was"),
    ],
)
def test_an_export_that_is_not_whole(tiny_export, tmp_path, capfd, change, words):
    place = shutil.copytree(tiny_export, tmp_path / "model")
    change(place)
    assert words in refused(capfd, f"--model={place}", "--port=0")


def test_wrong_flags(tiny_export, tmp_path, capfd):
    short, items = tmp_path / "token", tmp_path / "only.txt"
    short.write_text("short\n")
    items.write_text("999\n")
    for flags, words in (
        ((f"--model={tmp_path / 'nothing'}",), "expected an exported model"),
        ((f"--reload_token_file={short}",), "16 ASCII characters"),
        ((f"--reload_token_file={tmp_path / 'none'}",), "cannot be read"),
        ((f"--only={items}",), "the model knows none"),
        (("--host=no.such.host.invalid",), "--host=no.such.host.invalid"),
        (("--max_k=0",), "max_k"),
        (("--queue=0",), "queue"),
        (("--port=70000",), "port"),  # which a socket would take for 4464
    ):
        model = () if "--model" in flags[0] else (f"--model={tiny_export}",)
        assert words in refused(capfd, "--port=0", *model, *flags)


def test_the_token_of_the_environment(tiny_export, monkeypatch, capfd):
    monkeypatch.setenv("TRON_JAX_RELOAD_TOKEN", "short")
    error = refused(capfd, f"--model={tiny_export}", "--port=0")
    assert "TRON_JAX_RELOAD_TOKEN: expected 16 ASCII" in error
    monkeypatch.setenv("TRON_JAX_RELOAD_TOKEN", "long enough to be one")
    with started(f"--model={tiny_export}") as process:
        headers = JSON | {"Authorization": "Bearer long enough to be one"}
        assert process.served.ask("POST", "/reload", None, headers).status == 200


def test_without_the_extra(tiny_export, monkeypatch, capfd):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    for name in ("app", "connections"):
        monkeypatch.delitem(sys.modules, f"experiments.serving.{name}", raising=False)
    assert "tron-jax[serve]" in refused(capfd, f"--model={tiny_export}")
