"""Nobody gets in, and nobody gets more than there is."""

import contextlib
import json
import socket
import threading
import time

import numpy as np
import pytest
from served import JSON, serving

from experiments.serving import limits, schemas, service
from experiments.serving.connections import BoundedProtocol

pytestmark = pytest.mark.usefixtures("compiled")
BODY = json.dumps({"items": [1]}).encode()
HEAD = (
    b"POST /recommend HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
)


@pytest.fixture(scope="module")
def server(tiny_export, compiled):
    with serving(tiny_export, room=8) as served:
        yield served


@pytest.fixture
def hurried(monkeypatch):
    """What must arrive at once, must arrive at once."""
    monkeypatch.setattr(limits, "READ_SECONDS", 0.3)


@contextlib.contextmanager
def held(monkeypatch):
    """Keeps the server's device busy until the end."""
    may, busy, find = threading.Event(), threading.Event(), service.find

    def slow(prepared):
        busy.set()
        assert may.wait(60)
        return find(prepared)

    monkeypatch.setattr(service, "find", slow)
    try:
        yield busy
    finally:
        may.set()


def later(server, count, **body):
    """Asks in threads; returns them, and the statuses that they will have found."""
    found = []

    def ask():
        found.append(server.recommend(**body).status)

    threads = [threading.Thread(target=ask) for _ in range(count)]
    for thread in threads:
        thread.start()
    return threads, found


def wait_until(holds):
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.001)


def is_served(server):
    return server.recommend(items=[1]).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "multipart/form-data; boundary=x"},
        {"Content-Type": "application/json-seq"},
    ],
)
def test_only_json_is_read(server, headers):
    answer = server.ask("POST", "/recommend", BODY, headers)
    assert answer.status == 415
    assert "application/json" in answer.json["detail"]


def test_json_may_name_its_charset(server):
    headers = {"Content-Type": "Application/JSON; charset=utf-8"}
    assert server.ask("POST", "/recommend", BODY, headers).status == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("LOCALHOST:8000", 200),
        ("127.0.0.1:1", 200),
        ("evil.example", 400),
        ("localhost.evil.example", 400),
        ("[::2]:80", 400),
        ("", 400),
    ],
)
def test_the_host_is_checked(server, host, status):
    answer = server.ask("POST", "/recommend", BODY, JSON | {"Host": host})
    assert answer.status == status
    assert server.ask("GET", "/model", None, {"Host": host}).status == status


def test_a_request_without_a_host_is_refused(server):
    assert b" 400 " in server.send(b"GET /health HTTP/1.0\r\n\r\n")


