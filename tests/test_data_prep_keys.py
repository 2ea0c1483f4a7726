"""What a session is: several columns as its id, pauses that cut it, and doubts."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from any_format import FORMATS, sessions_of, status_of, write_log
from log_sizes import small_sizes

from data_prep.programs.log_program import LOG_SIZES
from tron_jax.data.sessions import open_prepared

T = 1_700_000_000
DAY = 86_400
NAMES = ("u", "n", "i", "t")
ROWS = [(f"u{n % 3}", n // 6, n % 2, T + n) for n in range(36)]
SIZES = [LOG_SIZES, small_sizes(text_bytes=200, part_rows=10, on_disk=True)]


def refused(log, capsys, *args):
    assert status_of(log, log.parent / "refused", *args) == 1
    *_, line = capsys.readouterr().err.splitlines()
    return line.removeprefix("error: ")


@pytest.mark.parametrize("sizes", SIZES, ids=["whole", "parts"])
@pytest.mark.parametrize("name", FORMATS)
def test_several_columns_are_one_id(tmp_path, name, sizes):
    log = write_log(tmp_path / f"log.{name}", ROWS, NAMES)
    args = ("--session=u,n", "--time=t")
    found = dict(sessions_of(log, tmp_path / "out", *args, sizes=sizes))
    expected = {}
    for u, n, i, _ in ROWS:
        expected.setdefault(json.dumps([u, n], separators=(",", ":")), []).append(i)
    assert found == expected


@pytest.mark.parametrize(
    "kinds",
    [
        {},
        {"a": pa.string()},
        {"a": pa.decimal128(38, 2)},
        {"a": pa.float64(), "b": pa.large_string()},
    ],
)
def test_an_id_of_several_columns_is_the_same_in_every_format(tmp_path, kinds):
    rows = [(7, 12, 1, T), (7, 12, 2, T + 1), (8, 12, 1, T + 2), (8, 12, 1, T + 2)]
    for part, name in enumerate(FORMATS):
        write_log(tmp_path / "d" / f"{part}.{name}", rows, ("a", "b", "i", "t"))
    columns = zip(*rows, strict=True)
    arrays = {n: pa.array(c) for n, c in zip("abit", columns, strict=True)}
    arrays |= {n: arrays[n].cast(kind) for n, kind in kinds.items()}
    pq.write_table(pa.table(arrays), tmp_path / "d" / "9.parquet")
    found = sessions_of(tmp_path / "d", tmp_path / "out", "--session=a,b", "--time=t")
    assert [session for session, _ in found] == ["[7,12]", "[8,12]"]
    assert all(len(items) == 8 for _, items in found)


def test_text_in_an_id_of_several_columns(tmp_path):
    texts = ["007", 'a"b', "a,b", "1.0", "ä\n", "-0", "-12", "123456789012345678901"]
    rows = [(text, f"x{text}", item) for text in texts for item in (1, 2)]
    log = write_log(tmp_path / "log.parquet", rows, ("a", "b", "i"))
    found = [json.loads(one) for one, _ in
             sessions_of(log, tmp_path / "out", "--session=a, b")]  # fmt: skip
    numbers = {"-12": -12, "123456789012345678901": 123456789012345678901}
    assert found == [[numbers.get(text, text), f"x{text}"] for text in texts]


@pytest.mark.parametrize("name", FORMATS)
def test_a_column_that_has_a_comma_in_its_name(tmp_path, name):
    rows = [(f"{u},{n}", u, n, i) for u, n, i, _ in ROWS]
    log = write_log(tmp_path / f"log.{name}", rows, ("u,n", "u", "n", "i"))
    found = sessions_of(log, tmp_path / "out", "--session=u,n")
    assert found[0][0] == "u0,0"


@pytest.mark.parametrize("column", ["u", "n"])
@pytest.mark.parametrize("name", FORMATS)
def test_a_part_of_an_id_that_is_missing_is_a_bad_row(tmp_path, capsys, name, column):
    row = dict(zip(NAMES, ROWS[5], strict=True)) | {column: None}
    rows = [*ROWS[:5], tuple(row.values()), *ROWS[5:]]
    log = write_log(tmp_path / f"log.{name}", rows, NAMES)
    args = ("--session=u,n", "--time=t")
    where = f"row {6 + (name == 'csv')}, column {column!r}: empty"
    assert where in refused(log, capsys, *args)
    found = sessions_of(log, tmp_path / "out", *args, "--skip_bad_rows")
    whole = write_log(tmp_path / f"whole.{name}", ROWS, NAMES)
    assert found == sessions_of(whole, tmp_path / "whole", *args)


def test_a_part_of_an_id_that_is_no_column(tmp_path, capsys):
    log = write_log(tmp_path / "log.csv", ROWS, NAMES)
    what = f"{log}: no column 'm' (--session); it has u, n, i, t"
    assert refused(log, capsys, "--session=u,m") == what
    assert "no column ''" in refused(log, capsys, "--session=u,")


def cut(rows, gap):
    """The sessions of (user, item, time), by the slow way."""
    found = {}
    for user in dict.fromkeys(user for user, *_ in rows):
        own = sorted((t, n, i) for n, (u, i, t) in enumerate(rows) if u == user)
        number, before = 0, None
        for t, n, item in own:
            if before is None or t - before > gap:
                number += 1
            before = t
            found.setdefault(f"{user}#{number}", []).append((t, n, item))
    rows_of = {one: min(n for _, n, _ in events) for one, events in found.items()}
    order = sorted(found, key=lambda one: (found[one][0][0], rows_of[one]))
    sessions = [(one, [item for *_, item in found[one]]) for one in order]
    return [(one, items) for one, items in sessions if len(items) > 1]


@pytest.mark.parametrize("sizes", SIZES, ids=["whole", "parts"])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", FORMATS)
def test_pauses_cut_sessions(tmp_path, name, seed, sizes):
    rng = np.random.default_rng(seed)
    columns = rng.integers([5, 9, 3000], size=(150, 3)).tolist()
    rows = [(user, item, T + t) for user, item, t in columns]
    log = write_log(tmp_path / f"log.{name}", rows)
    args = ("--time=t", "--session_gap=60")
    assert sessions_of(log, tmp_path / "out", *args, sizes=sizes) == cut(rows, 60)


def test_a_pause_that_is_just_long_enough(tmp_path):
    rows = [("a#1", 1, T), ("a#1", 2, T + 60), ("a", 3, T), ("a", 4, T + 60.000001),
            ("a", 4, T + 61)]  # fmt: skip
    log = write_log(tmp_path / "log.jsonl", rows)
    found = sessions_of(log, tmp_path / "out", "--time=t", "--session_gap=60")
    assert found == [("a#1#1", [1, 2]), ("a#2", [4, 4])]


def test_pauses_cut_ids_of_several_columns_and_rows_of_lists(tmp_path):
    events = [{"i": 1, "t": T}, {"i": 2, "t": T + 1}, {"i": 2, "t": T + 99}] * 2
    log = tmp_path / "log.jsonl"
    log.write_text(json.dumps({"u": "x", "n": 1, "e": events}))
    args = ("--session=u,n", "--item=e.i", "--time=e.t", "--session_gap=60")
    assert sessions_of(log, tmp_path / "out", *args) == [
        ('["x",1]#1', [1, 1, 2, 2]), ('["x",1]#2', [2, 2])
    ]  # fmt: skip


def test_pauses_that_are_none(tmp_path, capsys):
    log = write_log(tmp_path / "log.csv", ROWS, NAMES)
    line = refused(log, capsys, "--session=u", "--session_gap=60")
    assert line.startswith("--session_gap needs --time")
    for gap in ("0", "-1", "nan", "inf"):
        line = refused(log, capsys, "--session=u", f"--session_gap={gap}", "--time=t")
        assert line.startswith(f"--session_gap={float(gap)}: expected a number of")


def warned(log, out, capsys, *args):
    assert status_of(log, out, "--time=t", *args) == 0
    said = capsys.readouterr().err.splitlines()
    return [line for line in said if "the test part is empty" not in line]


def test_ids_that_are_used_again_are_doubted(tmp_path, capsys):
    rows = [(u % 5, u % 7, T + u * DAY) for u in range(60)]
    log = write_log(tmp_path / "log.csv", rows)
    (line,) = warned(log, tmp_path / "out", capsys)
    assert "5 of 5 sessions (100%) last more than a day, the longest 55.0 days" in line
    assert "--session=user_id,session_id" in line


@pytest.mark.parametrize(("long", "doubted"), [(1, False), (2, True)])
def test_few_long_sessions_are_not_doubted(tmp_path, capsys, long, doubted):
    rows = [(s, i, T + s + i * (DAY + 1 if s < long else DAY)) for s in range(10)
            for i in (0, 1)]  # fmt: skip
    log = write_log(tmp_path / "log.parquet", rows)
    assert bool(warned(log, tmp_path / "out", capsys)) == doubted


@pytest.mark.parametrize(("size", "doubted"), [(1000, False), (1001, True)])
def test_a_session_of_much_of_the_log_is_doubted(tmp_path, capsys, size, doubted):
    rows = [("(not set)", n % 3, T + n) for n in range(size)]
    rows += [(f"s{n // 2}", n % 3, T + n) for n in range(3000)]
    log = write_log(tmp_path / "log.csv", rows)
    lines = warned(log, tmp_path / "out", capsys)
    assert len(lines) == doubted
    if doubted:
        what = "session '(not set)' has 1,001 of 4,001 events (25%): a placeholder"
        assert what in lines[0]


def test_times_of_cut_sessions_are_theirs(tmp_path):
    log = write_log(
        tmp_path / "log.csv", [(1, n % 2, T + DAY * (n // 2)) for n in range(6)]
    )
    assert (
        sessions_of(log, tmp_path / "out", "--time=t", "--session_gap=9")[2][0] == "1#3"
    )
    starts = open_prepared(tmp_path / "out").train.start_time.to_pylist()
    assert [start.timestamp() for start in starts] == [T, T + DAY, T + 2 * DAY]
