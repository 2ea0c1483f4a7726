"""``data_prep.events --skip_bad_rows`` counts, names and leaves out."""

import functools
import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from log_sizes import small_sizes
from test_data_prep_raw_logs import as_lists
from test_data_prep_raw_logs import prepare as prepare_raw

from data_prep import events
from data_prep.programs.log_program import LOG_SIZES
from data_prep.reading.json_log import parse_json_lines
from tron_jax.console.program import run
from tron_jax.data.sessions import open_prepared

ROWS = [(f"s{i // 3}", i % 5, 1_396_860_669 + i, i % 3) for i in range(150)]
NAMES = ("time", "session", "pos", "item")  # not in the order of the flags
CSV = [f"{time},{session},{pos},{item}" for session, item, time, pos in ROWS]
JSON = [
    json.dumps({"time": time, "session": session, "pos": pos, "item": item})
    for session, item, time, pos in ROWS
]


def status_of(log, out, *args, sizes=LOG_SIZES):
    argv = ["events", f"--train={log}", f"--out={out}", "--session=session"]
    argv += ["--item=item", "--time=time", "--order=pos", *args]
    main = functools.partial(events.main, sizes=sizes)
    return run(main, events.define_flags(), argv)


def skips(tmp_path, capsys, sizes, name, whole, spoilt, count):
    """Prepares a log without and with bad rows; returns the warning."""
    made = []
    for kind, content in (("whole", whole), ("spoilt", spoilt)):
        path = tmp_path / kind / name
        path.parent.mkdir()
        path.write_bytes(content)
        capsys.readouterr()
        out = tmp_path / f"{kind}.out"
        assert status_of(path, out, "--skip_bad_rows", sizes=sizes) == 0
        stderr = capsys.readouterr().err
        made.append(open_prepared(tmp_path / f"{kind}.out").fingerprint)
        assert ("malformed" in stderr) == (kind == "spoilt")
    assert made[0] == made[1]
    rows = "row" if count == 1 else "rows"
    assert f"warning: {count} malformed {rows} left out: {path}: row " in stderr
    return stderr


@pytest.fixture(params=["one block", "small blocks"])
def sizes(request):
    if request.param == "one block":
        return LOG_SIZES
    return small_sizes(text_bytes=300, parquet_rows=7, part_rows=40)


BAD_CSV = [
    ("1396860669,s1,1", "columns"),
    ("1396860669,s1,1,2,3", "columns"),
    ("noon,s1,1,2", "column 'time': 'noon' is no time"),
    (",s1,1,2", "column 'time': empty"),
    ("-5,s1,1,2", "column 'time': -5.0 is before 1970"),
    ("1.4e12,s1,1,2", "column 'time': 1400000000000.0 is after the year 9999"),
    ("1396860669,,1,2", "column 'session': empty"),
    ("1396860669,s1,1,", "column 'item': empty"),
    ("1396860669,s1,x,2", "column 'pos': 'x' is no number"),
    ("time,session,pos,item", "column 'time': '"),
    (b"1396860669,s1,1,\xff", "column 'item': "),
    ('1396860669,s1,1,"2', "expected one row a line"),  # an open quote
]


@pytest.mark.parametrize(("row", "expected"), BAD_CSV)
def test_csv(tmp_path, capsys, sizes, row, expected):
    lines = [",".join(NAMES), *CSV]
    lines = [line.encode() for line in lines]
    row = row.encode() if isinstance(row, str) else row
    spoilt = [lines[0], row, *lines[1:90], row, *lines[90:], row]
    whole, text = (b"\n".join(part) + b"\n" for part in (lines, spoilt))
    stderr = skips(tmp_path, capsys, sizes, "log.csv", whole, text, 3)
    for number in (2, 92, 154):
        assert f"row {number}" in stderr
    assert expected in stderr
    # Without the flag, the first of them is an error in the same words.
    path = tmp_path / "spoilt" / "log.csv"
    assert status_of(path, tmp_path / "out", sizes=sizes) == 1
    line = capsys.readouterr().err
    assert line.startswith(f"error: {path}: row 2")
    assert expected in line
    assert line.endswith("(--skip_bad_rows leaves such rows out)\n")
    assert not (tmp_path / "out").exists()


