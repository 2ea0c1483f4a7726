"""Fields within others, by dots, and rows that are many events."""

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from any_format import sessions_of, status_of
from log_sizes import small_sizes

from data_prep.programs.log_program import LOG_SIZES
from data_prep.reading import text_files, text_log
from data_prep.reading.bad_rows import BadRows
from data_prep.reading.click_log import ReadSizes
from data_prep.reading.columns import LogColumns
from data_prep.reading.formats import LogForm, open_log
from tron_jax.data.sessions import open_prepared

T = 1_700_000_000
FORMATS = ("jsonl", "parquet")
SIZES = [LOG_SIZES, small_sizes(text_bytes=300, part_rows=20)]


def write(path, rows):
    """Writes objects as they are; of Parquet, with the types that suit all."""
    path.parent.mkdir(exist_ok=True)
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def refused(log, capsys, *args):
    assert status_of(log, log.parent / "refused", *args) == 1
    *_, line = capsys.readouterr().err.splitlines()
    return line.removeprefix("error: ")


@pytest.mark.parametrize("sizes", SIZES, ids=["whole", "blocks"])
@pytest.mark.parametrize("name", FORMATS)
def test_fields_by_dots(tmp_path, name, sizes):
    rows = [
        {
            "s": n // 3,
            "item": {"id": f"i{n % 3}", "of": {"shop": 1}},
            "t": {"$date": T + n},
        }
        for n in range(90)
    ]
    log = write(tmp_path / f"log.{name}", rows)
    args = ("--item=item.id", "--time=t.$date", "--order=item.of.shop")
    found = sessions_of(log, tmp_path / "out", *args, sizes=sizes)
    assert found == [(n, ["i0", "i1", "i2"]) for n in range(30)]


@pytest.mark.parametrize("name", FORMATS)
def test_a_column_that_is_called_so_goes_first(tmp_path, name):
    rows = [{"s": 1, "item": {"id": 5 + n}, "item.id": n} for n in (1, 2)]
    log = write(tmp_path / f"log.{name}", rows)
    assert sessions_of(log, tmp_path / "out", "--item=item.id") == [(1, [1, 2])]


def baskets(n=40):
    """Sessions of 0 to 3 events, every fourth of them given as two rows."""
    rows = []
    for s in range(n):
        events = [
            {"id": k, "at": {"sec": T + 10 * s + k}, "p": -k, "x": "y"}
            for k in range(s % 4)
        ]
        rows.append({"s": s, "events": events, "note": None})
    return [*rows, *({"s": s, "events": rows[s + 3]["events"]} for s in range(0, n, 4))]


def expected(n=40):
    found = {s: list(range(s % 4)) for s in range(n)}
    return {s: items or [0, 1, 2] for s, items in found.items() if s % 4 != 1}


@pytest.mark.parametrize("sizes", SIZES, ids=["whole", "blocks"])
@pytest.mark.parametrize("name", FORMATS)
def test_the_events_of_a_session_in_one_row(tmp_path, name, sizes):
    log = write(tmp_path / f"log.{name}", baskets())
    args = ("--item=events.id", "--time=events.at.sec")
    found = sessions_of(log, tmp_path / "out", *args, sizes=sizes)
    assert dict(found) == expected()
    found = sessions_of(log, tmp_path / "by", *args, "--order=events.p", sizes=sizes)
    assert dict(found) == {s: items[::-1] for s, items in expected().items()}


@pytest.mark.parametrize("name", FORMATS)
def test_lists_of_plain_values(tmp_path, name):
    rows = [
        {"s": 1, "items": [1, 2], "times": [T + 1, T], "day": T},
        {"s": 2, "items": [2, 1], "times": [T + 2, T + 3], "day": T},
    ]
    log = write(tmp_path / f"log.{name}", rows)
    args = ("--item=items[]", "--time=times[]")
    assert sessions_of(log, tmp_path / "out", *args) == [(1, [2, 1]), (2, [2, 1])]
    args = ("--item=items[]", "--time=day")
    assert sessions_of(log, tmp_path / "day", *args) == [(1, [1, 2]), (2, [2, 1])]


