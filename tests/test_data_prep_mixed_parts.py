"""A folder of Parquet whose parts are not all alike: each is read by its own schema."""

import base64
import itertools
import uuid
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_data_prep_events import as_lists

from data_prep import events
from tron_jax.console.program import run
from tron_jax.data.sessions import open_prepared

T = 1_700_000_000
A = {"s": [1, 1, 2, 2], "i": [1, 2, 1, 2], "t": [T, T + 1, T + 2, T + 3]}
B = A | {"s": [3, 3, 4, 4]}
WHOLE = [(1, [1, 2]), (2, [1, 2]), (3, [1, 2]), (4, [1, 2])]


def write(path, **columns):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)


def status_of(log, out, *args):
    argv = ["events", f"--train={log}", f"--out={out}", "--session=s", "--item=i"]
    argv += ["--min_item_support=1", *args]
    return run(events.main, events.define_flags(), argv)


def prepared(log, out, *args):
    """Prepares a log; returns its sessions as (id, raw ids of items), and those."""
    assert status_of(log, out, *args) == 0
    data = open_prepared(out)
    train, test, raw = as_lists(data)
    found = [
        [(s, [raw[i - 1] for i in items]) for s, items, _ in p] for p in (train, test)
    ]
    return (*found, data)


def refused(log, capsys, *args):
    assert status_of(log, log.parent / "out", *args) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert not (log.parent / "out").exists()
    return line


def as_kind(values, kind):
    if pa.types.is_timestamp(kind):
        scale = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[kind.unit]
        return pa.array([v * scale for v in values], kind)
    if pa.types.is_decimal(kind):
        return pa.array(values).cast(kind)
    if pa.types.is_dictionary(kind):
        return pa.array([str(v) for v in values]).dictionary_encode()
    if not pa.types.is_primitive(kind):
        return pa.array([str(v) for v in values]).cast(kind)
    return pa.array(values).cast(kind)


ID_KINDS = [
    pa.int8(), pa.uint16(), pa.int32(), pa.int64(), pa.uint64(), pa.float32(),
    pa.float64(), pa.decimal128(38, 9), pa.decimal128(38, 0), pa.string(),
    pa.large_string(), pa.binary(), pa.large_binary(),
    pa.dictionary(pa.int32(), pa.string()),
]  # fmt: skip


@pytest.mark.parametrize("column", ["s", "i"])
@pytest.mark.parametrize("kind", ID_KINDS, ids=str)
def test_ids_of_other_types_are_the_same_ids(tmp_path, kind, column):
    """Whichever part comes first."""
    parts = {"odd": B | {column: as_kind(B[column], kind)}, "even": A}
    for names in itertools.permutations(parts):
        log = tmp_path / names[0] / "log"
        for number, name in enumerate(names):
            write(log / f"{number}.parquet", **parts[name])
        train, _, data = prepared(log, log.parent / "out", "--time=t")
        assert sorted(train) == WHOLE
        assert data.train.ids.type == pa.int64()
    two = [open_prepared(tmp_path / name / "out").train for name in parts]
    times = [
        dict(zip(d.ids.to_pylist(), d.start_time.to_pylist(), strict=True)) for d in two
    ]
    assert times[0] == times[1]


TIME_KINDS = [
    pa.timestamp("s"), pa.timestamp("ms", "UTC"), pa.timestamp("us"),
    pa.timestamp("ns", "Europe/Berlin"), pa.int64(), pa.uint32(), pa.float64(),
    pa.decimal128(25, 3), pa.string(), pa.dictionary(pa.int32(), pa.string()),
]  # fmt: skip


RING = [*itertools.pairwise([*TIME_KINDS, TIME_KINDS[0]])]


@pytest.mark.parametrize("kinds", [*RING, *(pair[::-1] for pair in RING)], ids=str)
def test_times_of_each_part_are_of_its_own_type(tmp_path, kinds):
    for name, part, kind in zip("ab", (A, B), kinds, strict=True):
        later = [t + 86_400 * (name == "b") for t in part["t"]]
        write(tmp_path / f"d/{name}.parquet", **part | {"t": as_kind(later, kind)})
    train, test, data = prepared(
        tmp_path / "d", tmp_path / "out", "--time=t", "--test_days=.5"
    )
    assert (train, test) == (WHOLE[:2], WHOLE[2:])
    assert data.train.start_time[0].as_py().timestamp() == T
    assert data.test.start_time[0].as_py().timestamp() == T + 86_400


def test_ids_that_the_first_part_could_not_hold(tmp_path):
    write(tmp_path / "d/a.parquet", **A | {"i": pa.array([1, 2, 1, 2], pa.int32())})
    write(tmp_path / "d/b.parquet", **B | {"i": [1, 2, 3 * 10**9, 2]})
    train, _, _ = prepared(tmp_path / "d", tmp_path / "out", "--time=t")
    assert train[3] == (4, [3 * 10**9, 2])


