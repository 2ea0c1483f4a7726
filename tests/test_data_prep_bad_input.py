"""A mistake gives one clear line and a non-zero exit, and leaves nothing behind."""

import os
import resource
import signal
import subprocess
import sys
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_prep import events, synthetic
from tron_jax.console.program import run

# A child process ignores what its parent does, as under `sh -c "trap '' INT; …"`.
RESTORE_SIGINT = "import signal, sys;"
RESTORE_SIGINT += "signal.signal(signal.SIGINT, signal.default_int_handler);"
GOOD = "session,item,time\n" + "".join(f"{i // 3},{i % 3},{i}\n" for i in range(30))


@pytest.fixture
def logs(tmp_path):
    folder = tmp_path / "logs"
    folder.mkdir()
    (folder / "good.csv").write_text(GOOD)
    return folder


def refused(capsys, folder, program, *args):
    """Runs a program that must fail; returns its one line."""
    status = run(program.main, program.define_flags(), ["program", *map(str, args)])
    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    assert status == 1
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: ")
    assert sorted(p.name for p in folder.parent.iterdir()) == [folder.name]
    return lines[0]


def refused_log(
    capsys, logs, name, content, *args, columns=("session", "item", "time")
):
    """Prepares a bad log; returns the one line."""
    path = logs / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        path.write_text(content)
    flags = [f"--{c}={c}" for c in columns]
    out = logs.parent / "made" / "out"
    line = refused(
        capsys, logs, events, f"--train={path}", f"--out={out}", *flags, *args
    )
    assert name in line
    return line


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, ["no such file"]),
        ("", ["the file is empty"]),
        ("session,item,time\n", ["no rows"]),
        ("session:item:time\n1:2:3\n", ["no column 'session' (--session)", "it has"]),
        (
            "session,product,time\n1,2,3\n",
            ["'item' (--item)", "session, product, time"],
        ),
        ("session,item,item,time\n1,2,2,3\n", ["more than one column 'item'"]),
        (GOOD + "1,2\n", ["row 32", "columns"]),
        ("session,item,time\n1,2\n1,2,3\n", ["row 2", "columns"]),
        (GOOD + "1,2,x\n", ["row 32", "column 'time'", "'x' is no time"]),
        (GOOD + "1,2,-5\n", ["row 32", "column 'time'", "-5.0 is before 1970"]),
        (GOOD + "1,2,inf\n", ["row 32", "column 'time'", "inf is not finite"]),
        (GOOD + "1,2,nan\n", ["row 32", "column 'time'", "empty"]),
        (GOOD + "1,2,1.4e12\n", ["row 32", "year 9999", "--time_unit=ms"]),
        (GOOD + "1,2,1.4e15\n", ["row 32", "year 9999 (microseconds? --time_unit=us"]),
        (GOOD + ",2,3\n", ["row 32", "column 'session'", "empty"]),
        (GOOD + "1,,3\n", ["row 32", "column 'item'", "empty"]),
        (GOOD.encode() + b"1,\xff,3\n", ["row 32", "column 'item'"]),
        (
            'session,item,time,note\n1,2,3,\n1,2,3,"a\nb"\n1,2,4,\n',
            ["row 3: expected one row a line; a quote is open or holds a line break"],
        ),
        (GOOD.replace("\n", "\r"), ["row 1: a bare CR"]),
        (f"session,item,time,{'x' * 200_000}\n", ["row 1: no header of a CSV file"]),
        (
            "session,item,time\n1,1,2014-04-07T10:51:09Z\n1,2,1969-04-07T10:51:09Z\n",
            ["row 3", "column 'time'", "before 1970"],
        ),
        (
            "session,item,time\n1,1,2014-04-07T10:51:09Z\n1,2,2014-13-07T10:51:09Z\n",
            ["row 3", "column 'time'", "2014-13-07"],
        ),
    ],
)
def test_bad_csv(capsys, logs, content, expected):
    line = refused_log(capsys, logs, "log.csv", content)
    for part in expected:
        assert part in line


