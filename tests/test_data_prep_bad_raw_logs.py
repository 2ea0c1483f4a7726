"""What can be wrong with Diginetica's, Yoochoose's and OTTO's files: one line each."""

import functools
import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import pyarrow as pa
import pytest
from log_sizes import small_sizes
from test_data_prep_bad_input import RESTORE_SIGINT

from data_prep import diginetica, events, otto, synthetic, yoochoose
from data_prep.pipeline import parts
from tron_jax.console.program import run
from tron_jax.data.sessions import open_prepared

PROGRAMS = {"diginetica": diginetica, "yoochoose": yoochoose, "otto": otto}
HEADER = "sessionId;userId;itemId;timeframe;eventdate\n"
DIGINETICA = [f"{i // 3};NA;{i % 3};{i};2016-05-{i // 3 + 1:02}\n" for i in range(60)]
YOOCHOOSE = [
    f"{i // 3},2014-04-{i // 3 + 1:02}T10:51:{i:02}.277Z,{i % 3},0\n" for i in range(60)
]
EVENTS = [{"aid": i, "ts": 1659304800025 + i, "type": "clicks"} for i in range(3)]
OTTO = [json.dumps({"session": s, "events": EVENTS}) + "\n" for s in range(20)]
LINES = {"diginetica": [HEADER, *DIGINETICA], "yoochoose": YOOCHOOSE, "otto": OTTO}


def status_of(name, folder, out, *args):
    """Prepares a log in small blocks."""
    program = PROGRAMS[name]
    raw = folder if name == "otto" else folder / f"{name}.txt"
    argv = [name, f"--raw={raw}", f"--out={out}", *args]
    main = functools.partial(program.main, sizes=small_sizes(text_bytes=300))
    return run(main, program.define_flags(), argv)


def write(tmp_path, name, content):
    folder = tmp_path / "logs"
    folder.mkdir(exist_ok=True)
    if isinstance(content, list):
        content = "".join(content)
    if isinstance(content, str):
        content = content.encode()
    if name == "otto":
        (folder / "otto-recsys-train.jsonl").write_bytes(content)
        (folder / "otto-recsys-test.jsonl").write_text("".join(OTTO))
    else:
        (folder / f"{name}.txt").write_bytes(content)
    return folder


def refused(capsys, tmp_path, name, content, *args):
    """Prepares a bad log; returns the one line."""
    folder = write(tmp_path, name, content)
    assert status_of(name, folder, tmp_path / "made" / "out", *args) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith(f"error: {folder}")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["logs"]
    return lines[0]


BAD_ROWS = [
    ("diginetica", "1;NA;2;3\n", "5 columns expected, 4 found"),
    ("diginetica", "1;NA;2;3;2016-05-09;x\n", "5 columns expected, 6 found"),
    ("diginetica", "1;NA;2;x;2016-05-09\n", "timeframe 'x' is no number"),
    ("diginetica", "1;NA;2;;2016-05-09\n", "timeframe '' is no number"),
    ("diginetica", "1;NA;2;-3;2016-05-09\n", "timeframe -3 out of range"),
    ("diginetica", "1;NA;2;3;2016-13-09\n", "eventdate '2016-13-09' is no date"),
    ("diginetica", "1;NA;2;3;1969-05-09\n", "time out of range, before 1970"),
    (
        "diginetica",
        f"1;NA;2;{10**18};2016-05-09\n",
        "out of range, after the year 9999",
    ),
    ("diginetica", ";NA;2;3;2016-05-09\n", "an empty id"),
    ("diginetica", '1;NA;"2;3;2016-05-09\n', "5 columns expected, 3 found"),
    ("diginetica", HEADER, "eventdate 'eventdate' is no date"),
    ("diginetica", b"1;NA;\xff2;3;2016-05-09\n", "invalid UTF-8 at byte 6"),
    ("yoochoose", "1,2014-04-07T10:51:09.277Z\n", "4 columns expected, 2 found"),
    ("yoochoose", "1,2014-04-07 noon,2,0\n", "'2014-04-07 noon' is no time"),
    ("yoochoose", "1,1969-04-07T10:51:09Z,2,0\n", "out of range, before 1970"),
    ("yoochoose", "1,12014-04-07T10:51:09Z,2,0\n", "is no time"),
    ("yoochoose", "1,2014-04-07T10:51:09Z,,0\n", "an empty id"),
    ("yoochoose", '1,2014-04-07T10:51:09Z,"2"\r3,0\n', "not CSV: new-line character"),
    ("yoochoose", b"\xff1,2014-04-07T10:51:09Z,2,0\n", "invalid UTF-8 at byte 1"),
    ("otto", "[1]\n", "expected a JSON object"),
    ("otto", "7\n", "expected a JSON object"),
    ("otto", "null\n", "expected a JSON object"),
    ("otto", "[" * 100_000 + "\n", "not JSON: maximum recursion depth"),
    ("otto", '{"session": 1, "events"\n', "not JSON"),
    ("otto", '{"session": 1}\n', "a session without a list of events"),
    ("otto", '{"session": 1, "events": null}\n', "a session without a list of events"),
    ("otto", '{"events": []}\n', "session None is no id"),
    ("otto", '{"session": 1, "events": [5]}\n', "an event that is no JSON object"),
    ("otto", '{"session": 1, "events": [{"aid": 2}]}\n', "ts None is no number"),
    (
        "otto",
        '{"session": 1, "events": [{"aid": null, "ts": 3, "type": "clicks"}]}\n',
        "aid None is no id",
    ),
    (
        "otto",
        '{"session": 1, "events": [{"aid": 2, "ts": -3, "type": "clicks"}]}\n',
        "time out of range, before 1970",
    ),
    (
        "otto",
        '{"session": 1, "events": [{"aid": 2, "ts": 1e30, "type": "clicks"}]}\n',
        "is no number of milliseconds",
    ),
    ("otto", b'{"session": "\xff", "events": []}\n', "invalid UTF-8 at byte 14"),
]


