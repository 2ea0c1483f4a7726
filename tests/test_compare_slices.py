"""Slices of a comparison against loops, and sets that are matched by raw ids."""

import csv
import itertools
import json

import numpy as np
import pytest
import tiny
from made_up_results import build, drawn_ranks, predictions, write_run

from data_prep import events
from experiments.comparing import differences, same_clicks, slices, statistics
from tron_jax.console.program import run
from tron_jax.data.sessions import open_prepared
from tron_jax.errors import UserError
from tron_jax.evaluation.rank_file import Ranks


@pytest.fixture(autouse=True)
def few_draws(monkeypatch):
    monkeypatch.setattr(statistics, "REPLICATES", 500)
    monkeypatch.setattr(differences, "SLICE_REPLICATES", 400)


def slow_parts(data, clicks):
    """Of each prediction the part that it is in, by what divides."""
    test, order = data.test, sorted(range(len(clicks)), key=lambda i: -clicks[i])
    tenth, before = {}, 0
    for item in order:
        tenth[item + 1] = min(9, 10 * before // sum(clicks))
        before += clicks[item]

    def ranged(count):
        for first, last in ((6, 7), (8, 10), (11, 20)):
            if first <= count <= last:
                return f"{first} to {last}"
        return str(count) if count <= 5 else "21 and more"

    names = ["1, most clicked", *map(str, range(2, 10)), "10, least clicked"]
    for start, stop in itertools.pairwise(test.offsets):
        session = list(test.items[start:stop])
        for event in range(1, len(session)):
            label = session[event]
            yield {
                "position of the label in the session": ranged(event + 1),
                "clicks in the session": ranged(len(session)),
                "popularity of the label, by tenths of train clicks": names[
                    tenth[label]
                ],
                "label and the clicks before": "among them"
                if label in session[:event]
                else "new",
                "label and the last click": "the same item"
                if label == session[event - 1]
                else "another item",
            }


def write_log(path, sessions, first=0):
    """A CSV of clicks: session numbers from ``first`` on, items, order."""
    with open(path, "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["session", "item", "pos"])
        for number, session in enumerate(sessions, first):
            rows.writerows((number, item, pos) for pos, item in enumerate(session))
    return path


def prepare(folder, train, test):
    argv = ["e", f"--train={train}", f"--test={test}", f"--out={folder}"]
    argv += ["--session=session", "--item=item", "--order=pos", "--min_item_support=1"]
    assert run(events.main, events.define_flags(), argv) == 0
    return folder


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    """Two prepared sets: the same test log beside two train logs, with all lengths."""
    folder = tmp_path_factory.mktemp("logs")
    draw = np.random.default_rng(0)

    def sessions(count, num_items):
        weights = 1 / np.arange(1, num_items + 1)
        lengths = np.minimum(draw.geometric(0.25, count) + 1, 30)
        return [
            list(draw.choice(num_items, length, p=weights / weights.sum()))
            for length in lengths
        ]

    test = write_log(folder / "test.csv", sessions(250, 40), first=10_000)
    sets = []
    for name, num_items in (("one", 40), ("other", 36)):
        train = write_log(folder / f"{name}.csv", sessions(300, num_items))
        sets.append(prepare(folder / name, train, test))
    return sets


def test_runs_that_look_at_validation_alone(tiny_data, tmp_path, train, evaluate):
    """They are evaluated and compared on it; test is in no file of theirs."""
    data = open_prepared(tiny_data)
    fields = {
        "data__validation": 0.3,
        "data__without_last": 0.1,
        "train__evaluate_on": "validation",
        "train__epochs": 1,
    }
    for name, more in {"one": {}, "other": {"optimizer__learning_rate": 0.1}}.items():
        assert train(tmp_path / "runs" / name, **fields, **more)[0] == 0
        assert evaluate(tmp_path / "runs" / name)[0] == 0
        lines = json.loads((tmp_path / "runs" / name / "evaluation.json").read_text())
        log = tiny.lines(tmp_path / "runs" / name)
        splits = {line["split"] for line in [*lines, *log] if "split" in line}
        assert splits == {"validation"}
    kept = data.train.num_sessions - round(0.1 * data.train.num_sessions)
    held = round(0.3 * kept)
    sessions = data.train.lengths[kept - held : kept]
    comparison = build(tmp_path / "runs")
    predicted = (sessions - 1).sum()
    assert (
        f"validation: {held:,} sessions, {predicted:,} predictions" in comparison.data
    )
    by_length = [s for s in comparison.slices if s.by == "clicks in the session"]
    counts = {part.name: part.predictions for part in by_length}
    assert counts["2"] == (sessions == 2).sum()
    assert train(tmp_path / "runs" / "third", train__epochs=1)[0] == 0
    assert evaluate(tmp_path / "runs" / "third")[0] == 0
    with pytest.raises(UserError, match=r"evaluated on validation data.validation=0.3"):
        build(tmp_path / "runs")
    status, _, err = evaluate(tmp_path / "runs" / "one", "--split=test")
    assert (status, err) == (0, "")
    found = json.loads((tmp_path / "runs" / "one" / "evaluation_test.json").read_text())
    events = {line["protocol"]: line["events"] for line in found}
    assert events["exact"] == (data.test.lengths - 1).sum()


def test_slices_are_those_of_loops(tmp_path, logs):
    data = open_prepared(logs[0])
    for seed in (0, 1):
        write_run(tmp_path / str(seed), logs[0], seed=seed)
    comparison = build(tmp_path)
    clicks = np.bincount(data.train.items, minlength=data.num_items + 1)[1:].tolist()
    parts = list(slow_parts(data, clicks))
    ranks = [drawn_ranks(data, seed) for seed in (0, 1)]
    hits = np.mean([1 + r.higher + r.equal <= 20 for r in ranks], axis=0)
    tied = (ranks[0].equal > 0) | (ranks[1].equal > 0)
    for part, is_tied in zip(parts, tied, strict=True):
        part["ties with the label"] = "in some run" if is_tied else "none"
    expected = {
        (by, name): [
            hit for part, hit in zip(parts, hits, strict=True) if part[by] == name
        ]
        for by in parts[0]
        for name in {part[by] for part in parts}
    }
    found = {(s.by, s.name): s for s in comparison.slices}
    assert found.keys() == expected.keys()
    assert len({name for by, name in found if by.startswith("clicks in")}) == 8
    for place, of_part in expected.items():
        (value,) = found[place].values
        assert found[place].predictions == len(of_part)
        assert value.value == pytest.approx(np.mean(of_part))
        assert 0 <= value.low <= value.value <= value.high <= 1
        assert found[place].key == "recall@20"


@pytest.mark.portable
def test_slices_add_up_to_the_whole(tmp_path, logs):
    for topk in (4, 8):
        write_run(tmp_path / str(topk), logs[0], seed=topk, loss__topk=topk)
    comparison = build(tmp_path)
    whole = {s.name: s.figures["exact"]["recall@20"].mean for s in comparison.settings}
    for _, parts in itertools.groupby(comparison.slices, key=lambda s: s.by):
        parts = list(parts)
        count = sum(part.predictions for part in parts)
        for number, name in enumerate(whole):
            values = [part.values[number] for part in parts]
            assert {value.setting for value in values} == {name}
            total = sum(
                part.predictions * value.value
                for part, value in zip(parts, values, strict=True)
            )
            assert total / count == pytest.approx(whole[name])


def test_an_interval_covers_the_seeds_where_there_are_some(tmp_path, logs):
    """A slice of one prediction a session: the variance of a mean is known."""
    data = open_prepared(logs[0])
    session, event, label = predictions(data)
    first = event == 1
    higher = np.where(np.random.default_rng(0).random(len(event)) < 0.5, 0, 99)
    ranks = [Ranks(session, event, label, higher, 0 * higher)]
    ranks += [ranks[0]._replace(higher=np.where(first & (event < 2), 99, higher))]
    for seed, of_run in enumerate(ranks):
        write_run(tmp_path / "both" / str(seed), logs[0], seed=seed, ranks=of_run)
    write_run(tmp_path / "one", logs[0], ranks=ranks[0])
    alone, both = (
        next(s.values[0] for s in build(tmp_path / name).slices if s.name == "2")
        for name in ("one", "both")
    )
    share = (higher[first] == 0).mean()
    error = np.sqrt(share * (1 - share) / first.sum())
    assert alone.high - alone.value == pytest.approx(1.96 * error, rel=0.15)
    assert both.value == pytest.approx(share / 2)
    assert both.high - both.value > 3 * (alone.high - alone.value)


@pytest.mark.portable
def test_tenths_hold_a_tenth_of_the_clicks_each():
    draw = np.random.default_rng(1)
    clicks = draw.integers(0, 50, 5000)
    part = slices.tenths(clicks)
    shares = np.bincount(part, clicks) / clicks.sum()
    np.testing.assert_allclose(shares, 0.1, atol=50 / clicks.sum())
    by_part = [clicks[part == number] for number in range(10)]
    for more, fewer in itertools.pairwise(by_part):
        assert more.min() >= fewer.max()
    assert slices.tenths(np.zeros(3, np.int64)).tolist() == [0, 0, 0]


def test_sets_are_matched_click_by_click(logs):
    first, second = map(open_prepared, logs)
    row, same = same_clicks.match(first, second)
    raw = [raw_sessions(data) for data in (first, second)]
    assert len(raw[0]) > len(raw[1])  # some have only items that the other lacks
    ids = [list(of_set) for of_set in raw]
    for number, name in enumerate(ids[0]):
        left, right = raw[0][name], raw[1].get(name, [])
        prefix = 0
        for one, other in zip(left, right, strict=False):
            if one != other:
                break
            prefix += 1
        assert same[number] == prefix
        if prefix:
            assert ids[1][row[number]] == name
    assert (same < first.test.lengths).any()


def raw_sessions(data):
    """Raw items by raw session."""
    from tron_jax.data.sessions import catalogue_of

    raw = catalogue_of(data).raw_ids.to_pylist()
    return {
        name: [raw[item - 1] for item in data.test.items[start:stop]]
        for name, (start, stop) in zip(
            data.test.ids.to_pylist(),
            itertools.pairwise(data.test.offsets),
            strict=True,
        )
    }


def test_runs_on_another_train_part_compare_over_what_both_predict(tmp_path, logs):
    ranks = []
    for name, path in zip(("one", "other"), logs, strict=True):
        data = open_prepared(path)
        found = drawn_ranks(data, len(ranks))
        rank = 1 + found.higher + found.equal
        ranks.append(dict(zip(keyed(data), rank, strict=True)))
        write_run(tmp_path / name, path, ranks=found)
    shared = ranks[0].keys() & ranks[1].keys()
    assert 0.7 * len(ranks[0]) < len(shared) < len(ranks[0])
    comparison = build(tmp_path)
    (warning,) = comparison.warnings
    assert f"{len(shared):,} of {len(ranks[0]):,} predictions" in warning
    found = next(d for d in comparison.differences if d.key == "recall@20")
    means = [np.mean([of_run[k] <= 20 for k in shared]) for of_run in ranks]
    assert found.value == pytest.approx(means[1] - means[0])
    positions = [s for s in comparison.slices if s.by.startswith("position")]
    assert sum(s.predictions for s in positions) == len(shared)
    assert [s.name for s in comparison.settings] == ["data=one", "data=other"]


def test_kept_results_on_two_train_parts_compare_by_two_sets(tmp_path, logs):
    for name, path in zip(("one", "other"), logs, strict=True):
        ranks = drawn_ranks(open_prepared(path), len(name))
        for kept in (True, False):
            write_run(tmp_path / f"{kept}" / name, path, ranks=ranks, kept=kept)
    for given in ([], logs[:1]):
        with pytest.raises(UserError, match="each named by a --data of its own"):
            build(tmp_path / "True", data=list(map(str, given)))
    data = [str(path) for path in reversed(logs)]
    kept = build(tmp_path / "True", data=data)
    runs = build(tmp_path / "False")
    values = [[d[2:] for d in c.differences] for c in (kept, runs)]
    assert values[0] == values[1] != []
    assert len(kept.slices) == len(runs.slices) > 0


def keyed(data):
    """What makes a prediction the same in two sets: its session and history."""
    for name, session in raw_sessions(data).items():
        for event in range(1, len(session)):
            yield name, tuple(session[: event + 1])


def test_sets_with_little_in_common_are_refused(tmp_path, logs):
    write_run(tmp_path / "one", logs[0])
    write_run(tmp_path / "two", tiny.write_data(tmp_path / "data"))
    with pytest.raises(UserError, match=r"the test parts differ: .*one .*two .* 0 of"):
        build(tmp_path / "one", tmp_path / "two")
