"""``--order``: by the numbers, whatever their size, kind and format."""

import decimal
import itertools
import random

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from any_format import FORMATS, sessions_of, status_of, write_log
from log_sizes import small_sizes

from data_prep.programs.log_program import LOG_SIZES
from data_prep.reading.orders import read_order

T = 1_700_000_000
SMALL = small_sizes(text_bytes=200, parquet_rows=3, part_rows=10)
SIZES = pytest.mark.parametrize("sizes", [LOG_SIZES, SMALL], ids=["whole", "blocks"])
NANO = 1_700_000_000_000_000_000
ORDERS = {
    "small": [3, 1, 2, -4],
    "negative": [-1, -3, 0, -2],
    "nanoseconds": [NANO + 5, NANO + 1, NANO + 3, NANO + 4],
    "the least int64": [NANO + 5, -(2**63), NANO + 1, NANO + 3],
    "both ends": [2**63 - 1, -(2**63), 0, -1],
    "beyond int64": [2**64 - 1, 2**63, 5, 2**64 - 2],
    "fractions": [0.5, -0.25, 0.125, 0.375],
    "a fraction late": [NANO + 5, NANO + 1, NANO + 3, 0.5],
    "a fraction first": [0.5, NANO + 1, NANO + 3, NANO + 2],
    "30 digits": [10**29 + 3, 10**29 + 1, 10**29 + 2, 7],
}


def rows_of(orders, quoted=False):
    """Sessions of as many events as there are orders, in different permutations."""
    rows = []
    for session, some in enumerate(itertools.permutations(range(len(orders)))):
        for item in some:
            order = str(orders[item]) if quoted else orders[item]
            rows.append((session, item, T, order))
    return rows


def column_of(orders):
    """What Parquet would hold."""
    if any(isinstance(one, float) for one in orders):
        if max(map(abs, orders)) < 2**53:
            return pa.array(orders, pa.float64())
        exact = [decimal.Decimal(one) for one in orders]
        return pa.array([round(one, 3) for one in exact], pa.decimal128(38, 3))
    if min(orders) >= -(2**63) and max(orders) < 2**63:
        return pa.array(orders, pa.int64())
    if min(orders) >= 0 and max(orders) < 2**64:
        return pa.array(orders, pa.uint64())
    return pa.array([decimal.Decimal(one) for one in orders], pa.decimal128(38, 0))


@SIZES
@pytest.mark.parametrize("quoted", [False, True])
@pytest.mark.parametrize("case", ORDERS)
@pytest.mark.parametrize("name", FORMATS)
def test_every_order_in_every_format(tmp_path, name, case, quoted, sizes):
    orders = ORDERS[case]
    rows = rows_of(orders, quoted)
    log = write_log(
        tmp_path / f"a.{name}", [row[:3] if name == "parquet" else row for row in rows]
    )
    if name == "parquet":
        column = [row[3] for row in rows]
        column = pa.array(column) if quoted else column_of(column)
        pq.write_table(pq.read_table(log).append_column("p", column), log)
    args = ("--time=t", "--order=p")
    found = sessions_of(log, tmp_path / "out", *args, sizes=sizes)
    expected = sorted(range(len(orders)), key=lambda item: orders[item])
    assert [items for _, items in found] == [expected] * 24


KINDS = [
    pa.int8(), pa.uint32(), pa.int64(), pa.float32(), pa.float64(),
    pa.decimal128(38, 0), pa.decimal128(38, 9), pa.decimal128(20, 0), pa.string(),
    pa.dictionary(pa.int32(), pa.string()),
]  # fmt: skip


@pytest.mark.parametrize("kinds", [*itertools.pairwise(KINDS)], ids=str)
def test_parts_of_other_types_are_ordered_alike(tmp_path, kinds):
    (tmp_path / "d").mkdir()
    for number, kind in enumerate(kinds):
        order = pa.array([30, 10, 20])
        if pa.types.is_dictionary(kind):
            order = order.cast(pa.string()).dictionary_encode()
        table = {"s": [number] * 3, "i": [1, 2, 3], "p": order.cast(kind)}
        pq.write_table(pa.table(table), tmp_path / f"d/{number}.parquet")
    found = sessions_of(tmp_path / "d", tmp_path / "out", "--order=p")
    assert found == [(0, [2, 3, 1]), (1, [2, 3, 1])]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns", "date32", "date64"])
