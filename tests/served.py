"""A server in a thread of this process, and a client that speaks plain HTTP to it."""

import contextlib
import functools
import http.client
import json
import shutil
import socket
import threading
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from experiments.serving import loading
from experiments.serving.app import make_app
from experiments.serving.connections import make_server
from experiments.serving.live import Live
from experiments.serving.loading import Source
from experiments.serving.metrics import Metrics
from tron_jax.serving import folder

JSON = {"Content-Type": "application/json"}
TOKEN = "a token of the tests"


class Answer(NamedTuple):
    status: int
    headers: dict
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def items(self):
        return [row["item"] for row in self.json["items"]]


class Served(NamedTuple):
    """A server: its port, and what it answers by."""

    port: int
    live: Live

    def connect(self, timeout=60):
        return socket.create_connection(("127.0.0.1", self.port), timeout)

    def ask(self, method, path, body=None, headers=JSON):
        """Sends a body as it is where it is bytes, else as JSON."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        with contextlib.closing(connection):
            if body is not None and not isinstance(body, bytes):
                body = json.dumps(body).encode()
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return Answer(answer.status, dict(answer.getheaders()), answer.read())

    def recommend(self, **body):
        return self.ask("POST", "/recommend", body)

    def send(self, text, timeout=60):
        """Sends bytes, and returns all that comes back until the server hangs up."""
        with self.connect(timeout) as connection:
            connection.sendall(text)
            return _all(connection)


def _all(connection):
    parts = []
    with contextlib.suppress(ConnectionResetError):
        while part := connection.recv(1 << 16):
            parts.append(part)
    return b"".join(parts)


_known = {}  # programs of the server before, which are compiled but once


@contextlib.contextmanager
def serving(model, *, only=None, token=TOKEN, room=64, gather=0.0, most=30):
    """Serves an exported model at a free port."""
    source = Source(Path(model), only, "item", most, 64)
    load = functools.partial(loading.load, source)
    live = Live(load, load(_known.get("programs")), Metrics(), room=room, gather=gather)
    _known["programs"] = live.service.engine.programs
    hosts = {"localhost", "127.0.0.1"}
    server = make_server(make_app(live, hosts=hosts, token=token))
    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    try:
        yield Served(listener.getsockname()[1], live)
    finally:
        server.should_exit = True
        thread.join(60)
        live.close()
        assert not thread.is_alive()


def with_ids(model, place, raw_ids, **about):
    """Copies an exported model, whose items get other ids, and more is said of it."""
    shutil.copytree(model, place)
    items = pq.read_table(place / "items.parquet")
    items = items.set_column(1, "raw_id", pa.array(raw_ids))
    pq.write_table(items, place / "items.parquet")
    return resealed(place, **about)


def resealed(place, **about):
    """An export whose files were changed on purpose."""
    said = json.loads((place / folder.ABOUT).read_text()) | about
    (place / folder.ABOUT).unlink()
    folder.seal(place, {k: v for k, v in said.items() if k != "files"})
    return place
