"""Folders, patterns and several files as one log."""

import functools
import gzip
import os
import tracemalloc

import pyarrow as pa
import pytest
from any_format import FORMATS, sessions_of, status_of, write_log
from log_sizes import small_sizes

from data_prep import events
from data_prep.programs.log_program import LOG_SIZES
from data_prep.reading.columns import LogColumns
from data_prep.reading.formats import LogForm, open_log
from data_prep.reading.places import list_files
from tron_jax.console.program import run
from tron_jax.data.sessions import open_prepared

T = 1_700_000_000
ROWS = [(n // 4, n % 5, T + n // 3) for n in range(120)]


def write_parts(folder, name, rows=ROWS, parts=7):
    """Writes rows to files whose order by path is that of the rows."""
    size = -(-len(rows) // parts)
    return [
        write_log(folder / f"part-{n:02}.{name}", rows[at : at + size])
        for n, at in enumerate(range(0, len(rows), size))
    ]


def refused(capsys, place, *args):
    assert status_of(place, place.parent / "refused", "--time=t", *args) == 1
    *_, line = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    return line.removeprefix("error: ")


def fingerprint_of(out, places, *args, sizes=LOG_SIZES):
    argv = ["events", *(f"--train={place}" for place in places), f"--out={out}"]
    argv += ["--session=s", "--item=i", "--time=t", "--min_item_support=1", *args]
    main = functools.partial(events.main, sizes=sizes)
    assert run(main, events.define_flags(), argv) == 0
    return open_prepared(out).fingerprint


@pytest.fixture
def whole(tmp_path):
    log = write_log(tmp_path / "whole.parquet", ROWS)
    return fingerprint_of(tmp_path / "whole", [log])


@pytest.mark.parametrize("name", FORMATS)
def test_parts_are_one_log(tmp_path, whole, name):
    files = write_parts(tmp_path / "d", name)
    folder, pattern = tmp_path / "d", tmp_path / "d" / f"*.{name}"
    for number, places in enumerate(([folder], [pattern], files)):
        assert fingerprint_of(tmp_path / f"out{number}", places) == whole
    sizes = small_sizes(text_bytes=100, part_rows=30, on_disk=True)
    assert fingerprint_of(tmp_path / "cut", [folder], sizes=sizes) == whole


def test_parts_of_several_formats_in_the_order_given(tmp_path, whole):
    files = [
        write_log(tmp_path / "z.csv", ROWS[:10]),
        write_log(tmp_path / "y.jsonl", ROWS[10:40]),
        write_log(tmp_path / "x.parquet", ROWS[40:70]),
        write_log(tmp_path / "w.parquet", ROWS[70:90]),
        write_log(tmp_path / "v.csv", ROWS[90:]),
    ]
    assert fingerprint_of(tmp_path / "out", files) == whole
    assert fingerprint_of(tmp_path / "backwards", files[::-1]) != whole
    sources = open_prepared(tmp_path / "out").stats["sources"]
    assert [source["file"] for source in sources] == [file.name for file in files]


def test_several_test_files(tmp_path):
    train, test = (tmp_path / name for name in ("train", "test"))
    files = [write_parts(train, "csv"), write_parts(test, "csv", parts=2)]
    argv = [f"--test={file}" for file in files[1]]
    several = fingerprint_of(tmp_path / "several", files[0], *argv)
    assert several == fingerprint_of(tmp_path / "one", [train], f"--test={test}")


def test_compressed_parts_and_what_lies_beside_them(tmp_path, whole):
    for path in write_parts(tmp_path / "d", "csv"):
        if path.name != "part-03.csv":
            path.with_name(f"{path.name}.gz").write_bytes(
                gzip.compress(path.read_bytes())
            )
            path.unlink()
    for name in ("_SUCCESS", ".part-00.csv.crc", "part-99.csv", "_temporary/0.csv"):
        (tmp_path / "d" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "d" / name).touch()
    (tmp_path / "d" / "part-98.csv.gz").write_bytes(gzip.compress(b"\n"))
    for number, place in enumerate((tmp_path / "d", tmp_path / "d" / "*")):
        assert fingerprint_of(tmp_path / f"out{number}", [place]) == whole
        sources = open_prepared(tmp_path / f"out{number}").stats["sources"]
        names = [source["file"] for source in sources]
        assert names == [
            f"d/part-{n:02}.csv{'' if n == 3 else '.gz'}" for n in range(7)
        ]


@pytest.mark.parametrize("name", FORMATS)
def test_a_part_may_have_its_own_columns_times_and_delimiter(tmp_path, whole, name):
    files = write_parts(tmp_path / "d", name)
    stamps = pa.array([t for *_, t in ROWS[18:36]]).cast(pa.timestamp("s", "UTC"))
    times = [moment.isoformat() for moment in stamps.to_pylist()]
    rows = [(0, t, s, i) for (s, i, _), t in zip(ROWS[18:36], times, strict=True)]
    write_log(files[1], rows, names=("more", "t", "s", "i"))
    if name == "csv":
        files[2].write_text(files[2].read_text().replace(",", ";"))
    assert fingerprint_of(tmp_path / "out", [tmp_path / "d"]) == whole


@pytest.mark.parametrize("name", ["csv", "jsonl"])
def test_folders_say_columns_of_text_too(tmp_path, name):
    for day, rows in (("2023-11-14", ROWS[:60]), ("2023-11-15", ROWS[60:])):
        for session in {s for s, *_ in rows}:
            some = [(i, f"{t}s") for s, i, t in rows if s == session]
            path = tmp_path / "d" / f"t={day}" / f"s={session:03}" / f"a.{name}"
            write_log(path, some, names=("i", "note"))
    found = sessions_of(tmp_path / "d", tmp_path / "out", "--time=t")
    assert [session for session, _ in found] == [f"{n:03}" for n in range(30)]
    starts = open_prepared(tmp_path / "out").train.start_time.to_pylist()
    assert [start.day for start in starts] == [14] * 15 + [15] * 15


def test_a_file_says_more_than_its_folders(tmp_path, whole):
    for path in write_parts(tmp_path / "d" / "s=7", "csv"):
        assert path.exists()
    assert fingerprint_of(tmp_path / "out", [tmp_path / "d"]) == whole


def test_patterns(tmp_path, monkeypatch):
    paths = [
        "a/1.csv",
        "a/b/2.csv",
        "a/b/_no.csv",
        "a/.c/3.csv",
        "a/_temporary/0/6.csv",
        "a/x=1/4.csv",
        "5.csv",
    ]
    for path in paths:
        write_log(tmp_path / path, ROWS[:8])
    monkeypatch.chdir(tmp_path)
    for pattern, expected in {
        "**/*.csv": ["5.csv", "a/1.csv", "a/b/2.csv", "a/x=1/4.csv"],
        "a/*": ["a/1.csv", "a/b/2.csv", "a/x=1/4.csv"],
        "a/**": ["a/1.csv", "a/b/2.csv", "a/x=1/4.csv"],
        "a/[b-x]*/?.csv": ["a/b/2.csv", "a/x=1/4.csv"],
    }.items():
        for place in (tmp_path / pattern, type(tmp_path)(pattern)):
            names = [file.name.removeprefix(f"{tmp_path.name}/")
                     for file in list_files(place)]  # fmt: skip
            assert names == expected, pattern


def test_a_file_whose_name_is_a_pattern(tmp_path, whole):
    for path in (tmp_path / "log[1].csv", tmp_path / "log1.csv"):
        write_log(path, ROWS if "[" in path.name else ROWS[:4])
    assert fingerprint_of(tmp_path / "out", [tmp_path / "log[1].csv"]) == whole


def test_places_without_a_log(tmp_path, capsys):
    (tmp_path / "d").mkdir()
    assert refused(capsys, tmp_path / "d") == (
        f"{tmp_path / 'd'}: the folder holds no Parquet file, CSV or JSON lines"
    )
    line = refused(capsys, tmp_path / "d" / "*.csv")
    assert line == f"{tmp_path / 'd' / '*.csv'}: no file matches"
    write_log(tmp_path / "d" / "a.csv", ROWS)
    (tmp_path / "d" / "README.md").touch()
    line = refused(capsys, tmp_path / "d")
    assert line.startswith(f"{tmp_path / 'd' / 'README.md'}: unknown format; expected")
    (tmp_path / "d" / "README.md").unlink()
    (tmp_path / "d" / "a.csv").write_text("")
    assert refused(capsys, tmp_path / "d").endswith("a.csv: the file is empty")


def test_text_without_an_ending_is_no_parquet(tmp_path, capsys):
    write_log(tmp_path / "d" / "0.csv", ROWS).rename(tmp_path / "d" / "000000")
    line = refused(capsys, tmp_path / "d")
    assert "000000: not readable as Parquet: magic bytes not found; a name of" in line
    assert "\n" not in line


def test_a_file_that_is_given_twice(tmp_path, capsys):
    first, second = write_parts(tmp_path / "d", "csv", parts=2)
    os.symlink(first, tmp_path / "d" / "part-09.csv")
    line = refused(capsys, tmp_path / "d")
    assert line.startswith(f"{tmp_path / 'd' / 'part-09.csv'}: given twice, also as")
    (tmp_path / "d" / "part-09.csv").unlink()
    line = refused(capsys, tmp_path / "d", f"--train={second}")
    assert line.startswith(f"{second}: given twice; its clicks")


@pytest.mark.parametrize("name", FORMATS)
def test_what_is_wrong_with_a_part(tmp_path, capsys, name):
    paths = write_parts(tmp_path / "d", name)
    rows = [*ROWS[36:40], (1, None, T), *ROWS[40:54]]
    write_log(paths[2], rows)
    row = 5 + (name == "csv")
    assert f"{paths[2]}: row {row}, column 'i': empty" in refused(
        capsys, tmp_path / "d"
    )
    write_log(paths[2], ROWS[36:54], names=("s", "item", "t"))
    assert f"{paths[2]}: no column 'i' (--item); it has s, item, t" in refused(
        capsys, tmp_path / "d"
    )


@pytest.mark.parametrize("name", FORMATS)
def test_parts_that_are_ordered_by_other_things(tmp_path, capsys, name):
    write_log(tmp_path / "d" / f"a.{name}", [(*row, 5) for row in ROWS])
    times = [(*row, "2023-11-14T22:13:20Z") for row in ROWS]
    path = write_log(tmp_path / "d" / f"b.{name}", times)
    line = refused(capsys, tmp_path / "d", "--order=p")
    what = f"times, where {tmp_path / 'd'}/a.{name} has numbers; expected one of them"
    assert line == f"{path}: column 'p': {what}"


def test_parts_that_wait_to_be_read_take_little_memory(tmp_path):
    for n in range(20):
        write_log(tmp_path / f"{n}.csv", [(n, i, T, "x" * 999) for i in range(999)])
    tracemalloc.start()
    try:
        form = LogForm(LogColumns("s", "i"))
        log = open_log([tmp_path / "*.csv"], form, LOG_SIZES.read)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert log.rows >= 20 * 999
    assert held < 2_000_000


def test_a_file_of_train_is_none_of_test(tmp_path, capsys):
    first, _ = write_parts(tmp_path / "d", "csv", parts=2)
    line = refused(capsys, first, f"--test={tmp_path / 'd'}")
    assert line.startswith(f"--test: {first} is in --train")
    assert not (tmp_path / "d" / "refused").exists()
