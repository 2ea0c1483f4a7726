import json
import subprocess
import sys

import numpy as np
import pytest

from tron_jax.errors import UserError
from tron_jax.reporting import metrics_writer


def line(step, **more):
    return {"step": step, "epoch": 1, "time": 0.5, **more}


def test_writes_valid_lines_in_stable_order(tmp_path):
    path = tmp_path / "metrics.jsonl"
    with metrics_writer.MetricsWriter(path) as writer:
        writer.write({"loss": np.float32(0.1), "time": 1, "epoch": 1, "step": 10})
        # In the file at once, not when it is closed.
        assert path.read_text().count("\n") == 1
        writer.write(line(np.int64(20), split="test", **{"recall@20": 1 / 3}))
    with metrics_writer.MetricsWriter(path) as writer:
        writer.write(line(30))
    first, second, third = path.read_text().splitlines()
    assert first == '{"step": 10, "epoch": 1, "time": 1, "loss": 0.10000000149011612}'
    assert json.loads(second)["recall@20"] == 1 / 3
    assert list(json.loads(second)) == ["step", "epoch", "time", "split", "recall@20"]
    assert [record["step"] for record in metrics_writer.read(path)] == [10, 20, 30]
    assert json.loads(third) == line(30)


@pytest.mark.parametrize("value", [float("nan"), np.float32("inf"), -float("inf")])
def test_refuses_what_is_not_finite(tmp_path, value):
    path = tmp_path / "metrics.jsonl"
    with metrics_writer.MetricsWriter(path) as writer:
        with pytest.raises(ValueError, match="loss is"):
            writer.write(line(1, loss=value))
        with pytest.raises(TypeError, match="loss is a ndarray"):
            writer.write(line(1, loss=np.zeros(2)))
        with pytest.raises(KeyError, match="epoch"):
            writer.write({"step": 1, "time": 0.1})
    assert path.read_text() == ""


def test_unwritable(tmp_path):
    with pytest.raises(UserError, match=r"cannot write .*: Is a directory"):
        metrics_writer.MetricsWriter(tmp_path)
    with (
        metrics_writer.MetricsWriter("/dev/full") as writer,
        pytest.raises(UserError, match="cannot write /dev/full: No space left"),
    ):
        writer.write(line(1))


def test_truncates_beyond_the_restored_step(tmp_path):
    path = tmp_path / "metrics.jsonl"
    assert metrics_writer.truncate_after(path, 5) == 0
    with metrics_writer.MetricsWriter(path) as writer:
        for step in (5, 10, 10, 15, 20):
            writer.write(line(step, loss=step / 3))
    whole = path.read_bytes()
    assert metrics_writer.truncate_after(path, 20) == 0
    assert path.read_bytes() == whole
    assert metrics_writer.truncate_after(path, 10) == 2
    assert path.read_bytes() == b"".join(whole.splitlines(keepends=True)[:3])
    assert metrics_writer.truncate_after(path, -1) == 3
    assert path.read_bytes() == b""
    assert [p.name for p in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_torn_last_line_at_every_length(tmp_path):
    path = tmp_path / "metrics.jsonl"
    first, last = (json.dumps(line(step, loss=0.1)).encode() for step in (1, 2))
    for cut in range(len(last) + 1):
        path.write_bytes(first + b"\n" + last[:cut])
        complete = cut == len(last)
        assert len(metrics_writer.read(path)) == 1 + complete
        assert metrics_writer.truncate_after(path, 2) == 0
        expected = first + b"\n" + (last + b"\n" if complete else b"")
        assert path.read_bytes() == expected


BAD = [
    b"",
    b"{",
    b"3",
    b"[]",
    b"{}",
    b"\xff",
    b"\0\0\0",  # of a file system that came back after a crash
    b'{"step": "a", "epoch": 1, "time": 0.5}',
    b'{"step": true, "epoch": 1, "time": 0.5}',
    b'{"step": 1, "time": 0.5}',
    b'{"step": 1, "epoch": 1, "time": null}',
    b'{"step": 1, "epoch": 1, "time": 0.5, "loss": NaN}',
]


@pytest.mark.parametrize("bad", BAD, ids=repr)
def test_bad_line_is_numbered(tmp_path, bad):
    path = tmp_path / "metrics.jsonl"
    first, last = (json.dumps(line(step)).encode() + b"\n" for step in (1, 2))
    path.write_bytes(first + bad + b"\n" + last)
    with pytest.raises(UserError, match="line 2: not a line of metrics"):
        metrics_writer.read(path)
    with pytest.raises(UserError, match="line 2: not a line of metrics"):
        metrics_writer.truncate_after(path, 0)
    with pytest.raises(UserError, match=r"cannot read .*: No such file"):
        metrics_writer.read(tmp_path / "none")


FULL_DISK = """
import os, resource, sys
from tron_jax.errors import UserError
from tron_jax.reporting.metrics_writer import MetricsWriter

writer = MetricsWriter(sys.argv[1])
writer.write({"step": 1, "epoch": 1, "time": 1})
size = os.path.getsize(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, resource.RLIM_INFINITY))
try:
    writer.write({"step": 2, "epoch": 1, "time": 2})
except UserError as error:
    print(error)
"""


def test_a_disk_that_fills_within_a_line_leaves_whole_lines(tmp_path):
    path = tmp_path / "metrics.jsonl"
    command = [sys.executable, "-c", FULL_DISK, path]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said.startswith(f"cannot write {path}: ")
    assert [record["step"] for record in metrics_writer.read(path)] == [1]
    assert path.read_text().endswith("\n")
