"""Clients of a server, each of which asks again as soon as it is answered."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple


class Outcome(NamedTuple):
    """What clients saw.

    Attributes:
      seconds: that they asked for.
      latencies: [answered] seconds of each request that was answered.
      refused: requests that got a 503, after which a client waits as it is told to.
      failed: requests that got anything else, or no answer.
    """

    seconds: float
    latencies: list[float]
    refused: int
    failed: int


class _Load:
    def __init__(self, port: int, bodies: Iterator[bytes], most: int):
        self.port, self.bodies, self.left = port, bodies, most
        self.latencies: list[float] = []
        self.refused = self.failed = 0
        self.stopped = asyncio.Event()

    async def ask(self) -> None:
        """One client, which connects again where the connection is lost."""
        while not self.stopped.is_set() and self.left > 0:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            except OSError:
                self.failed += 1
                await asyncio.sleep(0.05)
                continue
            with contextlib.closing(writer):
                try:
                    await self._ask_over(reader, writer)
                except (OSError, asyncio.IncompleteReadError):
                    self.failed += 1

    async def _ask_over(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while not self.stopped.is_set() and self.left > 0:
            self.left -= 1
            begun = time.perf_counter()
            writer.write(next(self.bodies))
            status, wait = await _read(reader)
            if status == 200:
                self.latencies.append(time.perf_counter() - begun)
            elif status == 503:
                self.refused += 1
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self.stopped.wait(), wait)
            else:
                self.failed += 1


async def _read(reader: asyncio.StreamReader) -> tuple[int, float]:
    """Status, and the seconds after which to ask again."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    lines = head.split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines[1:] if line)
    await reader.readexactly(int(headers["content-length"]))
    return int(lines[0].split()[1]), float(headers.get("retry-after", 0))


def request(body: bytes, path: str = "/recommend", more: str = "") -> bytes:
    """A request as it goes over the wire."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\n{more}"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def ask(
    port: int,
    bodies: Sequence[bytes],
    *,
    clients: int,
    seconds: float,
    most: int,
    until: asyncio.Event | None = None,
) -> Outcome:
    """Asks a server of this machine.

    Args:
      port: of the server.
      bodies: that are sent in turn, over and over.
      clients: that ask at the same time.
      seconds: for which they do, at most.
      most: requests that they make, at most.
      until: is waited for as well, where given.
    """
    load = _Load(port, itertools.cycle(map(request, bodies)), most)
    begun = time.perf_counter()
    tasks = [asyncio.create_task(load.ask()) for _ in range(clients)]
    await asyncio.wait(tasks, timeout=seconds)
    if until is not None:
        await until.wait()
    load.stopped.set()
    spent = time.perf_counter() - begun
    await asyncio.wait(tasks)
    return Outcome(spent, load.latencies, load.refused, load.failed)
