"""Loads a server of this machine with clients, and says what they saw.

    python -m experiments.benchmark serve [--num_items=43097 | --model=DIR] \
        [--clients=1,32,256] [--seconds=10] [--endurance=36000] [--queue=256] \
        [--json=FILE]

Starts `experiments.serve` on an exported model, or on a made-up TRON XL of any number
of items, as a process of its own, and asks it by as many clients at once, each of which
asks again as soon as it is answered; all over loopback, for --seconds and 100,000
requests at most. The table has the median and the 99th percentile of what a client
waits, requests per second, and how many were refused as the queue was full (503; a
client then waits for as long as it is told). Beside them stands the floor: what jax
needs for the matmul of as many sessions as the server works on together with all items
and `jax.lax.top_k` of the scores, measured just before in this process while nobody
asks. Clients and server share the machine's cores.

Then, with 8 clients: the same while the server reloads its model; memory before and
after --endurance requests (an hour of ten a second, unless told otherwise) by 32
clients; and how long clients go unanswered when the server is killed and started again.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from experiments import entry, workdirs
from experiments.benchmarks import http_clients, made_up_export
from experiments.benchmarks.child_processes import ROOT, last_line
from experiments.benchmarks.http_clients import Outcome
from experiments.benchmarks.made_up_sessions import make_sessions
from experiments.benchmarks.timing import timed
from tron_jax.console.messages import readable
from tron_jax.errors import UserError
from tron_jax.files import local_path, require_writable
from tron_jax.serving import folder
from tron_jax.serving.engine import SESSIONS

MOST = 100_000  # requests of a row of the table
FEW = 8  # clients while the server reloads, or is killed
BODIES = 2000  # different requests
TOKEN = "of-this-benchmark-alone"
K = 20


def main(argv: Sequence[str]) -> int:
    """The program; ``argv`` is its name and flags. Returns the exit status."""
    values = flags.FlagValues()
    integer = flags.DEFINE_integer
    flags.DEFINE_string("model", None, "Exported model; made up if none.", values)
    integer("num_items", 43_097, "Items of a made-up model.", 1000, None, values)
    flags.DEFINE_list("clients", ["1", "32", "256"], "At the same time.", values)
    flags.DEFINE_float("seconds", 10.0, "Of each number.", 0.1, 600, flag_values=values)
    integer("endurance", 36_000, "Requests of the last row.", 0, 10**7, values)
    integer("queue", 256, "Sessions that may wait.", 1, None, values)
    flags.DEFINE_string("json", None, "File to write the figures to.", values)
    return entry.run(run, values, argv)


def run(values: flags.FlagValues) -> None:
    """Measures by the flags."""
    if not all(number.isdecimal() and int(number) > 0 for number in values.clients):
        raise UserError(f"--clients={values.clients}: expected numbers from 1 on")
    if values.json:
        require_writable(local_path(values.json))
    with tempfile.TemporaryDirectory() as name:
        if values.model is None:
            made_up_export.write(Path(name), values.num_items)
        place = local_path(values.model or name)
        report = measure(
            place,
            list(map(int, values.clients)),
            seconds=values.seconds,
            endurance=values.endurance,
            queue=values.queue,
        )
    print(table(report))
    if values.json:
        workdirs.write_json(Path(values.json), report)


def measure(
    place: Path,
    clients: Sequence[int],
    *,
    seconds: float,
    endurance: int,
    queue: int,
) -> dict[str, Any]:
    """Loads a server of an exported model.

    Args:
      place: of the model.
      clients: at the same time, a row for each number.
      seconds: of each row.
      endurance: requests after which memory is looked at again; 0 = none.
      queue: sessions that may wait.

    Returns:
      ``rows`` (figures, see ``_row``), ``memory`` in bytes before and after.
    """
    exported = folder.read(place)
    raw_ids, embeddings = exported.items.raw_ids, exported.weights["table"]
    bodies = _bodies(raw_ids)
    report: dict[str, Any] = {"num_items": len(raw_ids), "cores": os.cpu_count()}
    table = jax.device_put(embeddings)
    del exported, embeddings
    rows = report["rows"] = []
    with _served(place, queue) as server:
        report["start_seconds"] = server.start_seconds
        report["memory"] = [_resident(server)]
        for count in clients:
            together = max(n for n in SESSIONS if n <= max(count, 1))
            floor = _floor(table, together)
            outcome = _ask(server, bodies, count, seconds)
            rows.append(_row(f"{count} clients", outcome, together / floor))
        del table
        rows.append(_row("8 clients, reloading", _while_reloading(server, bodies)))
        report["memory"].append(_resident(server))
        if endurance:
            outcome = _ask(server, bodies, 32, 3600, most=endurance)
            rows.append(_row(f"{endurance:,} requests of 32 clients", outcome))
            report["memory"].append(_resident(server))
    outcome, gap = _killed(place, queue, bodies)
    rows.append(_row("8 clients, killed once", outcome))
    report["gap_seconds"] = gap
    return report


def table(report: dict[str, Any]) -> str:
    """The figures as lines of text."""
    lines = [
        f"{report['num_items']:,} items, {report['cores']} cores for server and "
        f"clients; served {report['start_seconds']:.1f} s after the start",
        f"{'':<32}{'p50 ms':>9}{'p99 ms':>9}{'req/s':>8}{'floor':>8}{'503':>7}"
        f"{'failed':>8}",
    ]
    for row in report["rows"]:
        floor = f"{row['floor']:8,.0f}" if row["floor"] else f"{'':>8}"
        lines.append(
            f"{row['what']:<32}{row['p50_ms']:9.1f}{row['p99_ms']:9.1f}"
            f"{row['per_second']:8,.1f}{floor}{row['refused']:7,}{row['failed']:8,}"
        )
    memory = ", ".join(map(readable, report["memory"]))
    lines.append(f"memory of the server before, after a reload, at the end: {memory}")
    lines.append(f"killed and started again: {report['gap_seconds']:.1f} s unanswered")
    return "\n".join(lines)


class Server(NamedTuple):
    """A server in a process of its own."""

    process: subprocess.Popen
    port: int
    start_seconds: float


@contextlib.contextmanager
def _served(place: Path, queue: int, port: int = 0) -> Generator[Server]:
    command = [sys.executable, "-m", "experiments.serve", f"--model={place}"]
    # As from a shell: this program has settings of memory that a server does not want.
    inherited = {k: v for k, v in os.environ.items() if k != "GLIBC_TUNABLES"}
    begun = time.perf_counter()
    process = subprocess.Popen(
        [*command, f"--port={port}", f"--queue={queue}"],
        cwd=ROOT,
        env=inherited | {"TRON_JAX_RELOAD_TOKEN": TOKEN},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        found = re.search(r"http://[^:]+:(\d+)", process.stdout.readline())
        if not found:
            _, err = process.communicate()
            raise UserError(f"serve: {last_line(err, process.returncode)}")
        yield Server(process, int(found[1]), time.perf_counter() - begun)
    finally:
        process.kill()
        process.communicate()


def _bodies(raw_ids: Any) -> list[bytes]:
    """Requests of made-up sessions, of lengths as Diginetica's."""
    sessions = make_sessions("diginetica", BODIES, len(raw_ids))
    clicks = np.split(sessions.items, sessions.offsets[1:-1])
    ids = (raw_ids.take(items - 1).to_pylist() for items in clicks)
    return [json.dumps({"items": items, "k": K}).encode() for items in ids]


