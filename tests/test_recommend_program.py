"""``experiments.recommend``: from a log of sessions to a file of lists."""

import json
import shutil

import jax
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import tiny
from conftest import said

from data_prep.pipeline.parts import PartPlan
from data_prep.programs import log_program
from experiments import recommend
from experiments.recommending import item_ids
from tron_jax.data.sessions import catalogue_of, open_prepared
from tron_jax.errors import UserError


@pytest.fixture
def run(tmp_path, tiny_runs, compilations, capfd):
    """Runs the program on a log: ``(log, *flags) -> status, out, err, lists``."""

    def call(log, *flags, mode="rows", out="lists.parquet", model=None):
        model = model or tiny_runs(mode)  # which may train, and say so
        capfd.readouterr()
        path = tmp_path / out
        command = ["recommend", f"--model={model}"]
        command += [f"--sessions={log}", f"--out={path}", "--session=s", "--item=i"]
        with tiny.compiled_once(compilations):
            status = recommend.main([*command, *flags])
        lists = (
            pq.read_table(path).to_pylist()
            if path.suffix == ".parquet" and (path.exists())
            else None
        )
        return status, *said(capfd), lists

    return call


@pytest.fixture(scope="module")
def sessions(tiny_data):
    """The test sessions by the user's own ids: {id: [item]}."""
    data = open_prepared(tiny_data)
    raw = catalogue_of(data).raw_ids.to_numpy()
    items = np.split(raw[data.test.items - 1], data.test.offsets[1:-1])
    return dict(zip(data.test.ids.to_pylist(), map(list, items), strict=True))


def table(sessions, seed=None):
    """Rows of sessions, in any order where a seed is given."""
    rows = [
        (session, item, place)
        for session, items in sessions.items()
        for place, item in enumerate(items)
    ]
    if seed is not None:
        rows = [rows[i] for i in np.random.default_rng(seed).permutation(len(rows))]
    return pa.table(dict(zip("sio", map(list, zip(*rows, strict=True)), strict=True)))


@pytest.fixture
def log(tmp_path, sessions):
    path = tmp_path / "log.parquet"
    pq.write_table(table(sessions), path)
    return path


def by_session(lists):
    """{session: [items, the best first]}, of one list each."""
    found = {}
    for row in lists:
        found.setdefault(row["session"], []).append(row["item"])
        assert len(found[row["session"]]) == row["rank"]
    return found


@pytest.mark.parametrize("mode", ["rows", "dense"])
def test_every_label_stands_where_evaluate_ranks_it(
    run, log, mode, tiny_runs, evaluate, tmp_path, sessions
):
    workdir = tmp_path / "run"
    shutil.copytree(tiny_runs(mode), workdir)
    assert evaluate(workdir)[0] == 0
    ranks = pq.read_table(
        workdir / "ranks.parquet", filters=[("protocol", "=", "exact")]
    ).to_pylist()
    status, _, err, lists = run(log, "--per_event", model=workdir)
    assert (status, err) == (0, "")
    found = {}
    for row in lists:
        found[row["session"], row["event"], row["item"]] = row["rank"]
    ids = list(sessions)
    assert len(ranks) > 300
    for rank in ranks:
        session, event = rank["session"], rank["event"]
        if session not in sessions:
            session = ids[session]
        label = sessions[session][event]
        at = found.get((session, event, label), 21)
        lowest = min(1 + rank["higher"], 21)
        highest = min(1 + rank["higher"] + rank["equal"], 21)
        assert lowest <= at <= highest
    assert len(lists) == 20 * sum(map(len, sessions.values()))


def test_any_format_and_order_of_rows_gives_the_same(run, log, sessions, tmp_path):
    status, printed, err, expected = run(log)
    assert (status, err) == (0, "")
    assert "300 lists of 300 sessions" in printed
    expected = by_session(expected)
    assert {len(items) for items in expected.values()} == {20}
    mixed = table(sessions, seed=1)
    pyarrow.csv.write_csv(mixed, tmp_path / "log.csv")
    lines = "".join(json.dumps(row) + "\n" for row in mixed.to_pylist())
    (tmp_path / "log.jsonl").write_text(lines)
    for name in ("log.csv", "log.jsonl"):
        status, _, err, lists = run(tmp_path / name, "--order=o")
        assert (status, err) == (0, "")
        assert {int(k): v for k, v in by_session(lists).items()} == expected


