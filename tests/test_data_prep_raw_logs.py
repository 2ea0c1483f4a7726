"""Diginetica, Yoochoose and OTTO, session by session against the slow reference."""

import functools
import gzip
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import reference_preparation
from log_sizes import small_sizes

from data_prep import diginetica, events, otto, yoochoose
from data_prep.pipeline import merging
from data_prep.programs.log_program import LOG_SIZES
from tron_jax.console.program import run
from tron_jax.data.sessions import open_prepared

REAL = Path(__file__).parents[1] / ".." / "shared" / "data"
PROGRAMS = {"diginetica": diginetica, "yoochoose": yoochoose, "otto": otto}
REFERENCES = {
    "diginetica": reference_preparation.prepare_diginetica,
    "yoochoose": reference_preparation.prepare_yoochoose,
    "otto": reference_preparation.prepare_otto,
}


def prepare(name, raw, out, *args, sizes=LOG_SIZES):
    program = PROGRAMS[name]
    argv = [name, f"--raw={raw}", f"--out={out}", *args]
    main = functools.partial(program.main, sizes=sizes)
    assert run(main, program.define_flags(), argv) == 0
    return open_prepared(out)


def as_lists(data):
    parts = []
    for part in (data.train, data.test):
        items = np.split(part.items, part.offsets[1:-1])
        items = [x.tolist() for x in items[: part.num_sessions]]
        starts = [round(t.timestamp(), 3) for t in part.start_time.to_pylist()]
        parts.append(list(zip(part.ids.to_pylist(), items, starts, strict=True)))
    raw_ids = pq.read_table(data.path / "items.parquet")["raw_id"].to_pylist()
    return *parts, raw_ids


def agrees(name, raw, data):
    train, test, raw_ids = REFERENCES[name](raw)
    expected = [
        [(s, items, round(start, 3)) for s, items, start in part]
        for part in (train, test)
    ]
    assert as_lists(data) == (*expected, raw_ids)