def test_no_page_of_others_may_read(server):
    origin = {"Origin": "https://evil.example"}
    asked = {**origin, "Access-Control-Request-Method": "POST"}
    asked["Access-Control-Request-Headers"] = "content-type"
    answers = [
        server.ask("OPTIONS", "/recommend", None, asked),
        server.ask("POST", "/recommend", BODY, JSON | origin),
        server.ask("GET", "/model", None, origin),
    ]
    assert [answer.status for answer in answers] == [405, 200, 200]
    for answer in answers:
        assert not [name for name in answer.headers if "access-control" in name]


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("GET", "/", {}),
        ("GET", "/docs", {}),
        ("GET", "/nothing", {}),
        ("GET", "/health", {"Host": "evil.example"}),
        ("POST", "/recommend", JSON),
    ],
)
def test_every_answer_says_what_pages_may_do(server, method, path, headers):
    found = server.ask(method, path, None, headers).headers
    policy = found["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert found["x-content-type-options"] == "nosniff"
    assert "server" not in found


def test_a_body_of_10_mb_is_refused_however_it_comes(server):
    large = b" " * 10_000_000
    answer = server.ask("POST", "/recommend", large)
    assert answer.status == 413
    assert "1,048,576 bytes" in answer.json["detail"]
    chunk = b"%x\r\n%b\r\n" % (1 << 20, b" " * (1 << 20))
    chunked = HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 10 + b"0\r\n\r\n"
    assert b" 413 " in server.send(chunked).partition(b"\r\n")[0]
    assert is_served(server)


def test_no_more_of_a_body_is_kept_than_is_needed(server, monkeypatch):
    monkeypatch.setattr(limits, "BODY", len(BODY))
    assert server.ask("POST", "/recommend", BODY).status == 200
    assert server.ask("POST", "/recommend", BODY + b" ").status == 413


@pytest.mark.parametrize(
    "text", [b"", b"GET", HEAD, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\nGET /"]
)
def test_who_says_nothing_or_half_is_hung_up_on(server, hurried, text):
    answer = server.send(text)
    assert answer.count(b"HTTP/1.1") == text.count(b"\r\n\r\n")
    assert is_served(server)


@pytest.mark.parametrize("part", [b"", b'{"items"'])
def test_half_a_body_is_waited_for_in_vain(server, hurried, part):
    answer = server.send(HEAD + b"Content-Length: 100\r\n\r\n" + part)
    assert b" 408 " in answer.partition(b"\r\n")[0]
    assert is_served(server)


def test_a_trickle_is_no_progress(server, hurried):
    """The deadline is of the whole body, not of a piece."""
    with server.connect() as connection:
        connection.sendall(HEAD + b"Content-Length: 100000\r\n\r\n")
        connection.settimeout(0.05)
        answer = b""
        for _ in range(1000):
            connection.sendall(b" ")
            with contextlib.suppress(TimeoutError):
                answer = connection.recv(1000)
                break
    assert b" 408 " in answer.partition(b"\r\n")[0]


def test_others_are_answered_beside_one_who_hangs(server):
    with server.connect() as connection:
        connection.sendall(HEAD + b"Content-Length: 100\r\n\r\n")
        assert is_served(server)


def test_connections_are_bounded(server, monkeypatch):
    monkeypatch.setattr(limits, "CONNECTIONS", 2)
    with server.connect() as one, server.connect() as two:
        for connection in (one, two):
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert b" 200 " in connection.recv(1000)
        assert server.send(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n") == b""
    assert is_served(server)


def test_who_does_not_read_is_hung_up_on(server, monkeypatch):
    """Or he would keep for ever a place among the requests."""
    monkeypatch.setattr(limits, "WRITE_SECONDS", 0.3)
    lost, small = threading.Event(), (socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)

    made, ended = BoundedProtocol.connection_made, BoundedProtocol.connection_lost

    def narrow(self, transport):
        transport.get_extra_info("socket").setsockopt(*small)
        transport.set_write_buffer_limits(high=0)
        made(self, transport)

    def gone(self, exc):
        ended(self, exc)
        lost.set()

    monkeypatch.setattr(BoundedProtocol, "connection_made", narrow)
    monkeypatch.setattr(BoundedProtocol, "connection_lost", gone)
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", server.port))
        connection.sendall(
            b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 99
        )
        assert lost.wait(30)
    assert is_served(server)


def busy(answer):
    assert answer.status == 503
    assert int(answer.headers["retry-after"]) >= 1
    return answer.json["detail"]


def test_requests_are_bounded(server, monkeypatch):
    monkeypatch.setattr(limits, "REQUESTS", 1)
    with held(monkeypatch) as working:
        threads, found = later(server, 1, items=[1])
        assert working.wait(60)
        assert "too many requests" in busy(server.recommend(items=[1]))
    threads[0].join()
    assert found == [200]
    assert is_served(server)


def test_the_queue_is_bounded(server, monkeypatch):
    with held(monkeypatch) as working:
        first, found = later(server, 1, items=[1])
        assert working.wait(60)
        rest, found_too = later(server, 8, items=[2])
        wait_until(lambda: len(server.live.batcher) == 8)
        assert "queue is full" in busy(server.recommend(items=[1]))
        assert server.ask("GET", "/health").status == 200
    for thread in first + rest:
        thread.join()
    assert found + found_too == [200] * 9
    assert is_served(server)


def test_a_batch_that_never_fits_is_refused_whole(server):
    batch = {"sessions": [{"items": [1]}] * 9}
    assert "queue is full" in busy(server.ask("POST", "/recommend/batch", batch))
    batch["sessions"].pop()
    assert server.ask("POST", "/recommend/batch", batch).status == 200


def test_what_waited_too_long_is_not_worked_on(server, monkeypatch):
    monkeypatch.setattr(limits, "WAIT_SECONDS", -1.0)
    assert "waited too long" in busy(server.recommend(items=[1]))


def test_a_server_that_hangs_says_so(server, monkeypatch):
    assert server.ask("GET", "/health").status == 200
    monkeypatch.setattr(server.live.batcher, "stuck", lambda longest: longest > 0)
    assert server.ask("GET", "/health").status == 503
    monkeypatch.setattr(limits, "ANSWER_SECONDS", 0.0)
    assert "waited too long" in busy(server.recommend(items=[1]))


def test_scores_that_are_no_numbers_are_not_answered(server, monkeypatch, capfd):
    engine = type(server.live.service.engine)

    def diverged(self, queries, allowed):
        return [engine_found(query) for query in queries]

    def engine_found(query):
        score = np.nan if query.items[0] == 1 else 2.0
        return service.Found(np.array([3], np.int32), np.array([score], np.float32))

    monkeypatch.setattr(engine, "__call__", diverged)
    answer = server.recommend(items=[1])
    assert answer.status == 500
    assert "no finite numbers" in answer.json["detail"]
    assert capfd.readouterr().err.count("\n") == 1
    others = service.find([prepared(server, [2]), prepared(server, [1])])
    assert others[0].scores == [2.0]  # who was worked on with it is answered
    assert server.recommend(items=[2]).status == 200


def prepared(server, items):
    asked = schemas.Asked(items=items)
    return service.prepare(server.live.service, asked, ("body",))
