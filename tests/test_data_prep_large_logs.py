"""``data_prep.events`` reading in batches and parts: the same set as in memory."""

import functools
import threading

import pyarrow as pa
import pytest
from log_sizes import small_sizes
from test_data_prep_bad_input import GOOD
from test_data_prep_events import (
    COLUMNS,
    as_lists,
    prepare,
    random_rows,
    write_csv,
    write_formats,
)

from data_prep import events
from data_prep.pipeline import merging
from tron_jax.console.program import run

SMALL = small_sizes(text_bytes=2000, parquet_rows=70, part_rows=100)


@pytest.fixture
def prepare_large(monkeypatch):
    """Prepares a log as if it were large, blocks and parts being small."""

    def call(out, *args):
        with monkeypatch.context() as patch:
            patch.setattr(merging, "BUFFER", 5000)
            return prepare(out, *args, sizes=SMALL)

    return call


# In seconds, what are milliseconds of 1970 would be of 1990.
@pytest.mark.parametrize("split", [[], ["--test_days=0.5", "--allow_odd_times"]])
def test_every_format(tmp_path, prepare_large, split):
    rows = random_rows(9, order=True)
    names = write_formats(tmp_path / "logs", rows)

    def of(name, out, prepare=prepare):
        args = [f"--train={tmp_path / 'logs' / name}", "--time=time", "--order=pos"]
        args += ["--time_unit=ms"] if name == "milli.csv" else []
        args += ["--min_item_support=2", *split]
        return prepare(tmp_path / out, *COLUMNS, *args)

    small = of("log.csv", "small")
    for name in names:
        data = of(name, f"large.{name}", prepare_large)
        assert data.fingerprint == small.fingerprint
        assert data.stats["filters"] == small.stats["filters"]
        assert sorted(p.name for p in data.path.iterdir()) == sorted(
            p.name for p in small.path.iterdir()
        )


def test_given_test_part_without_times(tmp_path, prepare_large):
    logs = [random_rows(seed, times=False, size=600) for seed in (1, 51)]
    paths = [write_csv(tmp_path / f"{i}.csv", rows) for i, rows in enumerate(logs)]
    args = [f"--train={paths[0]}", f"--test={paths[1]}", *COLUMNS]
    small = prepare(tmp_path / "small", *args)
    data = prepare_large(tmp_path / "large", *args)
    assert data.test.num_sessions > 2
    assert as_lists(data) == as_lists(small)
    assert data.fingerprint == small.fingerprint


def test_numbers_in_one_part_and_text_in_the_other(tmp_path, prepare_large):
    table = pa.table({"session": [1, 1, 2, 2], "item": [10, 11, 11, 10]})
    pa.parquet.write_table(table, tmp_path / "a.parquet")
    (tmp_path / "b.csv").write_text("session,item\nx,11\nx,b\nx,10\n")
    args = [f"--train={tmp_path}/a.parquet", f"--test={tmp_path}/b.csv"]
    data = prepare_large(tmp_path / "out", *COLUMNS, *args, "--min_item_support=1")
    train, test, raw_ids = as_lists(data)
    assert train == [(1, [1, 2], None), (2, [2, 1], None)]
    assert test == [("x", [2, 1], None)]
    assert raw_ids == ["10", "11"]


def test_json_whose_first_block_has_no_fractions(tmp_path, prepare_large):
    lines = [
        f'{{"session": {i // 3}, "item": {i % 3}, "time": {i}}}' for i in range(99)
    ]
    lines.append('{"time": 99.5, "item": 1, "session": 7}')
    (tmp_path / "log.jsonl").write_text("\n".join(lines))
    args = [f"--train={tmp_path}/log.jsonl", *COLUMNS, "--time=time"]
    small = prepare(tmp_path / "small", *args)
    large = prepare_large(tmp_path / "large", *args)
    assert large.fingerprint == small.fingerprint


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("log.csv", GOOD * 100 + "1,2\n", "row"),
        ("log.csv", GOOD + "1,2,x\n" * 1000, "column 'time'"),
        ("log.csv", GOOD + "1,2,-5\n", "row 32"),
        ("log.csv", "session,item,time\n", "no rows"),
        ("log.csv", "session:item:time\n1:2:3\n", "no column 'session'"),
        ("log.jsonl", '{"session": 1, "item": 2, "time": 3}\n[1]\n', "row 2"),
        ("log.jsonl", '{"session": 1, "time": 3}\n', "no column 'item'"),
        ("log.parquet", "no parquet at all", "Parquet"),
    ],
)
def test_bad_logs(tmp_path, capsys, name, content, expected):
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / name).write_text(content)
    argv = ["events", f"--train={logs / name}", f"--out={tmp_path}/made/out"]
    argv += [*COLUMNS, "--time=time"]
    main = functools.partial(events.main, sizes=SMALL)
    threads = threading.active_count()
    assert run(main, events.define_flags(), argv) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(f"error: {logs / name}: ")
    assert expected in lines[0]
    assert threading.active_count() == threads
    assert [p.name for p in tmp_path.iterdir()] == ["logs"]
