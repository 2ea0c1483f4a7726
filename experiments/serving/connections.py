"""Connections of uvicorn, bounded in number, and in the time that a client may take.

uvicorn itself waits for ever for a client that connects and says nothing, or half, or
that does not read what it is answered.
"""

from __future__ import annotations

import asyncio
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from experiments.serving import limits

ENDING = 30  # seconds that what has been asked may take when the server ends


def make_server(app: Any) -> uvicorn.Server:
    """Builds a server that says nothing of itself and writes no log of requests."""
    config = uvicorn.Config(
        app,
        http=BoundedProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        log_level="error",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=ENDING,
    )
    return uvicorn.Server(config)


class BoundedProtocol(H11Protocol):
    """An HTTP/1.1 connection."""

    _deadline: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Ends one that is too many, and starts the clock of the others."""
        super().connection_made(transport)
        if len(self.connections) > limits.CONNECTIONS:
            transport.abort()
        else:
            self._watch()

    def data_received(self, data: bytes) -> None:
        """Lets a request's head be late no more, once it is there."""
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stops the clock."""
        self._forget()
        self._is_read()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Starts the clock of a client that does not read."""
        super().pause_writing()
        late = self.transport.abort
        self._unread = self.loop.call_later(limits.WRITE_SECONDS, late)

    def resume_writing(self) -> None:
        """Stops it."""
        self._is_read()
        super().resume_writing()

    def _is_read(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def _watch(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self._forget()  # a body has a deadline of its own, see ``guard``
        elif self._deadline is None:
            late = self.transport.abort
            self._deadline = self.loop.call_later(limits.READ_SECONDS, late)

    def _forget(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
