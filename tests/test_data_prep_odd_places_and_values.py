"""What a second pair of eyes found: links, names, digits and halves of characters."""

import json
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from any_format import sessions_of, status_of, write_log

T = 1_700_000_000
ROWS = [(1, 1, T), (1, 2, T + 1), (2, 1, T + 2), (2, 2, T + 3)]
WHOLE = [(1, [1, 2]), (2, [1, 2])]


def refused(log, capsys, *args, out=None):
    assert status_of(log, out or log.parent / "out", *args) == 1
    *_, line = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    return line


DIGITS = {
    "a fraction of nothing": [f"17000000000000000{n:02}.0" for n in (5, 1, 3)],
    "an exponent": [f"1.7000000000000000{n:02}e18" for n in (5, 1, 3)],
    "nanoseconds": [f"1700000000.1234567{n:02}" for n in (89, 1, 45)],
}


@pytest.mark.parametrize("digits", DIGITS)
@pytest.mark.parametrize("name", ["parquet", "jsonl"])
def test_text_orders_by_all_of_its_digits(tmp_path, name, digits):
    orders = DIGITS[digits]
    rows = [(1, item, T, order) for item, order in enumerate(orders, 1)]
    log = write_log(tmp_path / f"log.{name}", rows)
    assert sessions_of(log, tmp_path / "out", "--order=p") == [(1, [2, 3, 1])]


@pytest.mark.parametrize("order", [1.7e18, 2.0**53])
def test_json_numbers_that_a_float_may_have_rounded_give_no_order(
    tmp_path, capsys, order
):
    log = write_log(tmp_path / "log.jsonl", [(1, 1, T, 5), (1, 2, T, order)])
    assert "not exact; write whole numbers or text" in refused(log, capsys, "--order=p")


@pytest.mark.parametrize(
    ("kind", "bits"), [(pa.float16(), 11), (pa.float32(), 24), (pa.float64(), 53)]
)
def test_floats_order_as_far_as_they_count(tmp_path, capsys, kind, bits):
    for last, good in ((2**bits - 1, True), (2**bits, False)):
        values = pa.array([3, last, 1], pa.float64()).cast(kind)
        table = pa.table({"s": [1] * 3, "i": [1, 2, 3], "t": [T] * 3, "p": values})
        pq.write_table(table, tmp_path / "log.parquet")
        if good:
            found = sessions_of(tmp_path / "log.parquet", tmp_path / "out", "--order=p")
            assert found == [(1, [3, 1, 2])]
        else:
            out = tmp_path / "other"
            line = refused(tmp_path / "log.parquet", capsys, "--order=p", out=out)
            assert f"from 2^{bits} on" in line
            assert "row 2" in line


def test_sixteen_bytes_that_are_text_are_no_uuid(tmp_path):
    ids = [b"deadbeef01234567", b"deadbeef01234568"]
    for values, first in (
        (ids, "deadbeef01234567"),
        ([bytes(16), ids[1]], "00000000-"),
    ):
        items = pa.array(values * 2, pa.binary(16))
        table = pa.table({"s": [1, 1, 2, 2], "i": items, "t": [r[2] for r in ROWS]})
        pq.write_table(table, tmp_path / "log.parquet")
        out = tmp_path / first
        [_, [(_, found)]] = (0, sessions_of(tmp_path / "log.parquet", out)[:1])
        assert found[0].startswith(first)


@pytest.mark.parametrize("kind", [pa.binary_view(), pa.binary(10), pa.large_binary()])
def test_times_and_orders_are_text_of_any_kind(tmp_path, kind):
    times = [str(row[2]).encode() for row in ROWS]
    columns = {"s": [1, 1, 2, 2], "i": [2, 1, 2, 1]}
    columns |= {"t": pa.array(times, kind), "p": pa.array(times[::-1], kind)}
    pq.write_table(pa.table(columns), tmp_path / "log.parquet")
    args = ("--time=t", "--order=p")
    assert sessions_of(tmp_path / "log.parquet", tmp_path / "out", *args) == WHOLE


def test_a_field_that_is_there_twice_in_two_spellings(tmp_path, capsys):
    log = write_log(tmp_path / "log.jsonl", ROWS)
    log.write_text(
        log.read_text() + '{"s": 1, "i": 1, "\\u0073": 2, "t": 1700000000}\n'
    )
    assert "row 5: field 's' is there 2 times" in refused(log, capsys, "--time=t")