def test_a_log_of_another_form_gives_the_same(run, log, sessions, tmp_path):
    """Many files, of a session a line, whose clicks are nested; and nothing to cut."""
    _, _, _, expected = run(log)
    for number, (session, items) in enumerate(sessions.items()):
        events = [{"of": {"i": int(i)}, "t": n} for n, i in enumerate(items)]
        path = tmp_path / "d" / f"{number:03}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps({"u": session, "events": events}))
    columns = ("--session=u", "--item=events.of.i", "--time=events.t")
    status, _, err, found = run(tmp_path / "d" / "*.json", *columns)
    assert (status, err) == (0, "")
    assert by_session(found) == by_session(expected)
    status, _, err, found = run(tmp_path / "d", *columns, "--session_gap=9")
    assert (status, err) == (0, "")
    cut = {f"{one}#1": items for one, items in by_session(expected).items()}
    assert by_session(found) == cut


def test_a_log_in_parts_gives_the_same(run, log, monkeypatch, tmp_path):
    expected = by_session(run(log)[3])
    sizes = log_program.LogSizes(plan=lambda rows: PartPlan(5, True))
    monkeypatch.setattr(recommend, "CLICKS", 50)
    monkeypatch.setattr(recommend, "SIZES", sizes)
    assert by_session(run(log)[3]) == expected
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "lists.parquet",
        "log.parquet",
    ]


def test_json_lines_say_the_same(run, log, tmp_path):
    lists = run(log, "--k=3", "--per_event")[3]
    assert run(log, "--k=3", "--per_event", out="lists.jsonl")[0] == 0
    lines = (tmp_path / "lists.jsonl").read_text().splitlines()
    read = [json.loads(line) for line in lines]
    assert [{**row, "score": None} for row in read] == [
        {**row, "score": None} for row in lists
    ]
    scores = np.float32([row["score"] for row in read])
    np.testing.assert_array_equal(scores, np.float32([row["score"] for row in lists]))


def test_what_a_list_may_hold(run, log, sessions, tmp_path):
    whole = by_session(run(log, "--k=300")[3])
    some = [str(item) for item in range(1, 121)]
    (tmp_path / "some.txt").write_text("\n".join([*some, "", "nobody's"]))
    few = pa.table({"i": [5, 6, 7], "more": [1, 1, 1]})
    pq.write_table(few, tmp_path / "few.parquet")
    status, _, err, lists = run(
        log,
        "--k=4",
        "--exclude_seen",
        f"--only={tmp_path / 'some.txt'}",
        f"--exclude={tmp_path / 'few.parquet'}",
    )
    assert status == 0
    assert "1 of 121 items are unknown" in err
    for session, items in by_session(lists).items():
        without = {5, 6, 7, *sessions[session]}
        left = [i for i in whole[session] if i <= 120 and i not in without]
        assert items == left[:4]


def test_seen_is_what_was_clicked_before(run, log, sessions):
    lists = run(log, "--k=2", "--exclude_seen", "--per_event")[3]
    for row in lists:
        assert row["item"] not in sessions[row["session"]][: row["event"]]
    later = [r for r in lists if r["item"] in sessions[r["session"]][r["event"] :]]
    assert later


def test_unknown_items_are_left_out_and_counted(run, sessions, tmp_path, tiny_data):
    kept = dict(list(sessions.items())[:3])
    expected = by_session(run(write(tmp_path, kept))[3])
    first, second, third = kept
    odd = {
        first: [9001, *kept[first], 9002],
        "new": [9003],
        second: kept[second],
        third: [*kept[third][:-1], 9004, *kept[third][-1:]],
    }
    odd = {str(session): items for session, items in odd.items()}
    status, _, err, lists = run(write(tmp_path, odd))
    assert status == 0
    assert "4 of " in err
    assert "1 sessions have no click that the model knows" in err
    found = by_session(lists)
    for session, items in expected.items():
        assert found[str(session)] == items
    clicks = catalogue_of(open_prepared(tiny_data)).train_events
    order = np.argsort(-clicks, kind="stable")[:20] + 1
    assert found["new"] == order.tolist()
    for row in lists:
        assert row["popular"] == (row["session"] == "new") == (row["score"] is None)
    every = run(write(tmp_path, odd), "--per_event", "--k=1")[3]
    events = [row["event"] for row in every if row["session"] == str(first)]
    assert events == list(range(2, 2 + len(kept[first])))