def test_bad_csv_beyond_the_first_block(capsys, logs):
    many = "session,item,time\n" + "".join(f"{i},{i},{i}\n" for i in range(100_000))
    line = refused_log(capsys, logs, "log.csv", many + "1,2,x\n")
    assert "row 100002" in line
    assert "column 'time'" in line
    assert "'x'" in line
    line = refused_log(capsys, logs, "log.csv", many + "1,2,3,4\n")
    assert "row 100002: " in line


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", ["the file is empty"]),
        (" \n\n", ["no rows"]),
        ("null\n", ["row 1: expected a JSON object"]),
        ('{"session": 1, "item": 2, "time": 3}\n{"session": 1\n', ["row 2: not JSON"]),
        (
            '{"session": 1, "item": 2, "time": 3}\n[1]\n',
            ["row 2: expected a JSON object"],
        ),
        ('{"session": 1, "thing": 2}\n', ["no column 'item'", "session, thing"]),
        (
            '{"session": 1, "item": 2, "time": 3}\n{"session": 1, "time": 4}\n',
            ["row 2", "column 'item'", "empty"],
        ),
        (
            '{"session": 1, "item": [2], "time": 3}\n',
            ["column 'item'", "cannot be an id"],
        ),
        (
            '{"session": 1, "item": 2, "time": true}\n',
            ["column 'time'", "bool is no time"],
        ),
    ],
)
def test_bad_json_lines(capsys, logs, content, expected):
    line = refused_log(capsys, logs, "log.jsonl", content)
    for part in expected:
        assert part in line


def test_bad_parquet(capsys, logs):
    assert "Parquet" in refused_log(capsys, logs, "log.parquet", "no parquet at all")
    (logs / "folder").mkdir()
    assert "no Parquet file" in refused_log(capsys, logs, "folder", None)
    table = pa.table({"session": [1, 1], "item": [1.5, 2.0], "time": [1, 2]})
    pq.write_table(table, logs / "half.parquet")
    assert "whole numbers" in refused_log(capsys, logs, "half.parquet", None)
    coarse = table.set_column(2, "time", pa.array([1, 2], pa.float32()))
    pq.write_table(coarse.set_column(1, "item", [[1, 2]]), logs / "coarse.parquet")
    assert "too coarse" in refused_log(capsys, logs, "coarse.parquet", None)
    broken = (logs / "half.parquet").read_bytes()
    assert "Parquet" in refused_log(capsys, logs, "cut.parquet", broken[:-20])


def test_unknown_format(capsys, logs):
    line = refused_log(capsys, logs, "log.xls", GOOD)
    assert "unknown format" in line
    assert ".parquet" in line


@pytest.mark.parametrize("name", ["log.csv", "log.jsonl", "log.parquet"])
def test_what_cannot_be_read_twice(capsys, logs, name):
    os.mkfifo(logs / name)
    assert "a pipe or a device" in refused_log(capsys, logs, name, None)


def test_too_little_is_left(capsys, logs):
    def flags(name):
        return [f"--train={logs / name}", f"--out={logs.parent / 'out'}", "--item=item"]

    (logs / "single.csv").write_text("session,item\n1,1\n2,1\n3,1\n")
    args = [*flags("single.csv"), "--session=session"]
    assert "no session of 2 events is left" in refused(capsys, logs, events, *args)
    rows = "".join(f"{n // 3},{n % 2},{1_700_000_000 + n}\n" for n in range(30))
    (logs / "day.csv").write_text("session,item,time\n" + rows)
    args = [*flags("day.csv"), "--session=session", "--time=time", "--test_days=30"]
    line = refused(capsys, logs, events, *args)
    split = "the split by date (--test_days=30) makes all sessions test"
    assert f"no session of 2 events is left to train on: {split} (read: " in line
    # Where the filters leave nothing, the split is not to blame.
    line = refused(capsys, logs, events, *args, "--min_item_support=99")
    assert "no session of 2 events is left to train on (read: " in line
    (logs / "one.csv").write_text("session,item\n" + "1,1\n" * 10)
    args = [*flags("one.csv"), "--session=session"]
    assert "a catalogue of 1 items" in refused(capsys, logs, events, *args)


