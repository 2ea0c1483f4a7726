"""Times in every unit and form that logs are written in, and those nobody means."""

import datetime
import json
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from any_format import FORMATS, sessions_of, status_of, write_log
from log_sizes import small_sizes

from data_prep.reading.time_formats import read_format
from tron_jax.data.sessions import open_prepared

T = 1_700_000_000
ROWS = [(1, 2, T), (1, 1, T - 1), (2, 1, T + 2), (2, 2, T + 3)]
STARTS = [1_699_999_999_000_000, 1_700_000_002_000_000]
PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


def refused(log, capsys, *args):
    assert status_of(log, log.parent / "refused", "--time=t", *args) == 1
    *_, line = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    return line


def starts_of(log, out, *args):
    """Microseconds at which sessions 1 and 2 start, each of items 1 and 2."""
    assert sessions_of(log, out, "--time=t", *args) == [(1, [1, 2]), (2, [1, 2])]
    return open_prepared(out).train.start_time.cast(pa.int64()).to_pylist()


def written(form, offset=datetime.UTC):
    moments = [datetime.datetime.fromtimestamp(t, offset) for _, _, t in ROWS]
    rows = zip(ROWS, moments, strict=True)
    return [(s, i, moment.strftime(form)) for (s, i, _), moment in rows]


@pytest.mark.parametrize("unit", PER_SECOND)
@pytest.mark.parametrize("name", FORMATS)
def test_numbers_of_each_unit(tmp_path, name, unit):
    rows = [(s, i, t * PER_SECOND[unit]) for s, i, t in ROWS]
    log = write_log(tmp_path / f"log.{name}", rows)
    assert starts_of(log, tmp_path / "out", f"--time_unit={unit}") == STARTS


@pytest.mark.parametrize("name", FORMATS)
def test_nanoseconds_are_cut_not_rounded(tmp_path, name):
    rows = [(s, i, t * 10**9 + 1_999) for s, i, t in ROWS]
    log = write_log(tmp_path / f"log.{name}", rows)
    found = starts_of(log, tmp_path / "out", "--time_unit=ns")
    assert found == [start + 1 for start in STARTS]


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
@pytest.mark.parametrize("name", FORMATS)
def test_a_hint_of_the_unit_fits(tmp_path, capsys, name, unit):
    rows = [(s, i, t * PER_SECOND[unit]) for s, i, t in ROWS]
    log = write_log(tmp_path / f"log.{name}", rows)
    line = refused(log, capsys)
    assert "after the year 9999" in line
    hint = line.partition("? ")[2].partition(")")[0]
    assert hint == f"--time_unit={unit}"
    assert starts_of(log, tmp_path / "out", hint) == STARTS


def test_a_hint_of_the_calendar(tmp_path, capsys):
    log = write_log(tmp_path / "log.csv", written("%Y%m%d%H%M%S"))
    hint = refused(log, capsys).partition("? ")[2].partition(")")[0]
    assert hint == "--time_format=%Y%m%d%H%M%S"
    assert starts_of(log, tmp_path / "out", hint) == STARTS


@pytest.mark.parametrize("end", [" UTC", ".000 +0000", ".000000 UTC", ".000Z", " Z"])
@pytest.mark.parametrize("name", FORMATS)
def test_zones_behind_a_blank(tmp_path, name, end):
    log = write_log(tmp_path / f"log.{name}", written(f"%Y-%m-%d %H:%M:%S{end}"))
    assert starts_of(log, tmp_path / "out") == STARTS


@pytest.mark.parametrize("name", FORMATS)
def test_one_form_of_zones_among_others(tmp_path, name):
    rows = written("%Y-%m-%dT%H:%M:%SZ")
    rows[1] = written("%Y-%m-%d %H:%M:%S.000 +0000")[1]
    rows[2] = (*rows[2][:2], "2023-11-14 23:13:22 +01:00")
    log = write_log(tmp_path / f"log.{name}", rows)
    assert starts_of(log, tmp_path / "out") == STARTS


@pytest.mark.parametrize("name", FORMATS)
def test_what_stands_behind_a_blank_and_is_no_zone(tmp_path, capsys, name):
    rows = written("%Y-%m-%d %H:%M:%S UTC")
    rows[2] = (*rows[2][:2], "2023-11-14 22:13:20 CET")
    log = write_log(tmp_path / f"log.{name}", rows)
    row = 3 + (name == "csv")
    where = f"row {row}, column 't': '2023-11-14 22:13:20 CET' is no time"
    assert where in refused(log, capsys)


@pytest.mark.parametrize("text", [False, True])
def test_text_by_views(tmp_path, text):
    values = [t for _, _, t in ROWS]
    texts = (
        [x for _, _, x in written("%Y-%m-%dT%H:%M:%SZ")] if text else map(str, values)
    )
    columns = {
        "s": [1, 1, 2, 2],
        "i": [2, 1, 1, 2],
        "t": pa.array(texts, pa.string_view()),
    }
    pq.write_table(pa.table(columns), tmp_path / "log.parquet")
    assert starts_of(tmp_path / "log.parquet", tmp_path / "out") == STARTS