def random_events(seed, size):
    """Sessions over eleven days, with ties, duplicates and rare items."""
    rng = np.random.default_rng(seed)
    sessions = rng.integers(0, size // 4, size)
    items = (rng.pareto(0.8, size) * 3).astype(int) % 60 + 1000
    # In steps of 100 s, so that there are ties within a session and between starts.
    ms = sessions * (11 * DAY_MS // (size // 4)) + rng.integers(0, 60, size) * 100_000
    order = rng.permutation(size)
    return sessions[order], items[order], ms[order] // 100_000 * 100_000


DAY_MS = 86_400_000
FIRST_DAY = np.datetime64("2016-05-20")


def write_diginetica(folder, seed, size=1500):
    lines = ["sessionId;userId;itemId;timeframe;eventdate"]
    for s, i, ms in zip(*random_events(seed, size), strict=True):
        day = FIRST_DAY + ms // DAY_MS
        lines.append(f"{s};NA;{i};{ms % DAY_MS};{day}")
    path = folder / "train-item-views.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def write_yoochoose(folder, seed, size=1500):
    lines = []
    for s, i, ms in zip(*random_events(seed, size), strict=True):
        time = FIRST_DAY.astype("datetime64[ms]") + ms
        lines.append(f"{s},{time}Z,{i},0")
    path = folder / "yoochoose-clicks.dat"
    path.write_text("\n".join(lines) + "\n")
    return path


def write_otto(folder, seed, size=600):
    for number, name in enumerate(("train", "test")):
        sessions, items, ms = random_events(seed + 100 * number, size)
        kinds = np.random.default_rng(seed).choice(["clicks", "carts", "orders"], size)
        lines = []
        for s in dict.fromkeys(sessions.tolist()):
            rows = np.flatnonzero(sessions == s)
            found = [
                {"aid": int(items[r]), "ts": int(ms[r]), "type": str(kinds[r])}
                for r in rows
            ]
            lines.append(json.dumps({"session": s, "events": found}))
        path = folder / f"otto-recsys-{name}.jsonl"
        path.write_text("\n".join(lines) + "\n")
    return folder


WRITERS = {
    "diginetica": write_diginetica,
    "yoochoose": write_yoochoose,
    "otto": write_otto,
}


SMALL = small_sizes(text_bytes=3000, part_rows=100)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", PROGRAMS)
def test_agrees_with_the_reference(tmp_path, monkeypatch, name, seed):
    raw = WRITERS[name](tmp_path, seed)
    data = prepare(name, raw, tmp_path / "out")
    assert data.test.num_sessions > 5
    agrees(name, raw, data)
    monkeypatch.setattr(merging, "BUFFER", 5000)
    for on_disk in (False, True):
        sizes = small_sizes(text_bytes=3000, part_rows=100, on_disk=on_disk)
        in_parts = prepare(name, raw, tmp_path / f"in_parts_{on_disk}", sizes=sizes)
        assert in_parts.fingerprint == data.fingerprint
        for file in ("train.arrow", "test.arrow", "items.parquet", "stats.json"):
            one, other = ((d.path / file).read_bytes() for d in (data, in_parts))
            assert one == other


@pytest.mark.parametrize("name", PROGRAMS)
def test_agrees_on_real_slices(tmp_path, monkeypatch, capsys, name):
    folder = REAL / f"raw_{name}_{'sample' if name == 'otto' else 'slice'}"
    if not folder.is_dir():
        pytest.skip(f"no {folder.name} in ../shared/data")
    raw = folder if name == "otto" else next(folder.glob("*-*"))
    data = prepare(name, raw, tmp_path / "out")
    agrees(name, raw, data)
    captured = capsys.readouterr()
    assert f"Table 1, {name}" in captured.out
    if name == "otto":
        assert data.test.num_sessions == 0
        assert "52 carts, 10 orders" in captured.out
        assert "the test part is empty" in captured.err
    monkeypatch.setattr(merging, "BUFFER", 5000)
    in_parts = prepare(name, raw, tmp_path / "parts", sizes=SMALL)
    assert in_parts.fingerprint == data.fingerprint


def fingerprints_of(name, tmp_path, variants):
    found = {}
    for number, (label, content) in enumerate(variants.items()):
        path = tmp_path / f"variant{number}.csv"
        path.write_bytes(content)
        found[label] = prepare(name, path, tmp_path / f"out{number}").fingerprint
        agrees(name, path, open_prepared(tmp_path / f"out{number}"))
    return found


@pytest.mark.parametrize("name", ["diginetica", "yoochoose"])
def test_the_same_log_written_otherwise(tmp_path, name):
    plain = WRITERS[name](tmp_path, 7).read_bytes()
    variants = {
        "plain": plain,
        "windows": plain.replace(b"\n", b"\r\n"),
        "mark": b"\xef\xbb\xbf" + plain,
        "gzip": gzip.compress(plain),
        "gzip of two": gzip.compress(plain[:5000]) + gzip.compress(plain[5000:]),
        "no last line end": plain.removesuffix(b"\n"),
        "blank lines": plain.replace(b"\n", b"\n\n"),
    }
    if name == "diginetica":
        header = b"session_id;user_id;item_id;timeframe;eventdate"
        variants["header"] = plain.replace(plain.split(b"\n")[0], header)
    found = fingerprints_of(name, tmp_path, variants)
    assert set(found.values()) == {found["plain"]}, found


@pytest.mark.parametrize("where", ["first", "late"])
@pytest.mark.parametrize("name", ["diginetica", "yoochoose"])
def test_ids_that_are_no_numbers(tmp_path, name, where):
    path = WRITERS[name](tmp_path, 5)
    text = path.read_text()
    sign = ";" if name == "diginetica" else ","
    rare = f"{sign}1000{sign}"
    assert rare in text
    if where == "late":
        head, tail = text[:9000], text[9000:]
        text = head + tail.replace(rare, f"{sign}ä漢字{sign}")
    else:
        text = text.replace(rare, f"{sign}ä漢字{sign}")
    path.write_text(text)
    data = prepare(name, path, tmp_path / "out", sizes=small_sizes(text_bytes=3000))
    agrees(name, path, data)
    assert data.train.ids.type == "int64"
    assert "ä漢字" in as_lists(data)[2]


def test_several_dates_in_one_session_and_the_border(tmp_path):
    # The latest session starts on 06-01: test is what starts from 05-25 on, midnight
    # included; session 2 starts before and ends after, session 3 at midnight.
    rows = ["1;NA;1;5;2016-05-01", "1;NA;2;4;2016-05-01", "2;NA;1;86399999;2016-05-24"]
    rows += ["2;NA;2;0;2016-05-26", "3;NA;2;0;2016-05-25", "3;NA;1;7;2016-05-27"]
    rows += ["4;NA;1;86399999;2016-06-01", "4;NA;1;86399999;2016-06-01"]
    rows += ["4;NA;2;3;2016-06-02"] + [f"{s};NA;{i};0;2016-05-02" for s in (5, 6, 7)
                                      for i in (1, 2)]  # fmt: skip
    path = tmp_path / "views.csv"
    path.write_text(
        "session_id;user_id;item_id;timeframe;eventdate\n" + "\n".join(rows)
    )
    data = prepare("diginetica", path, tmp_path / "out")
    agrees("diginetica", path, data)
    assert data.train.ids.to_pylist() == [1, 5, 6, 7, 2]
    assert data.test.ids.to_pylist() == [3, 4]
    assert data.test.items.tolist() == [1, 2, 2, 2, 1]
    assert data.stats["split"]["days"] == 7


def test_yoochoose_sessions_that_straddle_the_split(tmp_path):
    # The latest start is 04-08T10:00: test is what ends at 04-07T10:00 or later.
    clicks = {
        "a": ["04-06T09:00:00.000", "04-07T09:59:59.999"],
        "b": ["04-06T09:00:00.000", "04-07T10:00:00.000"],
        "c": ["04-08T10:00:00.000", "04-09T23:00:00.000"],
    }
    clicks |= {f"d{n}": ["04-02T00:00:00.000"] * 2 for n in range(4)}
    lines = [
        f"{s},2014-{t}Z,{i},S"
        for s, times in clicks.items()
        for i, t in enumerate(times)
    ]
    path = tmp_path / "clicks.dat"
    path.write_text("\n".join(lines))
    data = prepare("yoochoose", path, tmp_path / "out")
    agrees("yoochoose", path, data)
    assert data.train.ids.to_pylist() == ["d0", "d1", "d2", "d3", "a"]
    assert data.test.ids.to_pylist() == ["b", "c"]


def otto_line(session, *events):
    found = [{"aid": a, "ts": t, "type": k} for a, t, k in events]
    return json.dumps({"session": session, "events": found})


def test_otto_sessions_left_with_few_clicks(tmp_path, capsys):
    lines = [
        otto_line(1, (7, 5, "clicks"), (8, 6, "carts"), (8, 3, "clicks")),
        otto_line(2, (7, 5, "clicks"), (8, 6, "carts")),
        otto_line(3, (7, 5, "orders")),
        otto_line(4),
        otto_line(5, (9, 5, "clicks"), (7, 5, "clicks"), (9, 5, "views")),
    ]
    (tmp_path / "otto-recsys-train.jsonl").write_text("\r\n".join(lines))
    test = [otto_line(6, (9, 8, "clicks"), (1, 8, "clicks"), (8, 9, "clicks"))]
    (tmp_path / "otto-recsys-test.jsonl.gz").write_bytes(
        gzip.compress("\n".join(test).encode())
    )
    data = prepare("otto", tmp_path, tmp_path / "out")
    assert as_lists(data) == (
        [(1, [1, 2], 0.003), (5, [3, 2], 0.005)],
        [(6, [3, 1], 0.008)],
        [8, 7, 9],
    )
    captured = capsys.readouterr()
    assert "5 sessions, 1 without events, 1 more without clicks" in captured.out
    assert "2 carts, 1 orders, 1 views" in captured.out
    assert "sessions of one click left out: 1" in captured.out
    assert "events of unknown type left out: 1 'views'" in captured.err


def test_a_log_that_any_program_reads_gives_the_same_set(tmp_path, monkeypatch):
    """Yoochoose's rows with a header, through ``data_prep.events``, in parts too."""
    path = write_yoochoose(tmp_path, 3)
    data = prepare("yoochoose", path, tmp_path / "out")
    other = tmp_path / "log.csv"
    other.write_text("session,time,item,category\n" + path.read_text())
    late = data.test.num_sessions + data.train.num_sessions
    argv = ["events", f"--train={other}", f"--out={tmp_path / 'events'}"]
    argv += ["--session=session", "--item=item", "--time=time", "--test_days=1"]
    assert run(events.main, events.define_flags(), argv) == 0
    same = open_prepared(tmp_path / "events")
    assert same.train.num_sessions + same.test.num_sessions <= late
    shutil.rmtree(tmp_path / "events")
    monkeypatch.setattr(merging, "BUFFER", 5000)
    main = functools.partial(events.main, sizes=SMALL)
    assert run(main, events.define_flags(), argv) == 0
    assert open_prepared(tmp_path / "events").fingerprint == same.fingerprint
