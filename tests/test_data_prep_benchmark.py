"""``experiments.benchmarks.prepare``, and a set written out and prepared back."""

import functools
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from log_sizes import small_sizes

from data_prep import diginetica, otto, synthetic, yoochoose
from experiments.benchmarks import prepare as benchmark_prepare
from experiments.benchmarks import raw_logs
from tron_jax.console.program import run
from tron_jax.data.sessions import open_prepared

PROGRAMS = {"diginetica": diginetica, "yoochoose": yoochoose, "otto": otto}


def go(program, *args, **settings):
    main = functools.partial(program.main, **settings)
    assert run(main, program.define_flags(), ["program", *args]) == 0


def raw_sessions(data, *names):
    """Sessions of the parts, {id: raw items}, in order of start."""
    raw_ids = pq.read_table(data.path / "items.parquet")["raw_id"].to_numpy()
    found = {}
    for name in names:
        part = getattr(data, name)
        items = np.split(raw_ids[part.items - 1], part.offsets[1:-1])
        found |= dict(zip(part.ids.to_pylist(), map(list, items), strict=True))
    return found


@pytest.mark.parametrize("log_format", PROGRAMS)
def test_a_set_written_out_and_prepared_back(tmp_path, log_format):
    made, raw, out = (str(tmp_path / name) for name in ("made", "raw", "out"))
    size = ["--num_sessions=2000", "--num_items=60"]
    go(synthetic, f"--profile={log_format}", f"--out={made}", *size)
    go(raw_logs, f"--data={made}", f"--format={log_format}", f"--out={raw}")
    files = [tmp_path / "raw" / name for name in raw_logs.FILES[log_format]]
    source = raw if log_format == "otto" else str(files[0])
    go(
        PROGRAMS[log_format],
        f"--raw={source}",
        f"--out={out}",
        sizes=small_sizes(part_rows=1000),
    )
    before, after = open_prepared(made), open_prepared(out)
    assert raw_sessions(before, "train", "test") == raw_sessions(after, "train", "test")
    if log_format == "otto":
        for name in ("train", "test"):
            one, other = getattr(before, name), getattr(after, name)
            np.testing.assert_array_equal(one.offsets, other.offsets)
            np.testing.assert_array_equal(one.ids, other.ids)
            us = [p.start_time.cast(pa.int64()).to_numpy() for p in (one, other)]
            np.testing.assert_array_equal(us[0] // 1000 * 1000, us[1])


def test_part_of_a_set_can_be_written(tmp_path):
    made, raw = (str(tmp_path / name) for name in ("made", "raw"))
    size = ["--num_sessions=900", "--num_items=60"]
    go(synthetic, "--profile=otto", f"--out={made}", *size)
    args = [f"--data={made}", "--format=otto", f"--out={raw}"]
    go(raw_logs, *args, "--num_sessions=300")
    lines = (tmp_path / "raw" / "otto-recsys-train.jsonl").read_text().splitlines()
    assert len(lines) == 300
    assert json.loads(lines[-1])["session"] == 299
    lines = (tmp_path / "raw" / "otto-recsys-test.jsonl").read_text().splitlines()
    assert len(lines) == round(open_prepared(made).test.num_sessions / 3)


def test_benchmark(tmp_path, capsys):
    path = tmp_path / "figures.json"
    argv = ["b", "--format=yoochoose", "--num_sessions=500", "--num_items=50"]
    argv += [f"--json={path}", f"--folder={tmp_path}"]
    assert benchmark_prepare.main(argv) == 0
    figures = json.loads(path.read_text())
    names = [stage["stage"] for stage in figures["stages"]]
    assert names == [
        "reading",
        "filtering and sorting",
        "putting sessions in order",
        "writing the set",
    ]
    assert figures["events"] > 1000
    assert all(stage["peak_bytes"] > 1e7 for stage in figures["stages"])
    out = capsys.readouterr().out
    assert "all after reading" in out
    assert "events/s" in out
    assert [p.name for p in tmp_path.iterdir()] == ["figures.json"]


def test_benchmark_passes_a_mistake_on(tmp_path, capsys):
    argv = ["b", "--format=otto", "--num_sessions=1", "--num_items=1"]
    assert benchmark_prepare.main(argv) == 1
    assert "num_items" in capsys.readouterr().err