def test_times_give_an_order_as_fine_as_they_are(tmp_path, unit):
    numbers = [20_000, 19_999, 20_001, -3]
    kind = getattr(pa, unit)() if unit.startswith("date") else pa.timestamp(unit)
    width = pa.int32() if unit == "date32" else pa.int64()
    scale = 86_400_000 if unit == "date64" else 1
    column = pa.array([n * scale for n in numbers], width).cast(kind)
    table = {"s": [1] * 4, "i": [1, 2, 3, 4], "p": column}
    pq.write_table(pa.table(table), tmp_path / "a.parquet")
    found = sessions_of(tmp_path / "a.parquet", tmp_path / "out", "--order=p")
    assert found == [(1, [4, 2, 1, 3])]


@pytest.mark.parametrize("name", FORMATS)
def test_text_times_order_too(tmp_path, name):
    stamps = [f"2014-04-07T10:51:09.00000000{n}Z" for n in (3, 1, 2)]
    rows = [(1, n, stamp) for n, stamp in enumerate(stamps)]
    log = write_log(tmp_path / f"a.{name}", rows, names=("s", "i", "p"))
    assert sessions_of(log, tmp_path / "out", "--order=p") == [(1, [1, 2, 0])]


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("odd", [None, "x", "", float("nan")])
def test_what_gives_no_order_is_a_bad_row(tmp_path, capsys, name, odd):
    rows = [list(row) for row in rows_of([3, 1, 2, 4])]
    rows[40][3] = odd
    if name == "parquet":
        rows = [[*row[:3], None if row[3] is None else str(row[3])] for row in rows]
    log = write_log(tmp_path / f"a.{name}", rows)
    assert status_of(log, tmp_path / "out", "--order=p") == 1
    assert f"row {41 + (name == 'csv')}, column 'p': " in capsys.readouterr().err
    args = ("--order=p", "--skip_bad_rows")
    assert len(sessions_of(log, tmp_path / "out", *args)) == 24


def test_pairs_compare_as_the_numbers_do():
    """Also where floats are coarse, near both ends of int64, and for fractions."""
    draw = random.Random(0)
    numbers = [draw.randrange(-(2**63), 2**63) for _ in range(300)]
    numbers += [near + d for near in (2**53, -(2**60), 2**63 - 9) for d in range(9)]
    numbers += [-(2**63), 0, -1, 1]
    read = read_order(pa.chunked_array([numbers]), None, pa.float64()).values
    np.testing.assert_array_equal(read.whole, numbers)
    for (high, low), number in zip(read.pairs.tolist(), numbers, strict=True):
        assert int(high) + int(low) == number
        assert abs(low) <= 512
    texts = [str(n) for n in numbers] + ["0.5", "-0.5", "1e300", "1e-300"]
    read = read_order(pa.chunked_array([texts]), None, pa.float64())
    assert not any(marked.any() for marked, _ in read.faults)
    by_pairs = np.lexsort((read.values.pairs[:, 1], read.values.pairs[:, 0]))
    exact = [decimal.Decimal(text) for text in texts]
    assert [exact[i] for i in by_pairs] == sorted(exact)


def test_whole_numbers_too_long_to_compare_are_refused(tmp_path, capsys):
    rows = rows_of([10**39 + 1, 10**39 + 2, 10**39, 1])
    log = write_log(tmp_path / "a.jsonl", rows)
    assert status_of(log, tmp_path / "out", "--order=p") == 1
    assert "has too many digits to order by" in capsys.readouterr().err


@pytest.mark.parametrize("null", [False, True])
def test_narrow_decimals_with_and_without_nulls(tmp_path, capsys, null):
    numbers = ["3.5", "1.25", "2"] + [None] * null
    order = pa.array([n and decimal.Decimal(n) for n in numbers], pa.decimal128(7, 2))
    table = pa.table({"s": [1] * len(order), "i": range(1, len(order) + 1), "p": order})
    pq.write_table(table, tmp_path / "a.parquet")
    args = ("--order=p", "--skip_bad_rows")
    assert sessions_of(tmp_path / "a.parquet", tmp_path / "out", *args) == [
        (1, [2, 3, 1])
    ]


@SIZES
def test_a_number_among_dates_is_malformed_whatever_its_block(tmp_path, capsys, sizes):
    stamps = [f"2014-04-07T10:51:{n % 60:02}Z" for n in range(120)]
    for at in (*range(0, 30, 3), *range(60, 90)):
        stamps[at] = 1_700_000_000.5
    rows = [(n // 2, n % 2, stamp) for n, stamp in enumerate(stamps)]
    log = write_log(tmp_path / "a.jsonl", rows, names=("s", "i", "p"))
    for flag in ("--order=p", "--time=p"):
        args = (flag, "--skip_bad_rows")
        sessions_of(log, tmp_path / flag, *args, sizes=sizes)
        assert "warning: 40 malformed rows left out" in capsys.readouterr().err