@pytest.mark.parametrize("column", ["s", "i", "t", "p"])
@pytest.mark.parametrize("first", [True, False])
def test_a_column_of_nothing_but_nulls(tmp_path, capsys, column, first):
    names = ("a", "b") if first else ("b", "a")
    extra = {"p": [0, 1, 0, 1]}
    write(tmp_path / f"d/{names[0]}.parquet", **A | extra | {column: pa.nulls(4)})
    write(tmp_path / f"d/{names[1]}.parquet", **B | extra)
    args = ("--time=t", "--order=p")
    line = refused(tmp_path / "d", capsys, *args)
    assert f"{names[0]}.parquet: row 1, column {column!r}: empty" in line
    train, _, _ = prepared(tmp_path / "d", tmp_path / "out", *args, "--skip_bad_rows")
    assert train == WHOLE[2:]
    assert "warning: 4 malformed rows left out" in capsys.readouterr().err


def test_a_part_that_lacks_a_column(tmp_path, capsys):
    write(tmp_path / "d/a.parquet", **A)
    write(tmp_path / "d/b.parquet", s=[1], t=[T])
    line = refused(tmp_path / "d", capsys, "--time=t", "--skip_bad_rows")
    assert "b.parquet: no column 'i' (--item); it has s, t" in line


@pytest.mark.parametrize("content", [b"", b"PAR1", b"no Parquet at all"])
def test_a_part_that_is_none(tmp_path, capsys, content):
    write(tmp_path / "d/a.parquet", **A)
    (tmp_path / "d/b.parquet").write_bytes(content)
    assert "d/b.parquet: " in refused(tmp_path / "d", capsys, "--time=t")


@pytest.mark.parametrize(
    "kind", [pa.bool_(), pa.date32(), pa.list_(pa.int64()), pa.binary(8)], ids=str
)
def test_types_that_are_no_ids_are_refused_whatever_is_skipped(tmp_path, capsys, kind):
    """They are the fault of no row; the part and the column are named."""
    values = {pa.bool_(): True, pa.list_(pa.int64()): [1], pa.binary(8): bytes(8)}
    odd = pa.array([values.get(kind, 1)] * 4, kind)
    write(tmp_path / "d/a.parquet", **A)
    write(tmp_path / "d/b.parquet", **B | {"i": odd})
    line = refused(tmp_path / "d", capsys, "--time=t", "--skip_bad_rows")
    assert "d/b.parquet: column 'i': " in line
    assert "cannot be an id" in line
    assert "--skip_bad_rows" not in line


def test_parts_ordered_by_times_and_by_numbers_are_refused(tmp_path, capsys):
    stamps = pa.array([x * 10**6 for x in A["t"]], pa.timestamp("us"))
    for name, part in (("a", A | {"p": stamps}), ("b", B | {"p": [1, 2, 3, 4]})):
        write(tmp_path / f"d/{name}.parquet", **part)
    line = refused(tmp_path / "d", capsys, "--order=p")
    assert "d/b.parquet: column 'p': numbers, where " in line
    assert "d/a.parquet has times" in line


def test_a_column_that_nobody_needs_may_have_any_type(tmp_path):
    write(tmp_path / "d/hr=1/a.parquet", **A, hr=[1] * 4, x=[1] * 4)
    write(tmp_path / "d/hr=2/b.parquet", **B, hr=["2"] * 4, x=[[1]] * 4)
    train, _, _ = prepared(tmp_path / "d", tmp_path / "out", "--time=t")
    assert sorted(train) == WHOLE


def test_a_type_that_pyarrow_lacks_gives_one_line(tmp_path, capsys):
    """Polars' Int128: it says so in the schema that it adds."""
    write(tmp_path / "d/a.parquet", **A)
    write(tmp_path / "d/b.parquet", **B, x=pa.array([1] * 4, pa.uint64()))
    path = tmp_path / "d/b.parquet"
    schema = pq.read_metadata(path).metadata[b"ARROW:schema"]
    bits = [n.to_bytes(4, "little") for n in (64, 128)]
    wide = base64.b64encode(base64.b64decode(schema).replace(*bits))
    assert len(wide) == len(schema)
    path.write_bytes(path.read_bytes().replace(schema, wide))
    line = refused(tmp_path / "d", capsys, "--time=t")
    assert "d/b.parquet: not readable as Parquet: Integers with more than 64" in line


@pytest.mark.parametrize("column", ["s", "i"])
def test_a_folder_names_ids_as_they_are_written(tmp_path, column):
    """Unless the file has them too."""
    for name in ("07", "007", "a%20b", "8"):
        others = {k: v[:2] for k, v in A.items() if k != column}
        write(tmp_path / f"d/{column}={name}/a.parquet", **others)
    write(tmp_path / f"d/{column}=9/a.parquet", **{k: v[:2] for k, v in A.items()})
    train, _, _ = prepared(tmp_path / "d", tmp_path / "out", "--time=t")
    found = {s if column == "s" else i for s, items in train for i in items}
    assert {"07", "007", "a b", "8"} <= {str(one) for one in found}
    assert "9" not in {str(one) for one in found}


