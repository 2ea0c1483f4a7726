"""The engine that serves: the lists of ``recommend``, by programs compiled once."""

import functools
import itertools
import logging

import jax
import numpy as np
import pytest
import test_recommending as small

from tron_jax.recommending.recommender import Model, recommend
from tron_jax.serving import engine
from tron_jax.serving.engine import Engine, Query
from tron_jax.serving.scorer import make_last_queries

NONE = np.zeros(0, np.int32)
ALL = np.ones(small.NUM_ITEMS + 1, bool)


TOLD = {}  # by kind, what each engine told of its progress


@functools.cache
def made(kind):
    gru = kind == "slots"
    last_queries = make_last_queries(
        small.GRU4REC if gru else small.SASREC,
        max_session_length=small.LONGEST,
        position="from_start" if gru else kind,
    )
    longest = 64 if gru else small.LONGEST
    return Engine(
        last_queries,
        small.read_rows,
        *small.model(kind),
        0,
        num_items=small.NUM_ITEMS,
        longest=longest,
        k=20,
        progress=lambda *counts: TOLD.setdefault(kind, []).append(counts),
    )


def sessions():
    items, offsets = small.clicks()
    return [items[a:b] for a, b in itertools.pairwise(offsets)]


def asked(kind, queries, allowed=ALL):
    """All answers, in batches of every size that is compiled."""
    made_ = made(kind)
    answers, rest = [], list(queries)
    for count in itertools.cycle((1, 3, 8, 11, 32)):
        if not rest:
            return answers
        answers += made_(rest[:count], made_.allow(allowed))
        del rest[:count]


def assert_alike(found, expected):
    """Lists agree, but for neighbours whose scores differ by rounding alone."""
    differ = 0
    for one, items, scores in zip(found, *expected, strict=True):
        items, scores = items[items > 0], scores[items > 0]
        np.testing.assert_allclose(one.scores, scores, rtol=1e-4, atol=1e-4)
        differ += (one.items != items).sum()
    assert differ < 0.02 * sum(len(one.items) for one in found)


@pytest.mark.portable
@pytest.mark.parametrize("kind", small.KINDS)
def test_lists_are_those_of_the_recommender(kind):
    draw = np.random.default_rng(0)
    clicks = sessions()
    exclude = [draw.integers(1, 301, n % 70).astype(np.int32) for n in range(90)]
    queries = [Query(c, 20, x) for c, x in zip(clicks, exclude, strict=True)]
    found = asked(kind, queries)
    model = Model(small.recommender(kind), *small.model(kind), 0)
    assert_alike(found, recommend(model, clicks, 20, exclude=exclude))
    for one, without in zip(found, exclude, strict=True):
        assert not np.isin(one.items, without).any()


@pytest.mark.parametrize("kind", small.KINDS)
def test_only_some_items(kind):
    """By a mask of all requests, and by a gather of one."""
    draw = np.random.default_rng(1)
    clicks = sessions()
    only = np.sort(draw.permutation(300)[:150] + 1).astype(np.int32)
    allowed = np.isin(np.arange(301), only)
    model = Model(small.recommender(kind), *small.model(kind), 0)
    expected = recommend(model, clicks, 20, only=only.tolist())
    by_mask = asked(kind, [Query(items, 20, NONE) for items in clicks], allowed)
    by_gather = asked(kind, [Query(items, 20, NONE, only) for items in clicks])
    assert_alike(by_mask, expected)
    assert_alike(by_gather, expected)


@pytest.mark.parametrize("only", [None, np.arange(1, 301, dtype=np.int32)])
def test_of_equal_scores_the_lower_item_comes_first(only):
    """Items 70..79 are 200..209 once more."""
    clicks = sessions()
    twins = 0
    for one in asked("from_start", [Query(items, 20, NONE, only) for items in clicks]):
        places = {int(item): place for place, item in enumerate(one.items)}
        for low in range(70, 80):
            if low + 130 in places:
                assert places[low] == places[low + 130] - 1
                twins += 1
    assert twins > 20


@pytest.mark.parametrize("only", [None, np.array([4, 5, 6], np.int32)])
def test_what_is_left_may_be_less_than_asked(only):
    allowed = np.zeros(301, bool)
    allowed[[4, 5, 6]] = True
    some, none = (np.array(ids, np.int32) for ids in ([5, 9], [4, 5, 6]))
    items = np.array([1], np.int32)
    queries = [Query(items, 3, ids, only) for ids in (NONE, some, none)]
    found = asked("from_end", queries, allowed)
    assert [sorted(one.items.tolist()) for one in found] == [[4, 5, 6], [4, 6], []]


def test_a_list_does_not_depend_on_who_asks_beside():
    clicks = sessions()
    alone = [made("from_end")([Query(c, 9, NONE)], ALL)[0] for c in clicks[:32]]
    together = made("from_end")([Query(c, 9, NONE) for c in clicks[:32]], ALL)
    expected = [np.stack(part) for part in zip(*alone, strict=True)]
    assert_alike(together, expected)


def test_nothing_compiles_after_the_start(caplog):
    """Whatever the number of sessions, clicks, and ids that are excluded or allowed."""
    model = made("slots")
    allowed = model.allow(ALL)
    with jax.log_compiles(), caplog.at_level(logging.DEBUG, logger="jax"):
        for count, length, excluded in itertools.product(
            (1, 2, 8, 9, 32), (1, 8, 9, 100), (0, 1, 64, 65, 1024)
        ):
            items = np.full(length, 3, np.int32)
            without = np.full(excluded, 5, np.int32)
            model([Query(items, 7, without)] * count, allowed)
        for only in (1, 128, 129, 300):
            ids = np.arange(1, only + 1, dtype=np.int32)
            model([Query(np.full(2, 3, np.int32), 7, NONE, ids)], allowed)
        assert caplog.messages == []
        jax.jit(lambda x: x + len(engine.ONLY))(1)
    assert caplog.messages  # or this test could not fail


def test_the_last_clicks_of_a_long_session_count():
    items = np.arange(1, 200, dtype=np.int32)
    for kind, longest in (("from_start", small.LONGEST), ("slots", 64)):
        whole, cut = asked(kind, [Query(x, 9, NONE) for x in (items, items[-longest:])])
        np.testing.assert_array_equal(whole.items, cut.items)


def test_all_programs_are_counted():
    made("from_start")
    total = len(TOLD["from_start"])
    assert TOLD["from_start"] == [(n, total) for n in range(1, total + 1)]
    assert total > len(engine.SESSIONS) * len(engine.EXCLUDED)
