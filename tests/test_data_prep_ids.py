"""The same id is the same id in every format, part and split; empty is empty."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from any_format import FORMATS, sessions_of, status_of, write_log
from log_sizes import small_sizes

from data_prep.programs.log_program import LOG_SIZES
from tron_jax.data.sessions import open_prepared

T = 1_700_000_000
SMALL = small_sizes(text_bytes=300, parquet_rows=7, part_rows=40)
SIZES = pytest.mark.parametrize("sizes", [LOG_SIZES, SMALL], ids=["whole", "blocks"])
HASH = 2**63 + 1  # as hash functions give them
SNOWFLAKE = 1_234_567_890_123_456_789


def log_of(ids, column):
    """Sessions of two events each; in one column the ids that are given."""
    rows = [[n // 2, n % 2, T + n] for n in range(len(ids))]
    for row, one in zip(rows, ids, strict=True):
        row[column] = one
    return rows


def ids_of(sessions, column):
    """All ids of sessions, or those of items, that are left."""
    items = {item for _, items in sessions for item in items}
    return items if column else {session for session, _ in sessions}


@pytest.mark.parametrize(("sizes", "at"), [(LOG_SIZES, 0), (SMALL, 60)])
@pytest.mark.parametrize("column", [0, 1])
@pytest.mark.parametrize("empty", ["", "  ", "NULL", "nan", None])
@pytest.mark.parametrize("name", FORMATS)
def test_empty_is_empty(tmp_path, capsys, name, empty, column, at, sizes):
    whole = log_of([f"g{n // 4}" for n in range(80)], column)
    rows = [row[:] for row in whole]
    rows[at][column] = rows[at + 4][column] = empty
    log = write_log(tmp_path / f"log.{name}", rows)
    assert status_of(log, tmp_path / "out", "--time=t", sizes=sizes) == 1
    row = at + 1 + (name == "csv")
    problem = f"row {row}, column {'si'[column]!r}: empty; expected a value"
    assert problem in capsys.readouterr().err
    args = ("--time=t", "--skip_bad_rows")
    found = sessions_of(log, tmp_path / "out", *args, sizes=sizes)
    assert "warning: 2 malformed rows left out" in capsys.readouterr().err
    good = write_log(
        tmp_path / "good.parquet", [*rows[:at], *rows[at + 1 : at + 4], *rows[at + 5 :]]
    )
    assert found == sessions_of(good, tmp_path / "good", "--time=t")


MIXED = {
    "text late": [1] * 40 + ["g7"] * 4 + [2] * 40,
    "text first": ["g7"] * 4 + [1] * 40 + [2] * 40,
    "by turns": [1, "g7"] * 40,
    "numbers in quotes": [7, "7"] * 40 + ["007"] * 4,
    "a number beyond int64": [1] * 40 + [HASH, HASH] + [2] * 40,
    "nothing but those": [HASH] * 40 + [HASH + 1] * 40,
    "more digits than any type": [10**40] * 40 + [10**40 + 1] * 40 + [3, 3],
    "negative": [-1] * 40 + [HASH] * 4 + [-5] * 4,
}


@SIZES
@pytest.mark.parametrize("column", [0, 1])
@pytest.mark.parametrize("case", MIXED)
def test_json_and_csv_read_the_same_ids(tmp_path, case, column, sizes):
    rows = log_of(MIXED[case], column)
    found = [
        sessions_of(
            write_log(tmp_path / f"log.{name}", rows),
            tmp_path / name,
            "--time=t",
            sizes=sizes,
        )
        for name in ("csv", "jsonl")
    ]
    assert found[0] == found[1]
    written = {str(one) for row in rows for one in [row[column]]}
    assert {str(one) for one in ids_of(found[0], column)} == written


@SIZES
@pytest.mark.parametrize("column", [0, 1])
@pytest.mark.parametrize("order", [1, -1])
def test_an_integer_beside_floats_stays_that_integer(tmp_path, column, order, sizes):
    ids = [float(k % 5) for k in range(180)] + [SNOWFLAKE + k % 8 for k in range(20)]
    log = write_log(tmp_path / "log.jsonl", log_of(ids[::order], column))
    found = sessions_of(log, tmp_path / "out", "--time=t", sizes=sizes)
    expected = {0, 1, 2, 3, 4, *(SNOWFLAKE + k for k in range(8))}
    assert ids_of(found, column) == expected


@pytest.mark.parametrize("column", [0, 1])
@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (pa.float64(), 2.0**53),
        (pa.float32(), 2.0**24),
        (pa.float64(), 1.5),
        (pa.float64(), float("inf")),
        (pa.decimal128(20, 2), None),
    ],
    ids=str,
)
def test_what_is_no_whole_number_for_sure_is_refused(
    tmp_path, capsys, kind, value, column
):
    odd = [4, 5] * 2 + [value] * 4
    if value is None:
        odd = (
            pa.array([400, 500] * 2 + [450] * 4).cast(pa.decimal128(38, 2)).to_pylist()
        )
        odd = [one / 100 for one in odd]
    names = {"si"[column]: kind}
    log = write_log(tmp_path / "a.parquet", log_of(odd, column), kinds=names)
    assert status_of(log, tmp_path / "out", "--time=t") == 1
    assert f"row 5, column {'si'[column]!r}: " in capsys.readouterr().err
    assert sessions_of(log, tmp_path / "out", "--time=t", "--skip_bad_rows")
    assert "4 malformed rows" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["1234567890123456789.0", "1.2e18", "4.5", "1e400"])
def test_json_numbers_that_only_a_float_holds_are_refused(tmp_path, capsys, text):
    lines = [f'{{"s": {n // 2}, "i": {n % 2}}}' for n in range(8)]
    lines[4] = f'{{"s": {text}, "i": 1}}'
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    assert status_of(tmp_path / "a.jsonl", tmp_path / "out") == 1
    assert "row 5, column 's': " in capsys.readouterr().err


KINDS = [
    (pa.uint64(), HASH),
    (pa.decimal128(38, 0), HASH),
    (pa.decimal128(38, 0), 10**37),
    (pa.decimal256(60, 0), 10**50),
    (pa.decimal128(38, 9), 107),
    (pa.float64(), 107),
    (pa.int16(), 107),
    (pa.uint64(), 107),
]


@SIZES
@pytest.mark.parametrize("column", [0, 1])
@pytest.mark.parametrize(("kind", "value"), KINDS, ids=str)
def test_parquet_numbers_are_those_of_csv(tmp_path, kind, value, column, sizes):
    ids = [1] * 20 + [value] * 20
    rows = log_of(ids, column)
    name = "si"[column]
    table = pa.table(
        dict(zip("sit", map(list, zip(*rows, strict=True)), strict=True))
        | {name: [0] * 40}
    )
    odd = pa.array([str(one) for one in ids])
    odd = (
        odd.cast(pa.float64()).cast(kind)
        if pa.types.is_floating(kind)
        else odd.cast(kind)
    )
    table = table.set_column(column, name, odd)
    pq.write_table(table, tmp_path / "a.parquet")
    found = [
        sessions_of(log, tmp_path / f"{n}", "--time=t", sizes=sizes)
        for n, log in enumerate(
            (tmp_path / "a.parquet", write_log(tmp_path / "a.csv", rows))
        )
    ]
    assert found[0] == found[1]


def test_test_items_are_found_whatever_their_type(tmp_path):
    """BigQuery's NUMERIC against CSV: no item is lost."""
    numeric = {"i": pa.array([107, 8, 107, 8]).cast(pa.decimal128(38, 9))}
    pq.write_table(pa.table({"s": [1, 1, 2, 2]} | numeric), tmp_path / "a.parquet")
    write_log(tmp_path / "b.csv", [("x", 8), ("x", 107)])
    for train, test in (("a.parquet", "b.csv"), ("b.csv", "a.parquet")):
        out = tmp_path / f"of.{train}"
        args = (f"--test={tmp_path / test}",)
        assert status_of(tmp_path / train, out, *args) == 0
        assert (
            open_prepared(out).test.num_events == len(open_prepared(out).test.items) > 1
        )
        raw = pq.read_table(out / "items.parquet")["raw_id"].to_pylist()
        assert sorted(map(str, raw)) == ["107", "8"]