def test_a_folder_says_it_of_a_part_that_is_given_alone(tmp_path):
    others = {k: v[:2] for k, v in A.items() if k != "s"}
    write(tmp_path / "d/s=007/a.parquet", **others)
    for log in (tmp_path / "d", tmp_path / "d/s=007", tmp_path / "d/s=007/a.parquet"):
        train, _, _ = prepared(log, tmp_path / f"of.{log.name}", "--time=t")
        assert train == [("007", [1, 2])]


def test_folders_that_name_nothing_or_a_time(tmp_path, capsys):
    others = {k: v[:2] for k, v in A.items() if k != "s"}
    write(tmp_path / "d/s=__HIVE_DEFAULT_PARTITION__/a.parquet", **others)
    write(tmp_path / "d/s=5/a.parquet", **others)
    assert "column 's': empty" in refused(tmp_path / "d", capsys, "--time=t")
    for day, part in (("2023-11-14", A), ("2023-11-15", B)):
        rest = {k: v for k, v in part.items() if k != "t"}
        write(tmp_path / f"e/t={day}/a.parquet", **rest)
    args = ("--time=t", "--test_days=.5")
    train, test, _ = prepared(tmp_path / "e", tmp_path / "out", *args)
    assert (train, test) == (WHOLE[:2], WHOLE[2:])


def test_files_beside_the_parts_are_left_alone(tmp_path, monkeypatch):
    """They may be such as may not be read."""
    write(tmp_path / "d/a.parquet", **A)
    side = [tmp_path / "d" / name for name in (".b.parquet.crc", "_SUCCESS")]
    for path in side:
        path.write_bytes(b"checksum")
    opened = Path.open

    def only_parts(path, *args, **options):
        assert path not in side
        return opened(path, *args, **options)

    monkeypatch.setattr(Path, "open", only_parts)
    _, _, data = prepared(tmp_path / "d", tmp_path / "out", "--time=t")
    assert [source["file"] for source in data.stats["sources"]] == ["d/a.parquet"]


@pytest.mark.parametrize("kind", ["uuid", "fixed"])
def test_uuids_are_in_their_usual_form(tmp_path, kind):
    raw = [uuid.UUID(int=k * 10**30) for k in (1, 1, 2, 2)]
    column = pa.array([one.bytes for one in raw], pa.binary(16))
    if kind == "uuid":
        column = pa.ExtensionArray.from_storage(pa.uuid(), column)
    write(tmp_path / "a.parquet", **A | {"s": column, "i": column})
    train, _, _ = prepared(tmp_path / "a.parquet", tmp_path / "out", "--time=t")
    one, other = str(raw[0]), str(raw[2])
    assert train == [(one, [one, one]), (other, [other, other])]


def test_a_part_without_rows_may_lack_everything(tmp_path, capsys):
    write(tmp_path / "d/a.parquet", x=pa.nulls(0))
    write(tmp_path / "d/b.parquet", **A)
    train, _, _ = prepared(tmp_path / "d", tmp_path / "made", "--time=t")
    assert sorted(train) == WHOLE[:2]
    capsys.readouterr()
    write(tmp_path / "e/a.parquet", x=pa.nulls(0))
    write(tmp_path / "e/b.parquet", x=pa.nulls(0))
    assert "e: no rows in any of 2" in refused(tmp_path / "e", capsys, "--time=t")
    line = refused(tmp_path / "e/a.parquet", capsys, "--time=t")
    assert "no column 's' (--session); it has x" in line


def test_times_that_nanoseconds_do_not_hold(tmp_path, capsys):
    """Spark's INT96 and others, of which 9999-12-31 stands for never."""
    never = 253_402_214_400
    for name, options in (("a", {"use_deprecated_int96_timestamps": True}), ("b", {})):
        times = pa.array([T * 10**6, never * 10**6] * 2, pa.timestamp("us"))
        pq.write_table(pa.table(A | {"t": times}), tmp_path / name, **options)
        log = (tmp_path / name).rename(tmp_path / f"{name}.parquet")
        _, _, data = prepared(log, tmp_path / f"out {name}", "--time=t", "--order=t")
        assert data.train.start_time[0].as_py().timestamp() == T
    capsys.readouterr()
    late = pa.array([T, 10**14, T, T], pa.timestamp("s"))
    write(tmp_path / "c.parquet", **A | {"t": late})
    line = refused(tmp_path / "c.parquet", capsys, "--time=t")
    assert "row 2, column 't': " in line
    assert "after the year 9999" in line