@pytest.mark.parametrize("name", FORMATS)
def test_lists_of_text_and_of_times(tmp_path, name):
    times = ["2023-11-14 22:13:20 UTC", "2023-11-14 22:13:19 UTC"]
    rows = [{"u": [f"u{n}"] * 2, "i": ["007", "7"], "t": times} for n in range(3)]
    log = write(tmp_path / f"log.{name}", rows)
    args = ("--session=u[]", "--item=i[]", "--time=t[]")
    found = sessions_of(log, tmp_path / "out", *args)
    assert found == [(f"u{n}", ["7", "007"]) for n in range(3)]


BAD_ROWS = {
    "no list": ({"s": 9, "e": None, "x": [1, 2]}, "column 'e.i': empty; expected a"),
    "uneven": ({"s": 9, "e": [{"i": 1}], "x": [1, 2]},
               "1 of 'e.i', but 2 of 'x[]'; expected lists of the same length"),
    "an event without": ({"s": 9, "e": [{"i": 1}, {"i": None}], "x": [1, 2]},
                         "column 'e.i': empty"),
    "an event that is none": ({"s": 9, "e": [{"i": 1}, None], "x": [1, 2]},
                              "column 'e.i': empty"),
}  # fmt: skip


@pytest.mark.parametrize("bad", BAD_ROWS)
@pytest.mark.parametrize("name", FORMATS)
def test_bad_rows_of_events(tmp_path, capsys, name, bad):
    row, problem = BAD_ROWS[bad]
    good = [{"s": s, "e": [{"i": 1}, {"i": 2}], "x": [2, 1]} for s in range(5)]
    log = write(tmp_path / f"log.{name}", [*good[:3], row, *good[3:]])
    args = ("--item=e.i", "--order=x[]")
    line = refused(log, capsys, *args)
    assert "row 4" in line
    assert problem in line
    found = sessions_of(log, tmp_path / "out", *args, "--skip_bad_rows")
    assert found == [(s, [2, 1]) for s in range(5)]
    assert "1 malformed row left out" in capsys.readouterr().err


ODD_LINES = {
    '{"s": 9, "e": {"i": 1}}': "column 'e.i': expected a list, as in other rows",
    '{"s": 9, "e": [{"i": [1]}]}': "column 'e.i': list cannot be an id",
    '{"s": 9, "e": [{"i": 1, "i": 2}]}': "field 'i' is there 2 times",
    '{"s": 9, "e": [{"i": 1.5}]}': "column 'e.i': 1.5: ids must be whole",
    '{"s": 9, "e": [{"i": {}}]}': "column 'e.i': dict cannot be an id",
}


@pytest.mark.parametrize("odd", ODD_LINES)
def test_odd_lines_among_lists(tmp_path, capsys, odd):
    good = [{"s": s, "e": [{"i": 1}, {"i": 2}]} for s in range(5)]
    log = write(tmp_path / "log.jsonl", good)
    log.write_text(log.read_text() + odd + "\n")
    line = refused(log, capsys, "--item=e.i")
    assert f"row 6{':' if 'field' in ODD_LINES[odd] else ', '}" in line
    assert ODD_LINES[odd] in line
    found = sessions_of(log, tmp_path / "out", "--item=e.i", "--skip_bad_rows")
    assert found == [(s, [1, 2]) for s in range(5)]


def test_ids_of_several_types_in_lists(tmp_path):
    rows = [
        {"s": 1, "e": [{"i": 1}, {"i": "x"}]},
        {"s": 2, "e": [{"i": 2.0}, {"i": 1}]},
    ]
    log = write(tmp_path / "log.jsonl", rows)
    found = sessions_of(log, tmp_path / "out", "--item=e.i")
    assert found == [(1, ["1", "x"]), (2, ["2", "1"])]


