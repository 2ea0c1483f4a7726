"""A new export takes over while the old one serves, or the old one serves on."""

import gc
import json
import shutil
import threading
import weakref
from types import SimpleNamespace

import numpy as np
import pytest
from served import JSON, TOKEN, resealed, serving, with_ids

from experiments.serving import loading, service
from experiments.serving.schemas import Asked
from tron_jax import memory
from tron_jax.serving import engine, folder

ASKED = Asked(items=[1, 2])
pytestmark = pytest.mark.usefixtures("compiled")
AUTHORIZED = JSON | {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture(scope="module")
def other(tiny_export, tmp_path_factory):
    """Another export, of step 77, whose lists differ."""
    place = shutil.copytree(tiny_export, tmp_path_factory.mktemp("other") / "model")
    weights = folder.weights_of(folder.read(place))
    table = np.ascontiguousarray(weights.table[::-1])
    folder.save_weights(place / folder.WEIGHTS, weights._replace(table=table))
    return resealed(place, step=77)


@pytest.fixture
def place(tiny_export, tmp_path):
    """A symbolic link to the export that serves."""
    link = tmp_path / "serving"
    link.symlink_to(tiny_export)
    return link


def turn(link, target):
    new = link.with_name("new")
    new.symlink_to(target)
    new.replace(link)


def reload(server, headers=AUTHORIZED):
    return server.ask("POST", "/reload", None, headers)


def test_a_new_export_takes_over_and_no_request_is_dropped(place, other):
    steps, stop = [], threading.Event()
    with serving(place) as server:
        old = server.recommend(items=[1, 2]).json

        def ask():
            while not stop.is_set():
                answer = server.recommend(items=[1, 2])
                steps.append((answer.status, answer.json["step"], answer.items))

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        turn(place, other)
        answer = reload(server)
        assert (answer.status, answer.json["step"]) == (200, 77)
        new = server.recommend(items=[1, 2])
        stop.set()
        for thread in threads:
            thread.join()
    expected = {old["step"]: [row["item"] for row in old["items"]], 77: new.items}
    assert expected[old["step"]] != expected[77]
    assert {status for status, _, _ in steps} == {200}
    assert {step for _, step, _ in steps} == set(expected)
    assert all(items == expected[step] for _, step, items in steps)


def test_the_old_model_leaves_memory(tiny_export):
    with serving(tiny_export) as server:
        assert server.recommend(items=[1]).status == 200
        old = weakref.ref(server.live.service.engine)
        assert old() is not None
        assert reload(server).status == 200
        gc.collect()
        assert old() is None


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (JSON, 401),
        (JSON | {"Authorization": TOKEN}, 401),
        (JSON | {"Authorization": f"Bearer {TOKEN}x"}, 401),
        (JSON | {"Authorization": f"bearer {TOKEN[:-1]}"}, 401),
        (JSON | {"Authorization": "Bearer \xff"}, 401),
        (AUTHORIZED, 200),
    ],
)
def test_only_the_token_reloads(tiny_export, monkeypatch, headers, status):
    with serving(tiny_export) as server:
        loaded = []
        monkeypatch.setattr(
            server.live, "_load", lambda known: loaded.append(1) or first
        )
        first = server.live.service
        assert reload(server, headers).status == status
        assert len(loaded) == (status == 200)


def test_without_a_token_nobody_reloads(tiny_export):
    with serving(tiny_export, token=None) as server:
        answer = reload(server, JSON | {"Authorization": "Bearer None"})
        assert answer.status == 403
        assert "--reload_token_file" in answer.json["detail"]


def damaged(model, place):
    shutil.copytree(model, place)
    path = place / folder.WEIGHTS
    path.write_bytes(path.read_bytes()[:-100])
    return place


def diverged(model, place):
    shutil.copytree(model, place)
    weights = folder.weights_of(folder.read(place))
    table = np.full_like(weights.table, np.nan)
    folder.save_weights(place / folder.WEIGHTS, weights._replace(table=table))
    return resealed(place)


def newer(model, place):
    shutil.copytree(model, place)
    return resealed(place, version=99)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (damaged, "weights.safetensors is not what was exported"),
        (diverged, "not finite"),
        (newer, "expected tron-export 1"),
        (lambda model, place: place, "expected an exported model"),
    ],
)
def test_a_bad_export_leaves_the_old_one(tiny_export, place, tmp_path, make, words):
    with serving(place) as server:
        before = server.recommend(items=[1, 2]).json
        turn(place, make(tiny_export, tmp_path / "bad"))
        answer = reload(server)
        assert answer.status == 409
        assert words in answer.json["detail"]
        assert "the old model serves on" in answer.json["detail"]
        assert server.recommend(items=[1, 2]).json == before
        metrics = server.ask("GET", "/metrics").body.decode()
        assert 'tron_jax_reloads_total{outcome="failed"} 1' in metrics