@SIZES
def test_left_out_rows_leave_no_trace_in_the_ids(tmp_path, capsys, sizes):
    """An item that only bad rows have does not turn the others to text."""
    rows = [[n // 2, n % 2, T + n] for n in range(80)]
    rows[50][1:] = ["x", -1]
    log = write_log(tmp_path / "a.csv", rows)
    args = ("--time=t", "--skip_bad_rows")
    found = sessions_of(log, tmp_path / "out", *args, sizes=sizes)
    assert found[0] == (0, [0, 1])


def test_a_value_that_is_missing_is_no_text(tmp_path, capsys):
    lines = [json.dumps({"s": n // 2, "i": n % 2}) for n in range(8)]
    lines[2:4] = ['{"s": 1}', '{"s": 1, "i": null}']
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    found = sessions_of(tmp_path / "a.jsonl", tmp_path / "out", "--skip_bad_rows")
    assert found == [(n, [0, 1]) for n in (0, 2, 3)]
    assert "row 3, column 'i': empty" in capsys.readouterr().err


@pytest.mark.parametrize("raw", [bytes(range(8)), b"\xff" * 8, b"ab\x00"])
def test_bytes_are_text_or_nothing(tmp_path, capsys, raw):
    for values, expected in (([b"a", b"b"], 0), ([b"a", raw], 1)):
        column = pa.array([values[n // 2 % 2] for n in range(8)], pa.binary())
        pq.write_table(pa.table({"s": column, "i": [1, 2] * 4}), tmp_path / "a.parquet")
        out = tmp_path / f"out{expected}"
        assert status_of(tmp_path / "a.parquet", out, "--skip_bad_rows") == expected
    line = capsys.readouterr().err.splitlines()[-1]
    assert "column 's': binary of bytes that are no text cannot be an id" in line


@pytest.mark.parametrize(
    "odd", ['{"s": 9, "i": 1, "s": 8}', '{"i": 1, "s": 2, "i": 1}']
)
def test_a_field_that_is_there_twice_is_refused(tmp_path, capsys, odd):
    lines = [json.dumps({"s": n // 2, "i": n % 2}) for n in range(8)]
    (tmp_path / "a.jsonl").write_text("\n".join([*lines, odd]))
    assert status_of(tmp_path / "a.jsonl", tmp_path / "out") == 1
    assert "row 9: not JSON" not in (line := capsys.readouterr().err)
    assert "row 9: field " in line


@pytest.mark.parametrize("column", [0, 1])
@pytest.mark.parametrize("name", FORMATS)
def test_text_that_looks_like_a_float_is_warned_of(tmp_path, capsys, name, column):
    """As pandas writes a CSV of ids that once stood beside missing ones."""
    log = write_log(tmp_path / f"a.{name}", log_of(["8", "12.0"] * 4, column))
    found = sessions_of(log, tmp_path / "out", "--time=t")
    assert ids_of(found, column) == {"8", "12.0"}
    warning = (
        f"warning: column {'si'[column]!r}: '12.0' is text, and another id than 12"
    )
    assert capsys.readouterr().err.count(warning) == 1
    plain = write_log(
        tmp_path / f"b.{name}", log_of(["8", "1.0.0", "v1.0"] * 4, column)
    )
    assert sessions_of(plain, tmp_path / "plain", "--time=t")
    assert "is text" not in capsys.readouterr().err
