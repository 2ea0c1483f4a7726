"""Leaving out a bad row costs a mask, not a search, however many there are."""

import pytest
from any_format import FORMATS, sessions_of, write_log
from log_sizes import small_sizes

from data_prep.programs.log_program import LOG_SIZES
from data_prep.reading import csv_log, json_log, parquet_log, text_log

T = 1_700_000_000
SIZES = (LOG_SIZES, small_sizes(text_bytes=5000, parquet_rows=200, part_rows=500))
# What is wrong with a row of session, item, time and order.
BAD = {
    "no item": lambda s, i, t, p: (s, None, t, p),
    "no session": lambda s, i, t, p: (None, i, t, p),
    "all of it": lambda s, i, t, p: (None, None, -5, None),
    "before 1970": lambda s, i, t, p: (s, i, -t, p),
    "no time": lambda s, i, t, p: (s, i, f"noon {t}", p),
    "no number": lambda s, i, t, p: (s, i, t, f"x{t}"),
}
WRONG = {
    "csv": ["1,2", "1,2,3,4,5", '1,"2,3,4', "1,2,x,4", "1,2\r3,4,5", b"\xff,1,2,x"],
    "jsonl": ["{", "[1]", "null", '{"s": 1} {"s": 2}', '{"s": true}', b'{"s": "\xff"}'],
}
WRONG["csv"] += ['1\r,2,"3\r","\r', '"1""x,2,3,4', '1,2,"3\r4",5\r"', '\\\r,"\r']


@pytest.fixture
def reads(monkeypatch):
    """Rows that were handed to a reader or checked, so far."""
    counts = {"checked": 0, "read": 0}

    def counting(module, name, kind, size):
        call = getattr(module, name)

        def counted(first, *args, **options):
            counts[kind] += size(first)
            return call(first, *args, **options)

        monkeypatch.setattr(module, name, counted)

    for module in (text_log, parquet_log):
        counting(module, "to_clicks", "checked", lambda rows: len(rows.table))
    lines = lambda data: data.count(b"\n") + (not data.endswith(b"\n"))  # noqa: E731
    counting(csv_log, "parse_csv_lines", "read", lines)
    counting(json_log, "parse_json_lines", "read", lines)
    monkeypatch.setattr(
        json_log, "read_each", _counted_each(json_log.read_each, counts)
    )
    return counts


def _counted_each(read_each, counts):
    def counted(path, lines, *args):
        counts["read"] += len(lines)
        return read_each(path, lines, *args)

    return counted


def rows_of(bad, share, size=1200):
    rows = [(n // 3, n % 5, T + n, n % 3) for n in range(size)]
    return [bad(*row) if n % share == 1 else row for n, row in enumerate(rows)]


@pytest.mark.parametrize(("sizes", "share"), [*zip(SIZES, (2, 20), strict=True)])
@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("name", FORMATS)
def test_bad_values(tmp_path, capsys, reads, name, case, share, sizes):
    rows = rows_of(BAD[case], share)
    if name == "parquet":
        texts = [any(isinstance(row[n], str) for row in rows) for n in range(4)]
        rows = [
            tuple(str(v) if text else v for v, text in zip(row, texts, strict=True))
            for row in rows
        ]
    log = write_log(tmp_path / f"a.{name}", rows)
    args = ("--time=t", "--order=p", "--skip_bad_rows")
    found = sessions_of(log, tmp_path / "out", *args, sizes=sizes)
    bad = len(range(1, 1200, share))
    assert f"warning: {bad:,} malformed rows left out" in capsys.readouterr().err
    good = [row for n, row in enumerate(rows_of(BAD[case], share)) if n % share != 1]
    kept = write_log(tmp_path / "good.parquet", good)
    counted = dict(reads)
    assert found == sessions_of(kept, tmp_path / "good", *args[:2])
    assert counted["checked"] == 1200
    assert counted["read"] <= 2 * 1200 + 200  # of blocks, headers and last lines


@pytest.mark.parametrize(("sizes", "share"), [*zip(SIZES, (2, 20), strict=True)])
@pytest.mark.parametrize(
    ("name", "wrong"),
    [(name, w) for name, some in WRONG.items() for w in some],
    ids=str,
)
def test_bad_lines(tmp_path, capsys, reads, name, wrong, share, sizes):
    wrong = wrong if isinstance(wrong, bytes) else wrong.encode()
    log = write_log(tmp_path / f"a.{name}", rows_of(lambda *row: row, 2))
    head, *lines = [b"", *log.read_bytes().splitlines()][name == "csv" :]
    good = [line for n, line in enumerate(lines) if n % share != 1]
    kept = tmp_path / f"good.{name}"
    kept.write_bytes(b"\n".join([head, *good]))
    bad = [wrong if n % share == 1 else line for n, line in enumerate(lines)]
    log.write_bytes(b"\n".join([head, *bad]))
    args = ("--time=t", "--order=p", "--skip_bad_rows")
    found = sessions_of(log, tmp_path / "out", *args, sizes=sizes)
    counted = dict(reads)
    number = len(lines) - len(good)
    assert f"warning: {number:,} malformed rows left out" in capsys.readouterr().err
    assert found == sessions_of(kept, tmp_path / "good", *args[:2])
    assert counted["read"] <= 3 * 1200 + 200