@pytest.mark.parametrize(("name", "row", "expected"), BAD_ROWS)
def test_bad_rows(capsys, tmp_path, name, row, expected):
    lines = [line.encode() for line in LINES[name]]
    row = row.encode() if isinstance(row, str) else row
    bad = [*lines[:15], row, *lines[15:17], row, *lines[17:]]
    line = refused(capsys, tmp_path, name, b"".join(bad))
    assert "row 16: " in line
    assert expected in line
    assert "--skip_bad_rows" in line
    # Left out and counted instead, the rest is as if they had never been there.
    for out, content, args in (("a", bad, ["--skip_bad_rows"]), ("b", lines, [])):
        folder = write(tmp_path, name, b"".join(content))
        assert status_of(name, folder, tmp_path / out, *args) == 0
    stderr = capsys.readouterr().err
    assert "warning: 2 malformed rows left out" in stderr
    assert "row 16: " in stderr
    assert "row 19: " in stderr
    made = [open_prepared(tmp_path / out).fingerprint for out in ("a", "b")]
    assert made[0] == made[1]


WRONG_FILES = [
    ("diginetica", YOOCHOOSE, ["row 1", "looks like Yoochoose's yoochoose-clicks.dat"]),
    ("diginetica", OTTO, ["looks like OTTO's jsonl", "data_prep.otto"]),
    ("diginetica", DIGINETICA, ["the header sessionId", "without its header"]),
    ("diginetica", "queryId;timeframe;itemId\n1;2;3\n", ["train-clicks.csv"]),
    (
        "diginetica",
        [line.replace(";", ",") for line in LINES["diginetica"]],
        ["sessionId;userId", "separated by commas"],
    ),
    ("yoochoose", LINES["diginetica"], ["looks like Diginetica's train-item-views"]),
    ("yoochoose", OTTO, ["looks like OTTO's jsonl"]),
    ("yoochoose", ["session,time,item,cat\n", *YOOCHOOSE], ["no header", "a header"]),
    (
        "yoochoose",
        [line.replace(",", "\t") for line in YOOCHOOSE],
        ["separated by tabs"],
    ),
    (
        "yoochoose",
        "420374,2014-04-06T18:44:58.314Z,214537888,12462,1\n",
        ["yoochoose-buys.dat"],
    ),
    ("yoochoose", "PK\x03\x04abc", ["a zip archive"]),
    ("yoochoose", "<!DOCTYPE html>\n", ["a web page"]),
    ("otto", LINES["diginetica"], ["looks like Diginetica's train-item-views.csv"]),
    ("otto", YOOCHOOSE, ["looks like Yoochoose's"]),
    ("otto", '{"user": 1, "clicks": []}\n', ["the fields user, clicks"]),
    ("otto", "session,aid,ts,type\n1,2,3,clicks\n", ["OTTO as a table"]),
    ("otto", "", ["the file is empty"]),
    ("diginetica", "", ["the file is empty"]),
    ("diginetica", HEADER, ["no clicks"]),
    ("otto", '{"session": 1, "events": []}\n', ["no clicks"]),
]


@pytest.mark.parametrize(("name", "content", "expected"), WRONG_FILES)
def test_wrong_files(capsys, tmp_path, name, content, expected):
    line = refused(capsys, tmp_path, name, content)
    for part in expected:
        assert part in line


@pytest.mark.parametrize("name", PROGRAMS)
def test_gzip_that_is_cut_or_damaged(capsys, tmp_path, name):
    whole = gzip.compress("".join(LINES[name] + LINES[name][1:] * 40).encode())
    line = refused(capsys, tmp_path, name, whole[:-200])
    assert "gzip, but cut off before its end" in line
    damaged = whole[:-8] + b"\xff" * 8
    assert "damaged gzip" in refused(capsys, tmp_path, name, damaged)


