"""Opening a prepared set: zero-copy views, slices, and what is wrong with a bad one."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pytest

from data_prep import synthetic
from tron_jax.console.program import run
from tron_jax.data.sessions import hold_out, open_prepared, select
from tron_jax.errors import UserError


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    out = tmp_path_factory.mktemp("made") / "set"
    argv = ["synthetic", "--profile=diginetica", "--num_sessions=200", "--num_items=90"]
    assert run(synthetic.main, synthetic.define_flags(), [*argv, f"--out={out}"]) == 0
    return out


@pytest.fixture
def copy(made, tmp_path):
    return shutil.copytree(made, tmp_path / "set")


def test_opens_without_copying(made):
    before = pa.total_allocated_bytes()
    data = open_prepared(str(made))
    assert pa.total_allocated_bytes() - before < 100
    for part in (data.train, data.test):
        for array in (part.items, part.offsets):
            assert array.dtype == np.int32
            assert not array.flags.owndata
            assert not array.flags.writeable
    assert data.num_items == 90
    assert data.path == made
    assert data.stats["train"]["events"] == data.train.num_events
    assert data.fingerprint == data.stats["fingerprint"]
    assert data.train.num_sessions == len(data.train.ids) == 200
    assert len(data.train.start_time) == 200
    np.testing.assert_array_equal(data.train.lengths, np.diff(data.train.offsets))


def test_views_lie_in_the_map_of_the_file(made):
    raw = np.memmap(made / "train.arrow", np.uint8, "r")
    train = open_prepared(made).train
    for array in (train.items, train.offsets):
        assert raw.tobytes().find(array.tobytes()) >= 0
    with open("/proc/self/maps") as maps:
        ranges = [line.split()[0].split("-") for line in maps if "train.arrow" in line]
    address = train.items.__array_interface__["data"][0]
    assert any(int(a, 16) <= address < int(b, 16) for a, b in ranges)


def test_select_shares_everything(made):
    train = open_prepared(made).train
    part = select(train, 50, 120)
    assert part.items is train.items
    assert np.shares_memory(part.offsets, train.offsets)
    assert part.num_sessions == 70
    assert part.num_events == int(train.offsets[120] - train.offsets[50])
    assert part.ids.to_pylist() == train.ids.to_pylist()[50:120]
    assert part.start_time.to_pylist() == train.start_time.to_pylist()[50:120]
    np.testing.assert_array_equal(part.lengths, train.lengths[50:120])
    again = select(part, 10, 10)
    assert (again.num_sessions, again.num_events) == (0, 0)
    with pytest.raises(ValueError, match=r"sessions 0\.\.71 of 70"):
        select(part, 0, 71)


@pytest.mark.parametrize(
    ("share", "held"), [(0, 0), (0.1, 20), (1e-9, 1), (0.999, 199)]
)
def test_hold_out_takes_the_latest(made, share, held):
    train = open_prepared(made).train
    left, validation = hold_out(train, share)
    assert (left.num_sessions, validation.num_sessions) == (200 - held, held)
    both = left.ids.to_pylist() + validation.ids.to_pylist()
    assert both == train.ids.to_pylist()


@pytest.mark.parametrize("share", [-0.1, 1, 2.5, float("nan")])
def test_hold_out_refuses_a_bad_share(made, share):
    with pytest.raises(UserError, match=r"data.validation=.*expected"):
        hold_out(open_prepared(made).train, share)


def write(path, *, items=((1, 2), (2, 1)), times=(1, 2), batches=1, **options):
    """Writes an Arrow file that may break the format, and stats.json to its size."""
    columns = {
        "session": pa.array(range(len(items))),
        "items": pa.array(items, pa.list_(pa.int32())),
        "start_time": pa.array(times, pa.timestamp("us", "UTC")),
    }
    columns |= options.pop("columns", {})
    table = pa.table({k: v for k, v in columns.items() if v is not None})
    options = pa.ipc.IpcWriteOptions(**options)
    with pa.ipc.new_file(str(path / "train.arrow"), table.schema, options=options) as f:
        for _ in range(batches):
            f.write_batch(table.combine_chunks().to_batches()[0])
    flat = [i for session in items for i in session]
    size = (path / "train.arrow").stat().st_size
    counts = {"sessions": len(items), "events": len(flat), "file_bytes": size}
    change(path, train=counts)


def change(path, **fields):
    stats = json.loads((path / "stats.json").read_text())
    (path / "stats.json").write_text(json.dumps(stats | fields))


def refused(path, *expected):
    with pytest.raises(UserError) as caught:
        open_prepared(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    for part in expected:
        assert part in message, message


def test_what_write_writes_is_accepted(copy):
    write(copy)
    assert open_prepared(copy).train.items.tolist() == [1, 2, 2, 1]
    write(copy, times=(None, None))
    assert open_prepared(copy).train.start_time.null_count == 2


def test_refuses_missing_and_cut_files(copy, tmp_path):
    refused(tmp_path / "absent", "no such folder")
    for name in ("train.arrow", "test.arrow", "items.parquet", "stats.json"):
        content = (copy / name).read_bytes()
        (copy / name).unlink()
        refused(copy, f"no file {name}")
        if name.endswith(".arrow"):
            (copy / name).write_bytes(content[:-100])
            refused(copy, name, f"stats.json says {len(content):,}")
            (copy / name).write_bytes(content[:-100] + bytes(100))
            refused(copy, name, "damaged or no Arrow file")
        (copy / name).write_bytes(content)
    open_prepared(copy)


def test_refuses_bad_stats(copy):
    good = (copy / "stats.json").read_text()
    (copy / "stats.json").write_text(good[:100])
    refused(copy, "stats.json", "not JSON")
    (copy / "stats.json").write_text("[]")
    refused(copy, "stats.json", "format")
    for fields, expected in (
        ({"format": "other"}, "format"),
        ({"version": 2}, "version is 2; expected 1"),
        ({"version": None}, "version"),
        ({"num_items": 1}, "num_items is 1; expected at least 2"),
        ({"num_items": "90"}, "num_items is '90'; expected int"),
        ({"fingerprint": None}, "fingerprint"),
        ({"train": {"sessions": 200}}, "train.events"),
        ({"test": []}, "test is []"),
        (
            {"train": {"sessions": 0, "events": 0, "file_bytes": 0}},
            "train.sessions is 0",
        ),
        ({"num_items": 50}, "expected 1 to 50"),
    ):
        (copy / "stats.json").write_text(good)
        change(copy, **fields)
        refused(copy, expected)
    for name in ("sessions", "events"):
        (copy / "stats.json").write_text(good)
        counts = json.loads(good)["train"]
        change(copy, train=counts | {name: counts[name] + 1})
        refused(copy, "train.arrow", name, "stats.json says")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"compression": "lz4", "items": [[1] * 5000] * 2}, "compressed"),
        ({"batches": 2}, "2 record batches; expected 1"),
        ({"items": ((1, 2), (0, 1))}, "event 2 is item 0; expected 1 to 90"),
        ({"items": ((1, 2), (1, 91))}, "event 3 is item 91; expected 1 to 90"),
        ({"items": ((1, 2), (-5, 1))}, "event 2 is item -5"),
        ({"items": ((1, 2), (1,))}, "session row 1 has 1 event"),
        ({"items": ((1, 2), ())}, "row 1: offsets do not rise"),
        ({"times": (2, 1)}, "start_time of session row 1"),
        ({"times": (None, 1)}, "'start_time' has 1 nulls"),
        ({"columns": {"items": None}}, "0 columns 'items'"),
        ({"columns": {"session": pa.array([1.0, 2.0])}}, "'session' is double"),
        ({"columns": {"session": pa.array([1, None])}}, "'session' has 1 nulls"),
        (
            {"columns": {"items": pa.array([[1, 2], [1, 2]])}},
            "'items' is list<item: int64>",
        ),
        (
            {"columns": {"items": pa.array([[1, None], [1, 2]], pa.list_(pa.int32()))}},
            "null items",
        ),
        ({"columns": {"start_time": pa.array(["a", "b"])}}, "'start_time' is string"),
    ],
)
def test_refuses_other_columns(copy, options, expected):
    write(copy, **options)
    refused(copy, "train.arrow", expected)


def test_refuses_offsets_that_fall(copy):
    offsets, items = pa.array([0, 3, 2, 4], pa.int32()), pa.array([1] * 4, pa.int32())
    columns = {"items": pa.ListArray.from_arrays(offsets, items)}
    write(copy, items=[[1, 1]] * 3, times=(1, 2, 3), columns=columns)
    refused(copy, "train.arrow")
    offsets = pa.array([1, 2, 4], pa.int32())
    columns = {"items": pa.ListArray.from_arrays(offsets, items)}
    write(copy, columns=columns)
    refused(copy, "train.arrow")