def write(folder, sessions):
    path = folder / "some.parquet"
    pq.write_table(table(sessions), path)
    return path


def test_a_session_of_one_click_will_do(run, tmp_path):
    lists = run(write(tmp_path, {1: [7], 2: [7, 8]}))[3]
    assert list(by_session(lists)) == [1, 2]


def test_of_a_hundred_thousand_clicks_the_last_count(run, tmp_path):
    draw = np.random.default_rng(0).integers(1, 301, 100_000).tolist()
    status, _, err, lists = run(write(tmp_path, {1: draw, 2: draw[-50:], 3: [8]}))
    assert (status, err) == (0, "")
    found = by_session(lists)
    assert found[1] == found[2] != found[3]


def test_lists_of_nothing_are_no_lists(run, tmp_path):
    some = {1: list(range(1, 301)), 2: [5, 6]}
    status, printed, err, lists = run(write(tmp_path, some), "--exclude_seen")
    assert status == 0
    assert "1 lists of 2 sessions" in printed
    assert "1 lists would be empty" in err
    assert list(by_session(lists)) == [2]


def test_a_run_of_before_needs_its_data(run, log, tiny_runs, tmp_path, tiny_data):
    workdir = tmp_path / "run"
    shutil.copytree(tiny_runs("rows"), workdir)
    (workdir / "items.parquet").unlink()
    status, _, err, _ = run(log, model=workdir)
    assert (status, "expected --data=DIR" in err) == (1, True)
    lists = run(log, f"--data={tiny_data}", model=workdir)[3]
    assert by_session(lists) == by_session(run(log)[3])


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--sessions={empty}"], "no rows"),
        (["--exclude={all}"], "of which 0 may be recommended"),
        (["--k=0"], "k=0"),
        (["--k=301"], "--k=301: the model has 300 items, of which 300 may"),
        (["--k=3", "--only={few}"], "of which 2 may be recommended"),
        (["--only={none}"], "the model knows none of its 2 items"),
        (["--only=nowhere.txt"], "cannot be read"),
        (["--exclude={wrong}"], "no column 'i'"),
        (["--item=nothing"], "no column 'nothing'"),
        (["--out=lists.txt"], "ends in .parquet or .jsonl"),
        (["--out={folder}"], "is a folder"),
        (["--step=7777"], "7777"),
        (["--model=nowhere"], "nowhere"),
        (["--sessions={others}"], "the model knows none of its items"),
        (["--sessions="], "an empty path"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(run, log, flags, expected, tmp_path):
    (tmp_path / "folder.jsonl").mkdir()
    (tmp_path / "few.txt").write_text("3\n4\n")
    (tmp_path / "none.txt").write_text("a\nb\n")
    (tmp_path / "empty.csv").write_text("s,i\n")
    (tmp_path / "all.txt").write_text("\n".join(map(str, range(1, 301))))
    pq.write_table(pa.table({"x": [1]}), tmp_path / "wrong.parquet")
    pq.write_table(pa.table({"s": [1], "i": [999]}), tmp_path / "others.parquet")
    there = sorted(tmp_path.iterdir())
    places = {path.stem: path for path in there}
    status, printed, err, _ = run(log, *(flag.format(**places) for flag in flags))
    assert (status, printed) == (1, "")
    assert expected in err
    assert len(err.splitlines()) == 1
    assert sorted(tmp_path.iterdir()) == there


@pytest.mark.parametrize(
    "form", ["{}", "{}/*.parquet", "{}/**/*.parquet", "{}/**", "{}/../*"]
)
def test_lists_do_not_become_clicks_of_the_next_command(run, log, form):
    """As by their columns they could."""
    folder = log.parent
    place, out = form.format(folder), folder / "lists.parquet"
    status, _, err, _ = run(log, f"--sessions={place}", f"--out={out}")
    assert (status, f"--out={out} would be one of" in err) == (1, True)
    assert not out.exists()


def test_what_is_read_is_not_replaced(run, log):
    before = log.read_bytes()
    status, _, err, _ = run(log, f"--out={log}")
    assert (status, f"--out={log} is the file of --sessions" in err) == (1, True)
    assert log.read_bytes() == before


def test_nor_is_what_a_model_consists_of(run, log, tiny_runs, tmp_path):
    model = shutil.copytree(tiny_runs("rows"), tmp_path / "model")
    before = (model / "items.parquet").read_bytes()
    status, _, err, _ = run(log, f"--out={model / 'items.parquet'}", model=model)
    assert (status, "is in a run; expected it elsewhere" in err) == (1, True)
    assert (model / "items.parquet").read_bytes() == before


def test_a_config_of_something_else_makes_no_run_of_a_folder(run, log, tmp_path):
    (tmp_path / "config.json").write_text("{}")
    assert run(log)[0] == 0


def test_folders_that_were_made_in_vain_are_gone(run, tmp_path):
    path = tmp_path / "others.parquet"
    pq.write_table(pa.table({"s": [1], "i": [999]}), path)
    assert run(path, out="new/deep/lists.parquet")[0] == 1
    assert not (tmp_path / "new").exists()


def test_nothing_to_exclude_is_no_mistake(run, log, tmp_path):
    (tmp_path / "none.txt").write_text("")
    expected = run(log)[3]
    status, _, err, lists = run(log, f"--exclude={tmp_path / 'none.txt'}")
    assert (status, err, lists) == (0, "", expected)
    assert "no items in it" in run(log, f"--only={tmp_path / 'none.txt'}")[2]


def test_a_mark_at_the_start_of_a_file_is_no_id(run, log, tmp_path):
    path = tmp_path / "some.txt"
    path.write_text("5\n6\n7\n", encoding="utf-8-sig")
    lists = run(log, f"--only={path}", "--k=3")[3]
    assert {row["item"] for row in lists} == {5, 6, 7}


@pytest.mark.parametrize(
    "ids",
    [
        pa.array([30_000_000_005.0, None, 30_000_000_006.0, float("nan")]),
        pa.array([30_000_000_005, 30_000_000_006]).cast(pa.decimal128(30, 2)),
    ],
)
def test_whole_numbers_of_any_type_are_the_same_ids(ids, tmp_path):
    """As in a log: a column of pandas that lacks a value is of floats."""
    raw_ids = pa.array(range(30_000_000_001, 30_000_000_010))
    pq.write_table(pa.table({"i": ids}), tmp_path / "few.parquet")
    path = tmp_path / "few.parquet"
    found = item_ids.read_items("--exclude", path, "i", raw_ids, needed=True)
    assert found.tolist() == [5, 6]


@pytest.mark.parametrize(
    ("ids", "why"),
    [
        (pa.array([5.0, 5.5]), "5.5: ids must be whole numbers"),
        (pa.array([5, 2.0**53]), "9007199254740992: from 2"),
        (pa.array([5.5]).cast(pa.decimal128(9, 1)), "5.5: ids must be whole numbers"),
    ],
)
def test_numbers_that_are_no_ids_are_named(ids, why, tmp_path):
    path = tmp_path / "few.parquet"
    pq.write_table(pa.table({"i": ids}), path)
    with pytest.raises(UserError, match=f"few.parquet: column 'i': {why}"):
        item_ids.read_items("--only", path, "i", pa.array(range(1, 9)), needed=True)


def test_what_positions_from_the_end_know_is_said(run, log, tiny_data, train, tmp_path):
    workdir = tmp_path / "from_end"
    fields = {"model__position": "from_end", "train__epochs": 1}
    assert train(workdir, **fields)[0] == 0
    assert "how many clicks remain" in run(log, "--per_event", model=workdir)[2]
    assert run(log, model=workdir)[2] == ""


def test_a_model_that_diverged_is_refused(run, log, monkeypatch):
    load = recommend.trained.load

    def diverged(*arguments):
        found = load(*arguments)
        params = jax.tree.map(lambda x: x * np.nan, found.model.params)
        return found._replace(model=found.model._replace(params=params))

    monkeypatch.setattr(recommend.trained, "load", diverged)
    status, _, err, lists = run(log)
    assert (status, lists) == (1, None)
    assert "scores are no numbers" in err