def test_paths_that_are_no_files(capsys, tmp_path):
    for name in PROGRAMS:
        assert status_of(name, tmp_path / "absent", tmp_path / "out") == 1
        assert "no such f" in capsys.readouterr().err
    (tmp_path / "diginetica.txt").mkdir()
    assert status_of("diginetica", tmp_path, tmp_path / "out") == 1
    assert "a folder; expected a file" in capsys.readouterr().err
    assert status_of("otto", tmp_path, tmp_path / "out") == 1
    assert "no file otto-recsys-train.jsonl" in capsys.readouterr().err
    (tmp_path / "otto-recsys-train.jsonl").write_text("".join(OTTO))
    argv = ["otto", f"--raw={tmp_path}/otto-recsys-train.jsonl", f"--out={tmp_path}/o"]
    assert run(otto.main, otto.define_flags(), argv) == 1
    assert "expected the folder" in capsys.readouterr().err


def test_too_little_is_left(capsys, tmp_path):
    line = "error: no session of 2 events is left to train on"
    folder = write(tmp_path, "diginetica", [HEADER, *DIGINETICA[::3]])
    assert status_of("diginetica", folder, tmp_path / "out") == 1
    assert capsys.readouterr().err.startswith(line)
    # All sessions are of the last day.
    folder = write(tmp_path, "yoochoose", YOOCHOOSE[:3] * 5)
    assert status_of("yoochoose", folder, tmp_path / "out") == 1
    split = "the split by date makes all sessions test"
    assert capsys.readouterr().err.startswith(f"{line}: {split} (read: ")
    assert [p.name for p in tmp_path.iterdir()] == ["logs"]


def test_disk_too_small(capsys, monkeypatch, tmp_path):
    usage = shutil.disk_usage(tmp_path)._replace(free=1_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    folder = write(tmp_path, "otto", OTTO)
    assert status_of("otto", folder, tmp_path / "made" / "out") == 1
    line = capsys.readouterr().err
    log = folder / "log.csv"
    log.write_text("session,item\n" + "1,2\n" * 500_000)
    argv = ["e", f"--train={log}", f"--out={tmp_path}/made/out", "--session=session"]
    assert run(events.main, events.define_flags(), [*argv, "--item=item"]) == 1
    assert "about 0.03 GB of free disk are needed" in capsys.readouterr().err
    log.write_text(
        "session,item,note\n" + f"1,2,{'x' * 1000}\n" * 50_000
    )  # 34 bytes each
    argv = ["e", f"--train={log}", f"--out={tmp_path}/made/out", "--session=session"]
    assert run(events.main, events.define_flags(), [*argv, "--item=item"]) == 1
    assert "about 0.02 GB of free disk are needed" in capsys.readouterr().err
    argv = ["s", "--profile=otto", f"--out={tmp_path}/made/out"]
    assert run(synthetic.main, synthetic.define_flags(), argv) == 1
    assert "GB of free disk are needed" in capsys.readouterr().err
    assert "about 0.02 GB of free disk are needed" in line
    assert f"{tmp_path} has 0.00 GB" in line
    assert [p.name for p in tmp_path.iterdir()] == ["logs"]


@pytest.mark.parametrize(
    ("signum", "when", "text_bytes"),
    [
        (signal.SIGTERM, "train.0.arrow", 1 << 17),
        (signal.SIGINT, "train.runs.arrow", 1 << 25),
    ],
)
def test_stopping_leaves_nothing(tmp_path, signum, when, text_bytes):
    """Stopped while the log is cut into parts, and while these are merged."""
    raw = tmp_path / "views.csv"
    with raw.open("w") as file:
        file.write(HEADER)
        file.writelines(DIGINETICA * 10_000)
    code = RESTORE_SIGINT + "import functools;"
    code += "from data_prep import diginetica as d;"
    code += "from data_prep.pipeline.parts import PartPlan;"
    code += "from data_prep.programs.log_program import LogSizes;"
    code += "from data_prep.reading.click_log import ReadSizes;"
    code += "from tron_jax.console.program import run;"
    code += f"read = ReadSizes(text_bytes={text_bytes});"
    code += "sizes = LogSizes(read, lambda rows: PartPlan(255, True));"
    code += "main = functools.partial(d.main, sizes=sizes);"
    code += "sys.exit(run(main, d.define_flags()))"
    out = tmp_path / "made" / "out"
    command = [sys.executable, "-c", code, f"--raw={raw}", f"--out={out}"]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        deadline = time.monotonic() + 60
        while not list(tmp_path.rglob(when)):
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.02)
        os.kill(process.pid, signum)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 128 + signum
    assert stderr in (b"error: terminated\n", b"error: interrupted\n")
    assert [p.name for p in tmp_path.iterdir()] == ["views.csv"]


def test_part_numbers_do_not_follow_the_ids():
    for ids in (range(1000), range(0, 64_000, 64)):
        for column in (pa.array(ids), pa.array(map(str, ids))):
            found = parts.part_numbers(column, 8)
            assert found.max() == 7
            assert max((found == n).sum() for n in range(8)) < 200
