"""``experiments.benchmark serve``: what clients see, and what they are refused."""

import asyncio
import contextlib
import json

import numpy as np
import pytest
from conftest import said

from experiments import benchmark
from experiments.benchmarks import http_clients, made_up_export
from tron_jax.serving import folder

pytestmark = pytest.mark.usefixtures("compiled")


def test_a_server_is_loaded_and_killed(tiny_export, tmp_path, capfd):
    path = tmp_path / "figures.json"
    argv = [f"--model={tiny_export}", "--clients=1,3", "--seconds=0.3"]
    argv += ["--endurance=40", f"--json={path}"]
    assert benchmark.main(["benchmark", "serve", *argv]) == 0
    out, err = said(capfd)
    assert err == ""
    report = json.loads(path.read_text())
    assert [row["what"] for row in report["rows"]] == [
        "1 clients",
        "3 clients",
        "8 clients, reloading",
        "40 requests of 32 clients",
        "8 clients, killed once",
    ]
    *rows, killed = report["rows"]
    assert all(row["answered"] > 0 for row in report["rows"])
    assert {row["failed"] for row in rows} == {0}
    assert rows[-1]["answered"] + rows[-1]["refused"] == 40
    assert killed["failed"] > 0
    assert len(report["memory"]) == 3
    assert len(out.splitlines()) == 9


def test_wrong_flags(tmp_path, capfd):
    for flags, words in (
        (["--clients=0"], "--clients"),
        ([f"--model={tmp_path}"], "export.json"),
        ([f"--json={tmp_path / 'no' / 'file'}"], "no folder"),
    ):
        assert benchmark.main(["benchmark", "serve", *flags]) == 1
        assert words in said(capfd)[1]


def test_a_made_up_model_is_an_export(tmp_path):
    made_up_export.write(tmp_path, 1000)
    exported = folder.read(tmp_path)
    assert exported.weights["table"].shape == (1001, 200)
    assert np.unique(exported.weights["table"]).size > 100_000
    assert exported.items.raw_ids.to_pylist() == list(range(1, 1001))


def reply(status, *headers):
    lines = [f"HTTP/1.1 {status} X", "Content-Length: 2", *headers, "", "{}"]
    return "\r\n".join(lines).encode()


def asked(*answers, **options):
    """What clients see of a server that gives a connection these, and hangs up."""

    async def answer(reader, writer):
        with contextlib.closing(writer):
            for text in answers:
                head = await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(int(head.split(b"Length: ")[1].split()[0]))
                writer.write(text)

    async def ask():
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            return await http_clients.ask(port, [b"{}"], seconds=60, **options)

    outcome = asyncio.run(ask())
    return len(outcome.latencies), outcome.refused, outcome.failed


def test_what_clients_are_refused_and_lose_is_counted():
    answers = reply(200), reply(503, "Retry-After: 0"), reply(500)
    # The fourth is asked over the connection that the server has closed by then.
    assert asked(*answers, clients=1, most=4) == (1, 1, 2)


def test_no_more_is_asked_than_told():
    assert asked(*[reply(200)] * 100, clients=5, most=37) == (37, 0, 0)