FORMS = ["%d.%m.%Y %H:%M:%S", "%m/%d/%y %I:%M:%S %p", "%b %d %Y %T", "%Y%m%d%H%M%S",
         "%A, %d %B %Y %H.%M.%S", "%F %T.%f", "%d/%m/%Y %H:%M:%S %z"]  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", FORMATS)
def test_forms(tmp_path, name, form):
    zone = datetime.timezone(datetime.timedelta(hours=-8, minutes=-30))
    rows = written(form, zone if "%z" in form else datetime.UTC)
    log = write_log(tmp_path / f"log.{name}", rows)
    assert starts_of(log, tmp_path / "out", f"--time_format={form}") == STARTS


@pytest.mark.parametrize("form", [*FORMS, "%d%m%y"])
def test_a_form_reads_what_strptime_does(form):
    """And refuses what it refuses."""
    long = form.replace("%F", "%Y-%m-%d").replace("%T", "%H:%M:%S")
    base = datetime.datetime(1969, 12, 31, 23, 59, 58, 123456, datetime.UTC)
    moments = [base + datetime.timedelta(days=97.31 * n) for n in range(-100, 250)]
    texts = [moment.strftime(form) for moment in moments]
    texts += [text.replace("1", "3") for text in texts] + ["", "x", f"{texts[0]} "]
    found = read_format(form).parse(pa.array(texts, pa.large_string())).to_pylist()
    for text, got in zip(texts, found, strict=True):
        try:
            moment = datetime.datetime.strptime(text, long)
        except ValueError:
            moment = None
        if moment is not None and moment.tzinfo is None:
            moment = moment.replace(tzinfo=datetime.UTC)
        assert got == moment, text


@pytest.mark.parametrize("name", FORMATS)
def test_numbers_of_a_form(tmp_path, name):
    rows = [(s, i, int(day)) for s, i, day in written("%Y%m%d")]
    log = write_log(tmp_path / f"log.{name}", rows)
    args = ("--time=t", "--time_format=%Y%m%d")
    assert [ids for _, ids in sessions_of(log, tmp_path / "out", *args)] == [
        [2, 1],
        [1, 2],
    ]
    (start, _) = open_prepared(tmp_path / "out").train.start_time.to_pylist()
    assert start == datetime.datetime(2023, 11, 14, tzinfo=datetime.UTC)


@pytest.mark.parametrize("bad", ["31.02.2023 10:00:00", "14.11.2023 25:00:00",
                                 "14.11.2023", "2023-11-14T10:00:00"])  # fmt: skip
@pytest.mark.parametrize("name", FORMATS)
def test_text_of_another_form_is_a_bad_row(tmp_path, capsys, name, bad):
    form = "--time_format=%d.%m.%Y %H:%M:%S"
    rows = [*written("%d.%m.%Y %H:%M:%S"), (9, 9, bad)]
    log = write_log(tmp_path / f"log.{name}", rows)
    line = refused(log, capsys, form)
    row = 5 + (name == "csv")
    assert (
        f"row {row}, column 't': {bad!r} is no time; expected one of the form" in line
    )
    assert starts_of(log, tmp_path / "out", form, "--skip_bad_rows") == STARTS


def test_forms_that_are_none(tmp_path, capsys):
    log = write_log(tmp_path / "log.csv", ROWS)
    for form, why in {
        "%Y": "no date",
        "%Y-%m-%d %Q": "%Q is unknown; expected",
        "%Y-%m-%d %d": "twice",
        "%Y-%m-%d %I:%M": "expected %H, or %I with %p",
    }.items():
        line = refused(log, capsys, f"--time_format={form}")
        assert line.startswith(f"error: --time_format={form}: ")
        assert why in line


def test_floats_have_no_form(tmp_path, capsys):
    log = write_log(tmp_path / "log.parquet", [(1, 1, 20231114.0)] * 2)
    assert "double has no form" in refused(log, capsys, "--time_format=%Y%m%d")