BAD_JSON = [
    ("[1]", "expected a JSON object"),
    ('{"time": 1396860669', "not JSON"),
    ('{"time": 1396860669, "session": "s1", "pos": 1}', "column 'item': empty"),
    ('{"time": "x", "session": "s1", "pos": 1, "item": 2}', "time"),
    ('{"time": -5, "session": "s1", "pos": 1, "item": 2}', "before 1970"),
    ('{"time": 5, "session": "s1", "pos": 1, "item": 5.5}', "'item': 5.5: ids must be"),
    ('{"time": 5, "session": true, "pos": 1, "item": 5}', "bool cannot be an id"),
    ('{"time": 5, "session": "s1", "pos": {}, "item": 5}', "'pos': dict is no time"),
    ('{"time": 5, "session": "s1", "pos": "x", "item": 5}', "'pos': 'x' is no number"),
    ('{"time": 5, "session": "s1", "pos": NaN, "item": 5}', "column 'pos': empty"),
    ('{"time": 5, "session": "s1", "pos": 1, "item": ""}', "column 'item': empty"),
    ('{"time": 5, "session": ["s1"], "pos": 1, "item": 5}', "session"),
    ('{"time": 5, "session": "s1", "pos": 1, "item": 5} ' * 2, "one row a line"),
    ("null", "expected a JSON object"),
    ("[" * 100_000, "not JSON: maximum recursion depth"),
    (b'{"time": 5, "session": "s\xff", "pos": 1, "item": 5}', "invalid UTF-8"),
]


@pytest.mark.parametrize(("row", "expected"), BAD_JSON)
def test_json_lines(tmp_path, capsys, sizes, row, expected):
    lines = [line.encode() for line in JSON]
    row = row.encode() if isinstance(row, str) else row
    spoilt = [row, *lines[:70], b"", row, *lines[70:]]
    whole, text = (b"\r\n".join(part) for part in (lines, spoilt))
    name = "log.jsonl.gz"
    whole, text = gzip.compress(whole), gzip.compress(text)
    stderr = skips(tmp_path, capsys, sizes, name, whole, text, 2)
    assert "row 1" in stderr
    assert "row 73" in stderr
    assert expected in stderr


def parquet(path, rows):
    columns = dict(
        zip(("session", "item", "time", "pos"), zip(*rows, strict=True), strict=True)
    )
    pq.write_table(pa.table(columns), path, row_group_size=40)
    return path.read_bytes()


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ((None, 1, 1_396_860_669, 0), "column 'session': empty"),
        (("s1", None, 1_396_860_669, 0), "column 'item': empty"),
        (("s1", 1, -1, 0), "column 'time': -1 is before 1970"),
        (("s1", 1, 1_396_860_669, None), "column 'pos': empty"),
    ],
)
def test_parquet(tmp_path, capsys, sizes, row, expected):
    whole = parquet(tmp_path / "a.parquet", ROWS)
    spoilt = parquet(tmp_path / "a.parquet", [row, *ROWS[:75], row, *ROWS[75:], row])
    stderr = skips(tmp_path, capsys, sizes, "log.parquet", whole, spoilt, 3)
    for number in (1, 77, 153):
        assert f"row {number}" in stderr
    assert expected in stderr


def test_times_are_read_as_most_of_them_are(tmp_path, capsys, sizes):
    """A number among dates is malformed, though it were a time elsewhere."""
    stamps = [f"2014-04-07T10:{i // 60:02}:{i % 60:02}Z" for i in range(150)]
    lines = [f"{t},{s},{p},{i}" for t, (s, i, _, p) in zip(stamps, ROWS, strict=True)]
    spoilt = ["12,s1,1,1", *lines[:50], "13,s1,1,1", *lines[50:]]
    head = ",".join(NAMES)
    whole, text = ("\n".join([head, *part]).encode() for part in (lines, spoilt))
    stderr = skips(tmp_path, capsys, sizes, "log.csv", whole, text, 2)
    assert "row 2" in stderr
    assert "row 53" in stderr


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("front", [b"", b"\n \r\n\t", b'{"a": 1}\n ', b'{"a": 1}\n\n'])
def test_a_row_that_is_null_does_not_end_the_process(front, mark):
    schema = pa.schema([("a", pa.int64())])
    with pytest.raises(pa.ArrowInvalid, match="found null"):
        parse_json_lines(front + mark + b'null\n{"a": 2}\n', schema)
    found = parse_json_lines(b'{"a": null}\n{"a": 2, "b": "\\nnull"}\n', schema)
    assert found["a"].to_pylist() == [None, 2]


