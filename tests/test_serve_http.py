"""The answers of a server: the lists of ``recommend``, and a field for each fault."""

import itertools
import json
import re
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pytest
from served import serving, with_ids

from experiments.assembly import trained
from experiments.recommending.item_ids import numbers_of
from experiments.serving.lookup import make_lookup
from tron_jax.data.sessions import open_prepared
from tron_jax.recommending.recommender import recommend

pytestmark = pytest.mark.usefixtures("compiled")
BIG = 2**63 - 1


@pytest.fixture(scope="module")
def server(tiny_export, compiled):
    with serving(tiny_export) as served:
        yield served


@pytest.fixture(scope="module")
def text_server(tiny_export, compiled, tmp_path_factory):
    place = tmp_path_factory.mktemp("text") / "model"
    names = [f"<b>item {n}</b>" for n in range(1, 301)]
    with serving(with_ids(tiny_export, place, names)) as served:
        yield served


def sessions(tiny_data):
    test = open_prepared(tiny_data).test
    return [test.items[a:b].tolist() for a, b in itertools.pairwise(test.offsets)]


def same_lists(found, expected):
    """But for neighbours whose scores differ by rounding alone."""
    assert [len(items) for items in found] == [len(items) for items in expected]
    differ = np.array(found) != expected
    assert differ.mean() < 0.01


def test_lists_are_those_of_recommend(server, tiny_export, tiny_data):
    clicks = sessions(tiny_data)[:60]
    model = trained.load(tiny_export).model
    expected = recommend(model, clicks, 20, exclude=clicks)
    bodies = [{"items": items, "exclude": items} for items in clicks]
    answers = [server.recommend(**body) for body in bodies]
    assert {answer.status for answer in answers} == {200}
    same_lists([answer.items for answer in answers], expected.items)
    parts = [bodies[:30], bodies[30:]]
    batches = [server.ask("POST", "/recommend/batch", {"sessions": p}) for p in parts]
    lists = [one for batch in batches for one in batch.json["lists"]]
    found = [[row["item"] for row in one["items"]] for one in lists]
    same_lists(found, expected.items)
    scores = [[row["score"] for row in one["items"]] for one in lists]
    np.testing.assert_allclose(scores, expected.scores, rtol=1e-4, atol=1e-4)


def test_many_clients_get_each_its_own(server, tiny_data):
    clicks = sessions(tiny_data)[:64]
    alone = [server.recommend(items=items).items for items in clicks]
    with ThreadPoolExecutor(32) as pool:
        answers = pool.map(lambda items: server.recommend(items=items), clicks)
    same_lists([answer.items for answer in answers], alone)


def test_k_only_and_exclude(server):
    assert len(server.recommend(items=[1]).items) == 20
    assert len(server.recommend(items=[1], k=30).items) == 30
    only = server.recommend(items=[1], only=[9, 4, 4, 7, 999], exclude=[4, 888]).items
    assert sorted(only) == [7, 9]


def test_unknown_clicks_are_left_out_and_counted(server):
    known = server.recommend(items=[5, 9])
    mixed = server.recommend(items=[777, 5, 888, 9]).json
    assert mixed["items"] == known.json["items"]
    assert (mixed["unknown"], mixed["popular"]) == (2, False)


def test_the_popular_stand_in_where_no_click_is_known(server, tiny_export):
    answer = server.recommend(items=[777], k=4).json
    clicks = trained.load(tiny_export).items.train_events
    order = (np.argsort(-clicks, kind="stable") + 1).tolist()
    rows = [{"item": item, "score": None} for item in order[:4]]
    assert (answer["items"], answer["popular"], answer["unknown"]) == (rows, True, 1)
    without = server.recommend(items=[777], k=2, exclude=order[:2]).items
    assert without == order[2:4]
    assert server.recommend(items=[777], only=order[5:3:-1]).items == order[4:6]


def fault(answer):
    assert answer.status == 422, answer.body
    first = answer.json["detail"][0]
    return ".".join(map(str, first["loc"][1:])), first["msg"]