def _ask(
    server: Server, bodies: list[bytes], clients: int, seconds: float, most: int = MOST
) -> Outcome:
    asking = http_clients.ask(
        server.port, bodies, clients=clients, seconds=seconds, most=most
    )
    return asyncio.run(asking)


def _floor(table: jax.Array, sessions: int) -> float:
    """Seconds of the matmul of some sessions with all items, and of top_k."""
    hidden = jax.device_put(np.ones((sessions, table.shape[1]), np.float32))
    best: Callable = jax.jit(lambda h, t: jax.lax.top_k(jnp.matmul(h, t.T), K))
    jax.block_until_ready(best(hidden, table))
    return float(np.median([timed(lambda: best(hidden, table))[0] for _ in range(5)]))


def _row(what: str, outcome: Outcome, floor: float | None = None) -> dict[str, Any]:
    """What clients saw, and what jax alone could answer in a second."""
    waited = 1e3 * np.array(outcome.latencies or [np.nan])
    return {
        "what": what,
        "p50_ms": float(np.median(waited)),
        "p99_ms": float(np.quantile(waited, 0.99)),
        "per_second": len(outcome.latencies) / outcome.seconds,
        "floor": floor,
        "answered": len(outcome.latencies),
        "refused": outcome.refused,
        "failed": outcome.failed,
    }


def _while_reloading(server: Server, bodies: list[bytes]) -> Outcome:
    """Of clients from before a reload until it is done."""

    async def both() -> Outcome:
        done = asyncio.Event()
        asking = asyncio.create_task(
            http_clients.ask(
                server.port, bodies, clients=FEW, seconds=1, most=MOST, until=done
            )
        )
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        with contextlib.closing(writer):
            authorized = f"Authorization: Bearer {TOKEN}\r\n"
            writer.write(http_clients.request(b"", "/reload", authorized))
            answer = await reader.readuntil(b"\r\n")
            done.set()
        if b" 200 " not in answer:
            raise UserError(f"reload: {answer.decode().strip()}")
        return await asking

    return asyncio.run(both())


def _killed(place: Path, queue: int, bodies: list[bytes]) -> tuple[Outcome, float]:
    """Kills a server under load and starts it again; also the seconds in between."""

    async def load(port: int, done: asyncio.Event) -> Outcome:
        return await http_clients.ask(
            port, bodies, clients=FEW, seconds=1, most=MOST, until=done
        )

    async def both() -> tuple[Outcome, float]:
        done = asyncio.Event()
        with contextlib.ExitStack() as stack:
            first = stack.enter_context(_served(place, queue))
            asking = asyncio.create_task(load(first.port, done))
            await asyncio.sleep(1)
            begun = time.perf_counter()
            first.process.send_signal(signal.SIGKILL)
            first.process.wait()
            again = _served(place, queue, first.port)
            await asyncio.to_thread(stack.enter_context, again)
            gap = time.perf_counter() - begun
            await asyncio.sleep(1)
            done.set()
            return await asking, gap

    return asyncio.run(both())


def _resident(server: Server) -> int:
    """Bytes of memory that the server holds."""
    fields = Path(f"/proc/{server.process.pid}/statm").read_text().split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")