@pytest.mark.parametrize("name", FORMATS)
def test_a_column_that_holds_others(tmp_path, capsys, name):
    rows = [{"s": 1, "item": {"id": 1, "no": 2}, "l": [{"k": 1}], "m": [1]}] * 2
    log = write(tmp_path / f"log.{name}", rows)
    holds = f"{log}: column 'item': it holds item.id, item.no; name one of them"
    assert refused(log, capsys, "--item=item") == holds
    line = refused(log, capsys, "--item=l[]")
    assert line == f"{log}: column 'l[]': it holds l.k; name one of them"
    assert "it has s, item, l, m, item.id, item.no, l[], l.k, m[]" in refused(
        log, capsys, "--item=item.it"
    )


@pytest.mark.parametrize("other", ["--session=l", "--session=l[]", "--time=item"])
@pytest.mark.parametrize("name", FORMATS)
def test_a_column_and_what_it_holds(tmp_path, capsys, name, other):
    rows = [{"s": 1, "item": {"id": 1}, "l": [{"k": 1}]}] * 2
    log = write(tmp_path / f"log.{name}", rows)
    line = refused(log, capsys, "--item=l.k", "--order=item.id", other)
    assert f"{log}: column {other.partition('=')[2]!r}: it holds " in line


def test_a_list_of_lists_is_no_event(tmp_path, capsys):
    log = write(tmp_path / "log.parquet", [{"s": 1, "m": [[1], [2]]}] * 2)
    assert "column 'm[]': list<" in refused(log, capsys, "--item=m[]")


@pytest.mark.parametrize("kind", [pa.list_, pa.large_list, lambda of: pa.list_(of, 2)])
def test_lists_of_each_type(tmp_path, kind):
    struct = pa.struct([("i", pa.int64()), ("t", pa.timestamp("ms"))])
    events = [[{"i": 1, "t": 5_000}, {"i": 2, "t": 4_000}], [{"i": 2, "t": 6_000}] * 2]
    table = pa.table({"s": [1, 2], "e": pa.array(events, kind(struct))})
    pq.write_table(table, tmp_path / "log.parquet")
    args = ("--item=e.i", "--time=e.t")
    found = sessions_of(tmp_path / "log.parquet", tmp_path / "out", *args)
    assert found == [(1, [2, 1]), (2, [2, 2])]


def test_a_dictionary_within_a_list(tmp_path):
    coded = pa.array(["a", "b", "a", "b"]).dictionary_encode()
    lists = pa.ListArray.from_arrays([0, 2, 4], coded)
    pq.write_table(pa.table({"s": [1, 2], "e": lists}), tmp_path / "log.parquet")
    found = sessions_of(tmp_path / "log.parquet", tmp_path / "out", "--item=e[]")
    assert found == [(1, ["a", "b"]), (2, ["a", "b"])]


@pytest.mark.parametrize("name", FORMATS)
def test_rows_are_counted_as_events(tmp_path, name):
    rows = [{"s": s, "e": [{"i": k} for k in range(50)]} for s in range(200)]
    log = write(tmp_path / f"log.{name}", rows)
    opened = open_log([log], LogForm(LogColumns("s", "e.i")), LOG_SIZES.read)
    assert 10_000 <= opened.rows < 20_000


def test_parts_of_other_shapes_are_one_log(tmp_path):
    write(tmp_path / "d" / "a.parquet", [{"s": 1, "e": [{"i": 1}, {"i": 2}]}])
    write(
        tmp_path / "d" / "b.jsonl", [{"s": 2, "e": {"i": 1}}, {"s": 2, "e": {"i": 3}}]
    )
    write(tmp_path / "d" / "c.parquet", [{"s": 3, "e.i": 1}, {"s": 3, "e.i": 1}])
    found = sessions_of(tmp_path / "d", tmp_path / "out", "--item=e.i")
    assert found == [(1, [1, 2]), (2, [1, 3]), (3, [1, 1])]
    assert open_prepared(tmp_path / "out").train.num_sessions == 3


def test_lists_that_are_empty_at_first(tmp_path, capsys):
    empty = [{"s": 9, "e": []}] * 1200
    rows = [{"s": 1, "e": [{"of": {"id": 5}}, {"of": {"id": 6}}]}]
    log = write(tmp_path / "d" / "1.jsonl", rows)
    write(tmp_path / "d" / "0.jsonl", empty)
    write(tmp_path / "d" / "2.jsonl", [*empty, rows[0] | {"s": 2}])
    found = sessions_of(log.parent, tmp_path / "out", "--item=e.of.id")
    assert found == [(1, [5, 6]), (2, [5, 6])]
    line = refused(log.parent, capsys, "--item=e[].id")
    assert "0.jsonl: no column 'e[].id' (--item); it has s, e, e[]" in line