def test_links_within_a_folder(tmp_path, capsys):
    log = tmp_path / "log"
    part = write_log(log / "a" / "1.parquet", ROWS)
    (log / "b").mkdir()
    (log / "b" / "2.parquet").symlink_to(write_log(tmp_path / "2.parquet", ROWS))
    found = sessions_of(log, tmp_path / "linked", "--time=t")
    assert [len(items) for _, items in found] == [4, 4]
    (log / "loop").symlink_to(log)
    assert f"{log / 'loop'}: a link to a folder that it lies" in refused(log, capsys)
    (log / "loop").unlink()
    part.unlink()
    part.symlink_to(tmp_path / "gone")
    assert f"{part}: a link to a file that is not there" in refused(log, capsys)


def test_a_partition_by_a_key_that_begins_like_what_is_hidden(tmp_path):
    log = tmp_path / "log"
    write_log(log / "_day=1" / "a.parquet", ROWS[:2])
    write_log(log / "_day=2" / "a.parquet", ROWS[2:])
    for hidden in ("_temporary", ".git"):
        write_log(log / hidden / "a.parquet", [(9, 9, T)] * 2)
    (log / "_SUCCESS").touch()
    assert sessions_of(log, tmp_path / "out", "--time=t") == WHOLE


def test_folders_whose_escapes_are_no_text_stay_apart(tmp_path):
    for session in ("%FF", "%FE", "a%20b"):
        rows = [(1, T), (2, T + 1)]
        log = tmp_path / "log" / f"s={session}" / "a.parquet"
        write_log(log, rows, names=("i", "t"))
    found = sessions_of(tmp_path / "log", tmp_path / "out", "--time=t")
    assert sorted(found) == [("%FE", [1, 2]), ("%FF", [1, 2]), ("a b", [1, 2])]


@pytest.mark.parametrize("field", ["s", "i", "t", "p"])
def test_half_of_a_character_is_a_malformed_row(tmp_path, capsys, field):
    rows = [(str(s), str(i), str(t), str(t)) for s, i, t in ROWS]
    log = write_log(tmp_path / "log.jsonl", rows)
    row = dict(zip("sitp", rows[0], strict=True)) | {field: "\ud800"}
    log.write_text(json.dumps(row) + "\n" + log.read_text())
    args = ("--time=t", "--order=p")
    line = refused(log, capsys, *args)
    assert f"row 1, column {field!r}: half of a character is no Unicode" in line
    found = sessions_of(log, tmp_path / "out", *args, "--skip_bad_rows")
    assert found == WHOLE


def test_empty_paths_and_names_that_are_no_text(tmp_path, capsys, monkeypatch):
    log = write_log(tmp_path / "log.csv", ROWS)
    monkeypatch.chdir(tmp_path)
    for train, out in (("", "out"), (log, "")):
        assert status_of(train, out) == 1
        assert "an empty path" in capsys.readouterr().err
    odd = os.fsdecode(b"x\xff")
    assert status_of(log, tmp_path / odd) == 1
    assert "no UTF-8" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log.csv"]
    named = tmp_path / f"{odd}.csv"
    named.write_bytes(log.read_bytes())
    assert sessions_of(named, tmp_path / "out", "--time=t") == WHOLE
    part = tmp_path / f"{odd}.parquet"
    part.write_bytes(write_log(tmp_path / "a.parquet", ROWS).read_bytes())
    assert "not readable as Parquet" in refused(part, capsys, out=tmp_path / "other")


def test_times_that_no_clock_shows_cost_one_look_each(tmp_path, monkeypatch):
    """Not a look at each text around them."""
    from data_prep.reading import texts

    looks = []
    parses = texts._parses
    monkeypatch.setattr(
        texts, "_parses", lambda value, to: looks.append(1) or parses(value, to)
    )
    good = ["2023-11-14T22:13:20Z"] * 3000
    for bad in ("1600-01-01T00:00:00Z", "2300-01-01T00:00:00Z", "2023-02-29T00:00:00Z"):
        looks.clear()
        values = pa.array([x for one in good for x in (one, bad)], pa.large_string())
        parsed = texts.parse(values, pa.timestamp("ns", tz="UTC"))
        assert parsed.null_count == 3000
        assert len(looks) < 10