def test_bad_flags(capsys, logs):
    def line(*args):
        flags = ["--session=session", "--item=item", f"--train={logs}/good.csv"]
        flags.append(f"--out={logs.parent / 'out'}")
        return refused(capsys, logs, events, *flags, *args)

    both = line(f"--test={logs}/good.csv", "--test_days=1", "--time=time")
    assert "--test and --test_days" in both
    assert "--test_days needs --time" in line("--test_days=1")
    for days in ("-1", "0", "nan", "inf", "1e300"):
        assert "--test_days=" in line(f"--test_days={days}", "--time=time")
    assert "min_item_suport" in line("--min_item_suport=1")
    assert "min_item_support=x" in line("--min_item_support=x")
    assert "min_session_length=1" in line("--min_session_length=1")
    assert "time_unit" in line("--time_unit=h")
    assert "unexpected argument 'more'" in line("more")
    assert "--train" in refused(capsys, logs, events, "--out=x")
    assert "no column 'pos' (--order)" in line("--order=pos")
    assert "profile" in refused(capsys, logs, synthetic, "--profile=x", "--out=x")
    args = ["--profile=otto", f"--out={logs.parent}/out", "--num_items=1"]
    assert "num_items=1" in refused(capsys, logs, synthetic, *args)


def test_what_exists_is_never_overwritten(capsys, logs):
    args = ["--session=session", "--item=item", f"--train={logs}/good.csv"]
    for out in (logs, logs / "good.csv"):
        assert "exists and is" in refused(capsys, logs, events, *args, f"--out={out}")
    assert (logs / "good.csv").read_text() == GOOD
    empty = logs / "empty"
    empty.mkdir()
    program = ["events", *args, f"--out={empty}", "--min_item_support=1"]
    assert run(events.main, events.define_flags(), program) == 0
    assert len(list(empty.iterdir())) == 4


@pytest.mark.parametrize("limit", [20_000, 150_000])
@pytest.mark.parametrize("program", [events, synthetic])
def test_disk_full(capsys, logs, program, limit):
    out = logs.parent / "new" / "out"
    if program is events:
        rows = "".join(f"{i // 10},x{i * i}\n" for i in range(15_000))
        (logs / "big.csv").write_text("session,item\n" + rows)
        args = ["--session=session", "--item=item", f"--train={logs / 'big.csv'}"]
        args.append("--min_item_support=1")
    else:
        args = ["--profile=diginetica", "--num_sessions=5000", "--num_items=60000"]
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        line = refused(capsys, logs, program, *args, f"--out={out}")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert str(out) in line
    assert "File too large" in line


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_stopping_leaves_nothing(tmp_path, signum):
    out = tmp_path / "made" / "out"
    code = RESTORE_SIGINT + "from data_prep import synthetic as s;"
    code += "from tron_jax.console.program import run;"
    code += "sys.exit(run(s.main, s.define_flags()))"
    command = [sys.executable, "-c", code, "--profile=otto"]
    with subprocess.Popen(
        [*command, f"--out={out}"], stderr=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        deadline = time.monotonic() + 60
        while not list(tmp_path.rglob("train.items.flat")):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        os.kill(process.pid, signum)
        stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 128 + signum
    assert stdout == b""
    assert stderr in (b"error: terminated\n", b"error: interrupted\n")
    assert list(tmp_path.iterdir()) == []


def test_as_a_program(tmp_path):
    command = [sys.executable, "-m", "data_prep.events", "--train=absent.csv"]
    command += ["--session=a", "--item=b", "--out=out"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr == "error: absent.csv: no such file or folder\n"
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_a_bad_value_names_the_row_of_the_file(capsys, logs):
    """Far behind pyarrow's first block, whose rows it counts anew."""
    rows = [
        f'{{"session": {i // 3}, "item": {i % 5}, "time": {i}}}' for i in range(90_000)
    ]
    rows[60_000] = '{"session": 20000, "item": 5.5, "time": 60000}'
    line = refused_log(capsys, logs, "log.jsonl", "\n".join(rows) + "\n")
    assert "row 60001, column 'item': 5.5: ids must be whole numbers" in line
