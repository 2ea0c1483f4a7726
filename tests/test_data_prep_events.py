"""The preparation of anybody's log, against a slow reference and on real data."""

import csv
import functools
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import reference_preparation

from data_prep import events
from data_prep.programs.log_program import LOG_SIZES
from tron_jax.console.program import run
from tron_jax.data.sessions import open_prepared

REAL = Path(__file__).parents[1] / ".." / "shared" / "data"
COLUMNS = ["--session=session", "--item=item"]


def prepare(out, *args, sizes=LOG_SIZES):
    main = functools.partial(events.main, sizes=sizes)
    assert run(main, events.define_flags(), ["events", f"--out={out}", *args]) == 0
    return open_prepared(out)


def write_csv(path, rows, time="time"):
    names = ["session", "item", time, "pos"]
    used = [i for i in range(4) if rows[0][i] is not None]
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([names[i] for i in used])
        writer.writerows([row[i] for i in used] for row in rows)
    return path


def random_rows(seed, *, times=True, order=False, size=400):
    rng = np.random.default_rng(seed)
    sessions = rng.integers(0, size // 4, size)
    items = (rng.pareto(0.8, size) * 3).astype(int) % 60
    clock = rng.integers(1000, 1000 + size // 3, size) * 600 + sessions * 60
    pos = rng.integers(0, 5, size)
    return [
        (
            int(s),
            f"i{i}",
            int(t) if times else None,
            int(p) if order else None,
        )
        for s, i, t, p in zip(sessions, items, clock, pos, strict=True)
    ]


def as_lists(data):
    parts = []
    for part in (data.train, data.test):
        items = np.split(part.items, part.offsets[1:-1])
        items = [x.tolist() for x in items[: part.num_sessions]]
        starts = [
            None if t is None else t.timestamp() for t in part.start_time.to_pylist()
        ]
        parts.append(list(zip(part.ids.to_pylist(), items, starts, strict=True)))
    raw_ids = pq.read_table(data.path / "items.parquet")["raw_id"].to_pylist()
    return *parts, raw_ids


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("times", "order"), [(True, False), (True, True), (False, True), (False, False)]
)
def test_agrees_with_the_reference(tmp_path, seed, times, order):
    rows = random_rows(seed, times=times, order=order)
    path = write_csv(tmp_path / "log.csv", rows)
    args = ["--min_item_support=3", f"--min_session_length={2 + seed % 2}"]
    args += ["--time=time"] if times else []
    args += ["--order=pos"] if order else []
    data = prepare(tmp_path / "out", f"--train={path}", *COLUMNS, *args)
    expected = reference_preparation.prepare(
        rows, min_length=2 + seed % 2, min_support=3
    )
    assert as_lists(data) == expected


@pytest.mark.parametrize("seed", range(4))
def test_temporal_split_agrees_with_the_reference(tmp_path, seed):
    rows = random_rows(seed, size=600)
    path = write_csv(tmp_path / "log.csv", rows)
    args = [f"--train={path}", "--time=time", "--test_days=0.25"]
    data = prepare(tmp_path / "out", *COLUMNS, *args)
    assert data.test.num_sessions > 2
    assert as_lists(data) == reference_preparation.prepare(rows, test_days=0.25)


@pytest.mark.parametrize("seed", range(4))
def test_given_split_agrees_with_the_reference(tmp_path, seed):
    train, test = random_rows(seed, size=600), random_rows(seed + 50, size=200)
    paths = [write_csv(tmp_path / f"{i}.csv", r) for i, r in enumerate((train, test))]
    args = [f"--train={paths[0]}", f"--test={paths[1]}", "--time=time"]
    data = prepare(tmp_path / "out", *COLUMNS, *args)
    assert data.test.num_sessions > 2
    assert as_lists(data) == reference_preparation.prepare(train, test)


def test_test_starts_and_cutoff_are_inclusive(tmp_path):
    # The cut-off is 100_000 - 86_400 = 13_600; session b ends there, session a before.
    rows = [("a", 1, 0), ("a", 2, 13_599), ("b", 1, 5), ("b", 2, 13_600)]
    rows += [("c", 2, 99_999), ("c", 1, 100_000)]
    path = write_csv(tmp_path / "log.csv", [(*row, None) for row in rows])
    args = [f"--train={path}", "--time=time", "--test_days=1", "--min_item_support=1"]
    train, test, _ = as_lists(prepare(tmp_path / "out", *COLUMNS, *args))
    assert train == [("a", [1, 2], 0.0)]
    assert test == [("b", [1, 2], 5.0), ("c", [2, 1], 99_999.0)]


def write_formats(folder, rows):
    """The same log in every format, times as numbers or as timestamps."""
    names = ("session", "item", "time", "pos")
    columns = dict(zip(names, zip(*rows, strict=True), strict=True))
    table = pa.table(columns)
    stamps = table.set_column(2, "time", table["time"].cast(pa.timestamp("s", "UTC")))
    iso = [t.strftime("%Y-%m-%dT%H:%M:%SZ") for t in stamps["time"].to_pylist()]
    coded = stamps.set_column(1, "item", table["item"].dictionary_encode())
    objects = [dict(zip(names, row, strict=True)) for row in rows]
    folder.mkdir()
    write_csv(folder / "log.csv", rows)
    write_csv(
        folder / "iso.csv", [(*r[:2], t, r[3]) for r, t in zip(rows, iso, strict=True)]
    )
    milli = [(*r[:2], r[2] * 1000, r[3]) for r in rows]
    write_csv(folder / "milli.csv", milli)
    text = (folder / "log.csv").read_text()
    (folder / "log.tsv").write_text("\ufeff" + text.replace(",", "\t"))
    with pa.CompressedOutputStream(str(folder / "windows.csv.gz"), "gzip") as file:
        file.write(text.replace("\n", "\r\n").encode())
    lines = "".join(json.dumps(o) + "\n" for o in objects)
    (folder / "log.jsonl").write_text(lines)
    pq.write_table(table, folder / "log.parquet")
    pq.write_table(coded, folder / "coded.parquet")
    many = folder / "many"
    for part, start in enumerate(range(0, len(rows), 100)):
        day = many / f"day={part}"
        day.mkdir(parents=True)
        pq.write_table(stamps.slice(start, 100), day / "part-0.snappy.parquet")
    (many / "_SUCCESS").touch()
    return ["log.csv", "iso.csv", "milli.csv", "log.tsv", "windows.csv.gz", "log.jsonl",
            "log.parquet", "coded.parquet", "many"]  # fmt: skip


def test_every_format_gives_the_same_set(tmp_path):
    rows = random_rows(9, order=True)
    names = write_formats(tmp_path / "logs", rows)
    found = {}
    for name in names:
        args = [f"--train={tmp_path / 'logs' / name}", "--time=time", "--order=pos"]
        args += ["--time_unit=ms"] if name == "milli.csv" else []
        data = prepare(tmp_path / name, *COLUMNS, *args, "--min_item_support=2")
        found[name] = data.fingerprint
        assert all(tmp_path.name not in s["file"] for s in data.stats["sources"])
    assert len(found) == 9
    assert len(set(found.values())) == 1
    # Other content has another name.
    other = write_csv(tmp_path / "o.csv", [(*r[:2], r[2] + 1, r[3]) for r in rows])
    args = [f"--train={other}", "--time=time", "--order=pos", "--min_item_support=2"]
    assert prepare(tmp_path / "o", *COLUMNS, *args).fingerprint not in found.values()


def test_ids_stay_as_they_are_written(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("session,item\n007,ä b\n007,2\n7,2\n7,ä b\n")
    args = [f"--train={path}", "--min_item_support=1"]
    data = prepare(tmp_path / "out", *COLUMNS, *args)
    train, test, raw_ids = as_lists(data)
    assert train == [("007", [1, 2], None), ("7", [2, 1], None)]
    assert (test, raw_ids) == ([], ["ä b", "2"])


def test_numbers_in_one_part_and_strings_in_the_other_are_the_same_items(tmp_path):
    (tmp_path / "a.csv").write_text("session,item\n1,10\n1,11\n")
    (tmp_path / "b.csv").write_text("session,item\nx,11\nx,b\nx,10\n")
    args = [f"--train={tmp_path}/a.csv", f"--test={tmp_path}/b.csv"]
    data = prepare(tmp_path / "out", *COLUMNS, *args, "--min_item_support=1")
    train, test, raw_ids = as_lists(data)
    assert train == [(1, [1, 2], None)]
    assert test == [("x", [2, 1], None)]
    assert raw_ids == ["10", "11"]


def test_fractions_may_begin_late_and_keep_their_order(tmp_path):
    lines = ["session,item,time"]
    lines += [f"{i // 2},{i % 2},1396860669" for i in range(100_000)]
    lines += ["x,1,1396860669.2775", "x,0,1396860669.277"]
    path = tmp_path / "log.csv"
    path.write_text("\n".join(lines))
    data = prepare(tmp_path / "out", f"--train={path}", *COLUMNS, "--time=time")
    assert data.train.ids[-1].as_py() == "x"
    assert data.train.items[-2:].tolist() == [1, 2]
    assert data.train.start_time[-1].as_py().microsecond == 277_000


def test_empty_test_part_is_written_with_a_warning(tmp_path, capsys):
    path = write_csv(tmp_path / "log.csv", random_rows(0))
    data = prepare(tmp_path / "out", f"--train={path}", *COLUMNS, "--time=time")
    assert data.test.num_sessions == data.test.num_events == 0
    captured = capsys.readouterr()
    assert "the test part is empty" in captured.err
    assert f"{data.train.num_sessions:,}" in captured.out
    assert data.stats["split"] == {"kind": "none"}


def test_test_file_without_rows(tmp_path, capsys):
    path = write_csv(tmp_path / "log.csv", random_rows(0, order=True))
    (tmp_path / "test.csv").write_text("session,item,time,pos\n")
    args = [f"--train={path}", f"--test={tmp_path}/test.csv", "--time=time"]
    data = prepare(tmp_path / "out", *COLUMNS, *args, "--order=pos")
    assert data.test.num_sessions == 0
    assert "the test part is empty" in capsys.readouterr().err


def real(name):
    if not (REAL / name).is_dir():
        pytest.skip(f"no {name} in ../shared/data")
    return REAL / name


def counts(data):
    train, test = data.train, data.test
    return train.num_sessions, train.num_events, test.num_sessions, test.num_events


def test_real_diginetica(tmp_path):
    folder = real("diginetica")
    data = prepare(
        tmp_path / "out",
        f"--train={folder}/train.csv",
        f"--test={folder}/test.csv",
        "--session=session_id",
        "--item=item_id",
        "--time=timestamp",
        "--order=pos",
        "--min_item_support=1",
    )
    assert counts(data) == (186_670, 906_140, 15_963, 76_821)
    assert data.num_items == 43_097
    # The file is in order and its items are numbered by first appearance.
    raw = pa.csv.read_csv(folder / "train.csv")
    np.testing.assert_array_equal(data.train.items, raw["item_id"])
    np.testing.assert_array_equal(data.train.ids, np.unique(raw["session_id"]))


def test_real_yoochoose(tmp_path):
    folder = real("yoochoose1_64")
    columns = ["--session=session_id", "--item=item_id", "--min_item_support=1"]
    parts = [f"--train={folder}/train.csv", f"--test={folder}/test.csv"]
    data = prepare(tmp_path / "64", *parts, *columns, "--order=pos")
    assert counts(data) == (116_167, 486_026, 15_233, 70_633)
    assert data.num_items == 17_376

    folder = real("yoochoose_100k")
    columns.append("--time=timestamp")
    parts = [f"--train={folder}/train_full.csv", f"--test={folder}/test.csv"]
    data = prepare(tmp_path / "100k", *parts, *columns)
    assert counts(data) == (17_794, 70_278, 3_416, 13_568)

    # Its makers held out the last day too, by the same rule.
    data = prepare(tmp_path / "split", parts[0], *columns, "--test_days=1")
    for part, name in ((data.train, "train_tr"), (data.test, "train_valid")):
        made = pa.csv.read_csv(folder / f"{name}.csv")
        assert part.num_events == made.num_rows
        assert set(part.ids.to_pylist()) == set(made["session_id"].to_pylist())


@pytest.mark.parametrize("kind", [pa.int32(), pa.uint32(), pa.int64()])
def test_whole_seconds_of_any_width(tmp_path, kind):
    times = [1396860669, 1396860670, 1396947069, 1396947070]
    table = {
        "session": [2, 2, 1, 1],
        "item": [7, 8, 8, 7],
        "time": pa.array(times, kind),
    }
    pq.write_table(pa.table(table), tmp_path / "log.parquet")
    flags = ("--session=session", "--item=item", "--time=time", "--min_item_support=1")
    log = f"--train={tmp_path / 'log.parquet'}"
    sessions = prepare(tmp_path / "out", log, *flags).train
    assert sessions.ids.to_pylist() == [2, 1]
    starts = [start.timestamp() for start in sessions.start_time.to_pylist()]
    assert starts == [times[0], times[2]]