@pytest.mark.parametrize(
    ("body", "field", "words"),
    [
        ({}, "items", "required"),
        ({"items": []}, "items", "at least 1"),
        ({"items": [1] * 100_000}, "items", "at most 10000"),
        ({"items": [1], "k": 0}, "k", "greater than or equal to 1"),
        ({"items": [1], "k": 31}, "k", "expected 1 to 30"),
        ({"items": [1], "k": True}, "k", "integer"),
        ({"items": [1], "k": 2.0}, "k", "integer"),
        ({"items": [1], "k": None}, "k", "integer"),
        ({"items": [1, True]}, "items.1", "whole number"),
        ({"items": [1.0]}, "items.0", "whole number"),
        ({"items": [float("nan")]}, "items.0", "whole number"),
        ({"items": [None]}, "items.0", "whole number"),
        ({"items": [[1]]}, "items.0", "whole number"),
        ({"items": [BIG + 1]}, "items.0", "64 bits"),
        ({"items": [-BIG - 2]}, "items.0", "64 bits"),
        ({"items": ["1"]}, "items.0", "are whole numbers, such as 1"),
        ({"items": ["1" * 1001]}, "items.0", "at most 1,000 characters"),
        ({"items": "123"}, "items", "list"),
        ({"items": [1], "exclude": ["a"]}, "exclude.0", "whole numbers"),
        ({"items": [1], "exclude": [1] * 1001}, "exclude", "at most 1000"),
        ({"items": [1], "exclude": list(range(1, 301))}, "exclude", "no item is left"),
        ({"items": [1], "only": [7], "exclude": [7]}, "exclude", "no item is left"),
        ({"items": [777], "only": [7], "exclude": [7]}, "exclude", "no item is left"),
        ({"items": [1], "only": []}, "only", "at least 1"),
        ({"items": [1], "only": [777]}, "only", "none of these"),
        ({"items": [1], "only": [1] * 10_001}, "only", "at most 10000"),
        ({"items": [1], "path": "/etc"}, "path", "not permitted"),
    ],
)
def test_a_fault_names_its_field(server, body, field, words):
    found = fault(server.recommend(**body))
    assert found[0] == field
    assert words in found[1]


def test_ids_of_64_bits_are_unknown_and_no_fault(server):
    answer = server.recommend(items=[BIG, -BIG - 1, 3])
    assert (answer.status, answer.json["unknown"]) == (200, 2)


def test_a_fault_in_a_batch_names_its_session(server):
    sessions = [{"items": [1]}, {"items": [1, "x"]}]
    answer = server.ask("POST", "/recommend/batch", {"sessions": sessions})
    assert fault(answer)[0] == "sessions.1.items.1"
    sessions = [{"items": [1]}] * 33
    answer = server.ask("POST", "/recommend/batch", {"sessions": sessions})
    assert fault(answer)[0] == "sessions"


@pytest.mark.parametrize(
    "body", [b"{", b"[" * 100_000, b"\xff", b'{"items": [%s]}' % (b"1" * 5000)]
)
def test_what_is_no_json_is_refused(server, body):
    answer = server.ask("POST", "/recommend", body)
    assert answer.status in (400, 422)
    assert "detail" in answer.json


def test_ids_of_text(text_server):
    name = "<b>item 5</b>"
    answer = text_server.recommend(items=[name], exclude=[name])
    assert answer.status == 200
    assert name not in answer.items
    assert all(re.fullmatch(r"<b>item \d+</b>", item) for item in answer.items)
    found = fault(text_server.recommend(items=[5]))
    assert found[0] == "items.0"
    assert "are text, such as '<b>item 1</b>'" in found[1]


@pytest.mark.parametrize(
    "raw_ids",
    [[5, -3, BIG, 0], ["a", "", "7", "ä"]],  # neither in order
)
def test_ids_are_found_as_in_a_log(raw_ids):
    wanted = [*raw_ids[::-1], *([6, -BIG - 1] if raw_ids[0] == 5 else ["b", "07"])]
    found = make_lookup(pa.array(raw_ids))(wanted)
    expected = numbers_of(pa.array(wanted), pa.array(raw_ids))
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == expected.dtype


def test_what_is_said_of_the_model(server, tiny_export):
    about = server.ask("GET", "/model").json
    assert about["card"] == (tiny_export / "MODEL_CARD.md").read_text()
    assert (about["num_items"], about["most"], about["ids"]) == (300, 30, "int64")
    assert about["popular"] == server.recommend(items=[777]).items
    health = server.ask("GET", "/health")
    assert (health.status, health.json["status"]) == (200, "ok")


def test_figures_for_prometheus(server):
    def value(name):
        text = server.ask("GET", "/metrics").body.decode()
        found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.M)
        return float(found[1]) if found else 0.0

    asked = 'tron_jax_requests_total{path="/recommend",status="200"}'
    before = value(asked)
    server.recommend(items=[1])
    server.ask("GET", "/nothing/here")
    assert value(asked) == before + 1
    assert value('tron_jax_requests_total{path="other",status="404"}') > 0
    assert value('tron_jax_request_seconds_bucket{le="+Inf"}') > 0
    assert value("tron_jax_queue_sessions") == 0
    text = server.ask("GET", "/metrics").body.decode()
    names = re.findall(r"^# TYPE (\S+) \S+$", text, re.M)
    assert len(names) == len(set(names)) > 5
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"\w+(\{[^{}]*\})? [-+.\de]+", line) for line in lines)


def test_the_documents_are_local_and_whole(server):
    document = server.ask("GET", "/openapi.json").json
    assert {"/recommend", "/recommend/batch", "/reload"} <= set(document["paths"])
    text = json.dumps(document)
    assert "422" in text
    for path in ("/", "/docs"):
        page = server.ask("GET", path)
        assert page.headers["content-type"].startswith("text/html")
        for link in re.findall(r'(?:src|href)="([^"]+)"', page.body.decode()):
            assert link.startswith("/")
            assert server.ask("GET", link).status == 200
        assert b"<style" not in page.body
        assert re.findall(rb"<script(?! src)", page.body) == []
