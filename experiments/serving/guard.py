"""What stands before the API: who may ask, how much, and how fast it must arrive."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from typing import Any

from experiments.serving import limits
from experiments.serving.metrics import Metrics

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

# Pages run scripts and styles of this server alone, ask it alone, and are framed by
# nobody. Nothing says that pages of others may read answers (CORS).
HEADERS = [
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        b"img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
]
BUSY = [(b"retry-after", b"1")]


class _Refused(Exception):
    def __init__(self, status: int, why: str, headers: list | None = None):
        self.status, self.why = status, why
        self.headers = headers or []


class Guard:
    """An ASGI application that refuses, or passes a whole request on."""

    def __init__(
        self,
        app: App,
        *,
        hosts: Collection[str],
        paths: Collection[str],
        metrics: Metrics,
    ):
        """Guards an application.

        Args:
          app: what is guarded.
          hosts: names by which a request may call this machine, in lower case; a web
            page of somebody else's that resolves its own name to this address (DNS
            rebinding) uses another one.
          paths: that are counted each by itself.
          metrics: that count.
        """
        self._app, self._hosts, self._paths = app, hosts, paths
        self._metrics = metrics
        self.requests = 0

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Answers a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun, status = time.monotonic(), 500

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", []), *HEADERS]
            await send(message)

        self.requests += 1
        try:
            try:
                body = await self._body(scope, receive)
            except _Refused as refused:
                await _refuse(counted, refused)
                return
            if body is not None:
                await self._app(scope, _replayed(body, receive), counted)
        finally:
            self.requests -= 1
            path = scope["path"] if scope["path"] in self._paths else "other"
            self._metrics.request(path, status, time.monotonic() - begun)

    async def _body(self, scope: Any, receive: Receive) -> bytes | None:
        """The body of a request that may pass; None where the client has gone.

        Raises:
          _Refused: if it may not.
        """
        headers = dict(scope["headers"])
        host = _name_of(headers.get(b"host", b"").decode("latin-1"))
        if host not in self._hosts:
            raise _Refused(400, f"Host {host!r} is not served here; see --allow_host")
        if self.requests > limits.REQUESTS:
            raise _Refused(503, "too many requests at once", BUSY)
        try:
            async with asyncio.timeout(limits.READ_SECONDS):
                body = await _read(receive)
        except TimeoutError:
            why = f"the request did not arrive within {limits.READ_SECONDS:g} s"
            raise _Refused(408, why) from None
        if body is not None and len(body) > limits.BODY:
            raise _Refused(413, f"expected a body of at most {limits.BODY:,} bytes")
        kind = headers.get(b"content-type", b"").split(b";")[0].strip().lower()
        if body and kind != b"application/json":
            raise _Refused(415, "expected Content-Type: application/json")
        return body


async def _read(receive: Receive) -> bytes | None:
    """Reads a body, of which no more is kept than is needed to see that it is too long.

    One that is too long is read to its end, so that an honest client hears why.
    """
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")[: limits.BODY + 1 - len(body)]
        if not message.get("more_body", False):
            return bytes(body)


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Gives a body once, and then what comes after it."""
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


def _name_of(host: str) -> str:
    """The name in a Host header, without a port: ``[::1]:80`` -> ``[::1]``."""
    if host.startswith("["):
        return host.partition("]")[0].lower() + "]"
    return host.partition(":")[0].lower()


async def _refuse(send: Send, refused: _Refused) -> None:
    body = json.dumps({"detail": refused.why}).encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
        (b"connection", b"close"),
        *refused.headers,
    ]
    start = {"type": "http.response.start", "status": refused.status}
    await send(start | {"headers": headers})
    await send({"type": "http.response.body", "body": body})