@pytest.mark.parametrize("text_bytes", [3000, 1 << 25])
@pytest.mark.parametrize("empty", ["t", "p"])
@pytest.mark.parametrize("name", ["csv", "jsonl"])
def test_text_is_judged_by_the_first_there_is(tmp_path, name, empty, text_bytes):
    """However many rows have none: Parquet reads on, too."""
    clock = [f"2023-11-14 22:13:{n % 60:02d}" for n in range(1500)]
    rows = [(n // 3, n % 3, t, f"{t[:-2]}{59 - n % 3}") for n, t in enumerate(clock)]
    at = "sitp".index(empty)
    for n in range(1200):
        rows[n] = (*rows[n][:at], None, *rows[n][at + 1 :])
    args = ("--time=t", "--order=p", "--skip_bad_rows")
    sizes = small_sizes(text_bytes=text_bytes)
    kinds = {"t": pa.string(), "p": pa.string()}
    found = [
        sessions_of(write_log(log, rows, kinds=kinds), out, *args, sizes=sizes)
        for log, out in (
            (tmp_path / f"log.{one}", tmp_path / one) for one in ("parquet", name)
        )
    ]
    assert found[0] == found[1]
    assert sorted(found[1]) == [(s, [2, 1, 0]) for s in range(400, 500)]


@pytest.mark.parametrize("long", ["y" * 1_100_000, '"' + "y" * 1_100_000 + '"'])
def test_a_first_row_of_csv_that_is_long(tmp_path, long):
    time = "2023-11-14 22:13:20"
    log = tmp_path / "log.csv"
    log.write_text(f"s,i,t,x\n1,1,{time},{long}\n1,2,{time},z\n")
    assert sessions_of(log, tmp_path / "out", "--time=t") == [(1, [1, 2])]


def warned(log, out, capsys, *args):
    """Prepares a log with odd times; returns what is said of it."""
    assert status_of(log, out, "--time=t", *args) == 0
    return capsys.readouterr().err


def daily(first, days=60):
    return [(s, i, first + 86_400 * s) for s in range(1, days + 1) for i in (1, 2)]


@pytest.mark.parametrize(("times", "args", "hint"), [
    ([20231114, 20231115], (), "--time_format=%Y%m%d"),
    ([45231.9, 45232.5], (), "days as Excel counts them"),
    ([T, T + 5], ("--time_unit=ms",), "--time_unit=s"),
    ([1, 2], (), ""),
])  # fmt: skip
@pytest.mark.parametrize("name", FORMATS)
def test_all_times_in_1970(tmp_path, capsys, name, times, args, hint):
    rows = [(n, item, t) for n, t in enumerate(times) for item in (1, 2)]
    log = write_log(tmp_path / f"log.{name}", rows)
    said = warned(log, tmp_path / "out", capsys, *args)
    assert "column 't': all times lie in 1970 (1970-0" in said
    assert hint in said
    line = refused(log, capsys, *args, "--test_days=1")
    assert "all times lie in 1970" in line
    assert "(--allow_odd_times lets it)" in line
    split = (*args, "--test_days=0.00000001", "--allow_odd_times")
    assert "all times lie in 1970" in warned(log, tmp_path / "b", capsys, *split)


def test_all_times_far_ahead(tmp_path, capsys):
    log = write_log(tmp_path / "log.csv", daily(20_231_114_000))
    said = warned(log, tmp_path / "out", capsys)
    assert "all times lie far ahead (2611-0" in said


@pytest.mark.parametrize(("form", "unit"), [
    ("%Y%m%d%H%M", "s"), ("%Y%m%d%H%M%S", "ms"),
])  # fmt: skip
def test_numbers_of_a_calendar_split_nothing(tmp_path, capsys, form, unit):
    rows = [
        (s, i, int(time.strftime(form, time.gmtime(t)))) for s, i, t in daily(T, 120)
    ]
    log = write_log(tmp_path / "log.csv", rows)
    line = refused(log, capsys, "--test_days=1", f"--time_unit={unit}")
    assert f"--time_format={form}" in line
    assert "(--allow_odd_times lets it)" in line


def test_times_that_begin_at_0_can_be_split(tmp_path, capsys):
    log = write_log(tmp_path / "log.csv", daily(0))
    assert "all times lie in 1970" in warned(
        log, tmp_path / "out", capsys, "--test_days=1.5"
    )
    assert open_prepared(tmp_path / "out").test.num_sessions == 2


def test_an_open_end_marked_9999(tmp_path, capsys):
    rows = daily(T)
    rows[-1] = (*rows[-1][:2], 253_402_300_799)
    log = write_log(tmp_path / "log.csv", rows)
    far = "some times are far from the others: 1 (9999-12-31) from 119 (2023-11-15 to"
    assert far in warned(log, tmp_path / "out", capsys)
    assert far in refused(log, capsys, "--test_days=1")
    said = warned(log, tmp_path / "split", capsys, "--test_days=1", "--allow_odd_times")
    assert far in said
    assert open_prepared(tmp_path / "split").test.num_sessions == 1


def test_an_early_time_splits_nothing(tmp_path, capsys):
    rows = daily(T)
    rows[0] = (1, 1, 0)
    log = write_log(tmp_path / "log.csv", rows)
    said = warned(log, tmp_path / "out", capsys, "--test_days=1")
    assert "others: 1 (1970-01-01) from 119 (2023-11-15 to 2024-01-13)" in said


@pytest.mark.parametrize("years", [[0, 1, 2, 3, 5, 6], [0, 0.5, 1]])
def test_years_without_events_are_not_odd(tmp_path, capsys, years):
    rows = [(n, i, T + int(n * 86_400 * 365)) for n in years for i in (1, 2)]
    log = write_log(tmp_path / "log.jsonl", [(json.dumps(s), i, t) for s, i, t in rows])
    assert warned(log, tmp_path / "out", capsys, "--test_days=1") == ""