@pytest.mark.parametrize("blank", ["", "  ", "\r", " \r"])
@pytest.mark.parametrize("name", ["log.csv", "log.jsonl"])
def test_blank_lines_are_no_rows(tmp_path, capsys, sizes, name, blank):
    lines = [",".join(NAMES), *CSV] if name == "log.csv" else JSON
    path = tmp_path / name
    path.write_text("\n".join(lines))
    assert status_of(path, tmp_path / "out", sizes=sizes) == 0
    path.write_text("\n".join([*lines[:90], blank, *lines[90:], blank, ""]))
    assert status_of(path, tmp_path / "blank", sizes=sizes) == 0
    made = [open_prepared(tmp_path / out).fingerprint for out in ("out", "blank")]
    assert made[0] == made[1]
    # They are counted, though.
    path.write_text("\n".join([*lines[:90], blank, "x", *lines[90:]]))
    capsys.readouterr()
    assert status_of(path, tmp_path / "bad", sizes=sizes) == 1
    assert f"error: {path}: row 92: " in capsys.readouterr().err


def test_nothing_but_malformed_rows(tmp_path, capsys):
    path = tmp_path / "log.csv"
    path.write_text("\n".join([",".join(NAMES), *["x"] * 5]))
    assert status_of(path, tmp_path / "out", "--skip_bad_rows") == 1
    stderr = capsys.readouterr().err
    assert "warning: 5 malformed rows left out" in stderr
    assert f"error: {path}: no rows" in stderr
    assert [p.name for p in tmp_path.iterdir()] == ["log.csv"]


@pytest.mark.parametrize("codec", ["gzip", "bz2", "zstd", "lz4"])
def test_compressed_logs_whole_and_cut(tmp_path, capsys, codec):
    rows = [f"{time},{session},{pos},{item}" for session, item, time, pos in ROWS * 40]
    content = "\n".join([",".join(NAMES), *rows]).encode()
    (tmp_path / "plain.csv").write_bytes(content)
    assert status_of(tmp_path / "plain.csv", tmp_path / "plain") == 0
    ending = {"gzip": "gz", "zstd": "zst"}.get(codec, codec)
    path = tmp_path / f"log.csv.{ending}"
    with pa.CompressedOutputStream(str(path), codec) as file:
        file.write(content)
    assert status_of(path, tmp_path / "out") == 0
    made = [open_prepared(tmp_path / name).fingerprint for name in ("plain", "out")]
    assert made[0] == made[1]
    path.write_bytes(path.read_bytes()[:-300])
    capsys.readouterr()
    # What is cut off is no malformed row: it is an error in any case.
    for args in ([], ["--skip_bad_rows"]):
        assert status_of(path, tmp_path / "cut", *args) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"error: {path}: ")
        assert "cut off" in line or f"damaged {codec}" in line
    assert not (tmp_path / "cut").exists()


@pytest.mark.parametrize("spoilt", [False, True])
def test_leading_zeros_of_whole_numbers_do_not_count(tmp_path, spoilt):
    """Also where a malformed row makes the lines be parsed one by one."""
    clicks = [("007", 1), ("7", "02"), ("8", "2"), ("8", "1")]
    lines = [f"{s},2014-04-07T10:00:0{n}Z,{i},0" for n, (s, i) in enumerate(clicks)] * 3
    lines += [f"9,2014-05-07T10:00:0{n}Z,1,0" for n in range(3)]
    lines += ["x"] * spoilt
    path = tmp_path / "clicks.dat"
    path.write_text("\n".join(lines))
    data = prepare_raw("yoochoose", path, tmp_path / "out", "--skip_bad_rows")
    assert data.train.ids.to_pylist() == [7, 8]
    assert as_lists(data)[2] == [1, 2]