@pytest.mark.parametrize("which", ["host_memory", "free_memory"])
def test_memory_for_both_is_looked_for_first(tiny_export, monkeypatch, which):
    short = {
        "host_memory": lambda: SimpleNamespace(free=1000),
        "free_memory": lambda: 1000,
    }
    with serving(tiny_export) as server:
        monkeypatch.setattr(memory, which, short[which])
        monkeypatch.setattr(folder, "read", None)  # it is not even read
        answer = reload(server)
        assert answer.status == 409
        assert "memory" in answer.json["detail"]
        assert server.recommend(items=[1]).status == 200


def test_the_items_that_may_be_recommended_are_read_again(tiny_export, tmp_path):
    only = tmp_path / "only.txt"
    only.write_text("3\n5\n7\n")
    with serving(tiny_export, only=only) as server:
        assert sorted(server.recommend(items=[1]).items) == [3, 5, 7]
        assert server.recommend(items=[1], only=[5, 6]).items == [5]
        assert sorted(server.recommend(items=[999]).items) == [3, 5, 7]
        only.write_text("item\n9\n")
        assert reload(server).json["may_be_recommended"] == 1
        assert server.recommend(items=[1]).items == [9]
        only.write_text("1000\n")
        assert "the model knows none" in reload(server).json["detail"]
        assert server.recommend(items=[1]).items == [9]


def test_ids_may_be_of_another_type_afterwards(tiny_export, place, tmp_path):
    with serving(place) as server:
        names = [f"item {n}" for n in range(1, 301)]
        before = server.recommend(items=[5]).items
        turn(place, with_ids(tiny_export, tmp_path / "text", names))
        assert reload(server).status == 200
        assert server.recommend(items=[5]).status == 422
        found = server.recommend(items=["item 5"]).items
        assert found == [f"item {n}" for n in before]


@pytest.fixture
def compiling(monkeypatch):
    """Of each engine that is compiled, how many items it has."""
    compiled, compile_ = [], engine._compile

    def counted(functions, weights, clicks, num_items, progress):
        compiled.append(num_items)
        return compile_(functions, weights, clicks, num_items, progress)

    monkeypatch.setattr(engine, "_compile", counted)
    return compiled


def test_where_nothing_but_weights_differs_nothing_is_compiled(
    place, other, compiling, tiny_export, tmp_path
):
    with serving(place) as server:
        old, compiled = server.live.service, len(compiling)
        turn(place, other)
        assert reload(server).status == 200
        assert server.live.service.engine.programs is old.engine.programs
        assert len(compiling) == compiled
        turned = shutil.copytree(tiny_export, tmp_path / "turned")
        config = json.loads((turned / "config.json").read_text())
        config["model"]["position"] = "from_end"  # of the same shapes
        (turned / "config.json").write_text(json.dumps(config))
        turn(place, resealed(turned))
        assert reload(server).status == 200
        assert compiling[compiled:] == [300]


def test_one_reload_at_a_time(tiny_export, monkeypatch):
    begun, may = threading.Event(), threading.Event()
    load = loading.load

    def slow(known):
        begun.set()
        assert may.wait(60)
        return load(source, known)

    with serving(tiny_export) as server:
        monkeypatch.setattr(server.live, "_load", slow)
        source = loading.Source(tiny_export, None, "item", 30, 64)
        answers = []
        thread = threading.Thread(target=lambda: answers.append(reload(server)))
        thread.start()
        assert begun.wait(60)
        second = reload(server)
        assert (second.status, "under way" in second.json["detail"]) == (409, True)
        assert server.recommend(items=[1]).status == 200
        may.set()
        thread.join()
        assert answers[0].status == 200
        assert reload(server).status == 200


def test_what_waits_is_answered_by_the_model_it_was_asked_of(place, other):
    """Numbers of items are another model's, once it has taken over."""
    with serving(place) as server:
        old = server.live.service
        turn(place, other)
        assert reload(server).status == 200
        new = server.live.service
        asked = [service.prepare(one, ASKED, ("body",)) for one in (old, old, new)]
        found = service.find(asked)
        steps = [one.service.about["step"] for one in asked]
        for one, answer in zip(asked, found, strict=True):
            (expected,) = service.find([one])
            np.testing.assert_array_equal(answer.items, expected.items)
        assert steps == [50, 50, 77]
