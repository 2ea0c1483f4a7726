"""Serves an exported model over HTTP.

    python -m experiments.serve --model=DIR [--port=8000] [--only=FILE] [--max_k=100]
    curl localhost:8000/recommend -H 'Content-Type: application/json' \
        -d '{"items": [5, 9], "k": 20}'

DIR is what experiments.export made. POST /recommend takes a session's clicks, the
latest last, in your own ids, and gives the best next items of the whole catalogue,
exactly, as experiments.recommend does; "exclude" and "only" are lists of ids,
/recommend/batch takes several sessions. Clicks that the model does not know are left
out; where it knows none, the most clicked items of training stand in. / is a page to
click through items, /docs describes the API, /model has the card, /metrics is for
Prometheus, /health for whoever restarts what hangs.

Only this machine is answered, by the names localhost and 127.0.0.1, unless --host and
--allow_host say otherwise; there is no TLS and nobody is asked who he is, so that
others are best let in by a proxy that does both.

One process; requests that arrive within --gather_ms of each other are worked on
together. What does not fit into the queue gets 503 and Retry-After. Everything is
compiled before the first answer. A transformer sees the last max_session_length clicks
of a session, a recurrent model the last --max_clicks.

POST /reload with `Authorization: Bearer TOKEN` loads --model and --only anew, whatever
lies there by now (write a new folder, then rename it, or turn a symbolic link), while
the old model serves; if the new one is damaged, or memory is short for both, it serves
on. Where both have the same shapes, as when only --only is new, nothing is compiled
again. The token is what TRON_JAX_RELOAD_TOKEN holds, or the file --reload_token_file.
SIGTERM and Ctrl-C answer what has been asked, and end with status 0.
"""

from __future__ import annotations

import functools
import ipaddress
import os
import signal
import socket
import sys
from collections.abc import Sequence

from absl import flags

from experiments import entry
from experiments.serving import limits, loading
from experiments.serving.loading import Source
from tron_jax import devices
from tron_jax.console.messages import say, warn
from tron_jax.console.progress import Progress
from tron_jax.console.signals import Stopped
from tron_jax.errors import UserError
from tron_jax.files import local_path

MISSING = "pip install 'tron-jax[serve]' has what serves"
TOKEN = "TRON_JAX_RELOAD_TOKEN"
SHORTEST = 16  # characters of a token
LOOPBACK = {"localhost", "127.0.0.1", "[::1]"}


def main(argv: Sequence[str]) -> int:
    values = flags.FlagValues()

    def text(name: str, default: str | None, meaning: str) -> None:
        flags.DEFINE_string(name, default, meaning, values, required=name == "model")

    def number(
        name: str, default: int, least: int, meaning: str, most: int | None = None
    ) -> None:
        flags.DEFINE_integer(name, default, meaning, least, most, flag_values=values)

    text("model", None, "Folder of the exported model.")
    text("host", "127.0.0.1", "Address to listen at.")
    number("port", 8000, 0, "Port to listen at; 0 = any that is free.", 65535)
    flags.DEFINE_list("allow_host", [], "More names to be called by.", values)
    text("only", None, "File of the items that may be recommended.")
    text("item", "item", "Column of that file, if it is CSV or Parquet.")
    number("max_k", 100, 1, "Items of a list at most.")
    number("max_clicks", 256, 1, "Of a session that a recurrent model sees.")
    number("queue", 256, limits.BATCH, "Sessions that may wait.")
    flags.DEFINE_float(
        "gather_ms", 2.0, "How long one waits for others.", 0, 1000, flag_values=values
    )
    text("reload_token_file", None, "File with the token that lets a client reload.")
    return entry.run(run, values, argv)


def run(values: flags.FlagValues) -> None:
    """Serves by the flags, until a signal ends it."""
    try:
        from experiments.serving.app import make_app
        from experiments.serving.connections import make_server
        from experiments.serving.live import Live
        from experiments.serving.metrics import Metrics
    except ImportError as error:
        raise UserError(f"{error.name} is not installed; {MISSING}") from error
    source = Source(
        local_path(values.model),
        None if values.only is None else local_path(values.only),
        values.item,
        values.max_k,
        values.max_clicks,
    )
    token = _token(values)
    with _listening(values.host, values.port) as listener:
        devices.check()
        live = Live(
            functools.partial(loading.load, source),
            _load(source),
            Metrics(),
            room=values.queue,
            gather=values.gather_ms / 1000,
        )
        named = {name.lower() for name in (*values.allow_host, values.host)}
        hosts = LOOPBACK | {f"[{name}]" if ":" in name else name for name in named}
        server = make_server(make_app(live, hosts=hosts, token=token))
        say(_greeting(live.service, listener))
        try:
            server.run(sockets=[listener])
        except KeyboardInterrupt:
            pass
        except Stopped as stopped:
            if stopped.number != signal.SIGTERM:
                raise
        finally:
            live.close()
    say("stopped")


def _token(values: flags.FlagValues) -> str | None:
    """What lets a client reload, if anything does."""
    token, where = os.environ.get(TOKEN), TOKEN
    if values.reload_token_file is not None:
        where = f"--reload_token_file={values.reload_token_file}"
        try:
            token = local_path(values.reload_token_file).read_text("ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{where}: cannot be read ({error})") from error
    if token is not None and (len(token) < SHORTEST or not token.isascii()):
        raise UserError(f"{where}: expected {SHORTEST} ASCII characters at least")
    return token


def _listening(host: str, port: int) -> socket.socket:
    """Takes the port before minutes are spent; who connects early waits."""
    try:
        (family, _, _, _, address), *_ = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except OSError as error:
        raise UserError(f"--host={host}: {error.strerror}") from error
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(1024)
    except OSError as error:
        listener.close()
        raise UserError(
            f"--port={port}: cannot listen at {host} ({error.strerror})"
        ) from error
    if not ipaddress.ip_address(address[0]).is_loopback:
        warn(f"--host={host}: whoever reaches this address is answered")
    return listener


def _load(source: Source) -> loading.Service:
    with Progress("compiling", None, unit="programs") as progress:

        def show(done: int, total: int) -> None:
            progress.total = total
            progress.update(done)

        return loading.load(source, progress=show)


def _greeting(service: loading.Service, listener: socket.socket) -> str:
    host, port, *_ = listener.getsockname()
    name = f"[{host}]" if ":" in host else host
    about = service.about
    return (
        f"serving {about['model']} of step {about['step']:,}, "
        f"{len(service.popular):,} of {len(service.raw_ids):,} items, at "
        f"http://{name}:{port}"
    )


if __name__ == "__main__":
    # Not ``entry.start``, whose settings keep memory that is freed: a server that loads
    # one model after the other would hold that of several.
    sys.exit(main(sys.argv))