@pytest.mark.parametrize("text_bytes", [3000, 1 << 25])
@pytest.mark.parametrize("first", [{"e": []}, {"e": None}, {}, {"e": [{"i": None}]}])
def test_events_that_begin_late(tmp_path, first, text_bytes):
    """Their fields are looked for, and their times judged, where there are some."""
    at = "2023-11-14T22:13:2"
    events = [{"i": 2, "t": f"{at}5"}, {"i": 1, "t": f"{at}0"}]
    rows = [{"s": n, **first} for n in range(1500)]
    rows += [{"s": n, "e": events} for n in range(5000, 5009)]
    args = ("--item=e.i", "--time=e.t", "--skip_bad_rows")
    sizes = small_sizes(text_bytes=text_bytes)
    log = write(tmp_path / "log.jsonl", rows)
    found = sessions_of(log, tmp_path / "out", *args, sizes=sizes)
    rows[0] = {"s": 0, "e": first.get("e")}
    log = write(tmp_path / "log.parquet", rows)
    assert found == sessions_of(log, tmp_path / "parquet", *args, sizes=sizes)
    assert found == [(n, [1, 2]) for n in range(5000, 5009)]


@pytest.mark.parametrize("blank", ["", "\n \n"])
@pytest.mark.parametrize("name", ["log.jsonl", "log.jsonl.gz"])
def test_a_first_line_of_json_that_is_long(tmp_path, name, blank):
    events = [{"i": n % 5, "t": T + n, "page": "y" * 40} for n in range(15_000)]
    rows = [{"s": 1, "e": events}, {"s": 2, "e": events[3:5]}]
    args = ("--item=e.i", "--time=e.t")
    parquet = write(tmp_path / "log.parquet", rows)
    text = blank + write(tmp_path / "plain.jsonl", rows).read_text()
    assert len(text) > 1 << 20
    data = text.encode()
    log = tmp_path / name
    log.write_bytes(gzip.compress(data) if name.endswith("z") else data)
    found = sessions_of(log, tmp_path / "out", *args)
    assert found == sessions_of(parquet, tmp_path / "plain", *args)


def test_a_line_that_never_ends(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(text_files, "_LONGEST_LINE", 3 << 20)
    log = write(tmp_path / "log.jsonl", [{"s": 1, "i": 1, "x": "y" * (4 << 20)}])
    line = refused(log, capsys)
    assert line == f"{log}: line 1: longer than 3,145,728 bytes"


def test_a_field_that_is_misspelt_is_not_looked_for_far(tmp_path, capsys, monkeypatch):
    rows = [{"s": 1, "e": [{"i": 1}], "q": "\\"}] * 3000
    log = write(tmp_path / "log.jsonl", [*rows, {"s": 1, "e": [{"j": 1}, {"j": 2}]}])
    monkeypatch.setattr(text_log, "_ABSENT_BYTES", 30_000)
    sizes = small_sizes(text_bytes=10_000)
    assert status_of(log, tmp_path / "out", "--item=e.j", sizes=sizes) == 1
    assert "no column 'e.j' (--item)" in capsys.readouterr().err
    monkeypatch.undo()
    args = ("--item=e.j", "--skip_bad_rows")
    assert sessions_of(log, tmp_path / "out", *args) == [(1, [1, 2])]


def test_of_long_lists_few_are_read_at_once(tmp_path):
    rows = [{"s": n, "e": list(range(100))} for n in range(200)]
    log = write(tmp_path / "log.parquet", rows)
    form = LogForm(LogColumns("s", "e[]"))
    opened = open_log([log], form, ReadSizes(parquet_rows=1000))
    batches = opened.batches(opened.kinds, BadRows(skip=False))
    sizes = [len(batch.session) for batch in batches]
    assert sum(sizes) == 20_000
    assert max(sizes) <= 1000
