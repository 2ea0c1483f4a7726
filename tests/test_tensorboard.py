"""What TensorBoard is given is what metrics.jsonl holds, and it is no run's undoing."""

import json
import struct
import sys
import threading

import numpy as np
import pytest
import tiny

from experiments import workdirs
from tron_jax.reporting import metrics_writer, tensorboard
from tron_jax.training import log_windows

pytest.importorskip("tensorboardX")

TRAINING = {
    "loss": "train/loss",
    "epoch": "train/epoch",
    "sessions_per_s": "speed/sessions_per_s",
    "events_per_s": "speed/events_per_s",
    "epochs_per_hour": "speed/epochs_per_hour",
    "save_s": "speed/save_s",
    "save_gb": "speed/save_gb",
    "peak_memory_gb": "memory/peak_memory_gb",
}


def events(folder):
    """The events of a folder's only file, each with its checksums checked."""
    from tensorboardX.proto import event_pb2
    from tensorboardX.record_writer import masked_crc32c

    [path] = folder.glob("events.out.tfevents.*")
    data, found = path.read_bytes(), []
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        body = data[12 : 12 + length]
        checks = (
            struct.unpack("<I", data[8:12]),
            struct.unpack("<I", data[12 + length : 16 + length]),
        )
        assert checks == ((masked_crc32c(data[:8]),), (masked_crc32c(body),))
        found.append(event_pb2.Event.FromString(body))
        data = data[16 + length :]
    assert found[0].file_version == "brain.Event:2"
    assert found[1].session_log.status == 1  # START: forget the file before
    return found[2:]


def scalars(folder):
    """(step, tag, value) in the order of the file, and the wall time of each step."""
    found, times = [], []
    for event in events(folder):
        values = [v for v in event.summary.value if v.HasField("simple_value")]
        found += [(event.step, v.tag, v.simple_value) for v in values]
        times += [event.wall_time] if values else []
    return found, times


def logged(folder):
    """The same of metrics.jsonl."""
    found, times = [], []
    for line in metrics_writer.read(folder / "metrics.jsonl"):
        about = dict(line)
        step = about.pop("step")
        times.append(about.pop("time"))
        if "protocol" in about:
            del about["epoch"]
            prefix = f"{about.pop('split')}/{about.pop('protocol')}/"
            tags = {key: prefix + key for key in about}
        else:
            tags = TRAINING
        found += [(step, tags[key], np.float32(x)) for key, x in about.items()]
    return found, times


def assert_follows(folder):
    found, times = scalars(folder)
    expected, seconds = logged(folder)
    assert len(found) == len({(step, tag) for step, tag, _ in found})
    assert sorted(found) == sorted(expected)
    np.testing.assert_allclose(
        np.array(times) - times[0], np.array(seconds) - seconds[0], atol=1e-3
    )


def plugin(folder, tag):
    """What the page of hyperparameters is told under a tag."""
    from tensorboardX.proto import plugin_hparams_pb2

    [value] = [
        value
        for event in events(folder)
        for value in event.summary.value
        if value.tag == f"_hparams_/{tag}"
    ]
    assert value.metadata.plugin_data.plugin_name == "hparams"
    content = value.metadata.plugin_data.content
    return getattr(plugin_hparams_pb2.HParamsPluginData.FromString(content), tag)


def line(step, **more):
    return {"step": step, "epoch": step / 10, "time": step / 2, **more}


def follow(folder, lines=()):
    return tensorboard.follow(
        folder,
        lines,
        hyperparameters={"a.b": 1, "a.c": True, "a.d": "x", "a.e": (5, 10)},
        results=["test/exact/recall@20"],
    )


@pytest.mark.portable
def test_each_line_is_there_at_once_and_nobody_waits(tmp_path):
    threads = threading.enumerate()
    path = tmp_path / "metrics.jsonl"
    with metrics_writer.MetricsWriter(path, [follow(tmp_path)]) as writer:
        writer.write(line(5, loss=0.25, save_s=np.float32(0.5)))
        assert_follows(tmp_path)
        assert threading.enumerate() == threads
        about = {"split": "test", "protocol": "exact", "remark": "a", "none": None}
        writer.write(line(10, **about, **{"events": 7, "recall@20": 1 / 3}))
        found, _ = scalars(tmp_path)
    assert found == [
        (5, "train/loss", 0.25),
        (5, "speed/save_s", 0.5),
        (5, "train/epoch", 0.5),
        (10, "test/exact/events", 7),
        (10, "test/exact/recall@20", np.float32(1 / 3)),
    ]
    start = plugin(tmp_path, "session_start_info").hparams
    assert start["a.b"].number_value == 1
    assert start["a.c"].bool_value is True
    assert start["a.d"].string_value == "x"
    assert start["a.e"].string_value == "(5, 10)"
    experiment = plugin(tmp_path, "experiment")
    assert {info.name for info in experiment.hparam_infos} == {*start}
    [metric] = experiment.metric_infos
    assert metric.name.tag == "test/exact/recall@20"


def test_a_run_and_its_hyperparameters(tiny_runs):
    workdir = tiny_runs("rows")
    assert_follows(workdir)
    config, _ = workdirs.read_config(workdir)
    start = plugin(workdir, "session_start_info").hparams
    assert {*start} == {*workdirs.fields(config)}
    assert start["loss.topk"].number_value == tiny.FIELDS["loss.topk"]
    assert start["optimizer.item_table"].string_value == "rows"
    # Each result that is shown is the last value of a figure of the run.
    experiment = plugin(workdir, "experiment")
    results = {metric.name.tag for metric in experiment.metric_infos}
    found = {tag: value for step, tag, value in scalars(workdir)[0] if step == 50}
    evaluated = {tag for tag in found if tag.startswith("test/")}
    assert results == evaluated - {"test/paper/events", "test/exact/events"}
    last = metrics_writer.read(workdir / "metrics.jsonl")[-1]
    assert found["test/exact/recall@20"] == np.float32(last["recall@20"])


class Killed(BaseException):
    pass


def test_a_kill_shows_nothing_twice(tmp_path, tiny_runs, train, monkeypatch):
    """The log is ahead of the checkpoint then, and the file may be ahead of the log."""
    workdir = tmp_path / "run"
    add = log_windows.Recorder.add

    def killed(self, step, totals):
        if step == 40:
            raise Killed
        add(self, step, totals)

    with monkeypatch.context() as patch:
        patch.setattr(log_windows.Recorder, "add", killed)
        with pytest.raises(Killed):
            train(workdir)
    assert scalars(workdir)[0][-1][0] == 36  # whose checkpoint is 35
    [ahead] = workdir.glob("*tfevents*")
    with ahead.open("ab") as file:
        file.write(b"torn")
    with (workdir / "metrics.jsonl").open("a") as file:
        file.write('{"step": 40, ')
    status, out, err = train(workdir)
    assert (status, err) == (0, "")
    assert "resuming at step 35" in out
    assert "TensorBoard follows this run" in out
    assert_follows(workdir)
    tiny.assert_same_run(workdir, tiny_runs("rows"))
    # More epochs go on in one file.
    assert train(workdir, train__epochs=3)[0] == 0
    assert scalars(workdir)[0][-1][0] == 75
    assert_follows(workdir)


def without(monkeypatch, found):
    """As if tensorboardX were another: None where it is not installed."""
    for name in [name for name in sys.modules if name.startswith("tensorboardX")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorboardX", found)


def test_without_the_extra_nothing_changes(tmp_path, tiny_runs, train, monkeypatch):
    without(monkeypatch, None)
    status, out, err = train(tmp_path / "run")
    assert (status, err) == (0, "")
    assert "TensorBoard" not in out
    assert not [*(tmp_path / "run").glob("*tfevents*")]
    tiny.assert_same_run(tmp_path / "run", tiny_runs("rows"))


class Broken:
    """A package whose parts do not fit."""

    def __getattr__(self, name):
        raise RuntimeError("built for\nanother protobuf")


def test_an_installation_that_does_not_work(tmp_path, capfd, monkeypatch):
    without(monkeypatch, Broken())
    assert follow(tmp_path) is None
    out, err = capfd.readouterr()
    assert out == ""
    assert err == (
        "warning: TensorBoard does not follow this run: built for another protobuf\n"
    )
    assert not [*tmp_path.iterdir()]


def test_a_folder_that_cannot_be_written(tmp_path, capfd):
    assert follow(tmp_path / "missing") is None
    err = capfd.readouterr().err
    assert err.startswith("warning: TensorBoard does not follow this run: ")
    assert "No such file or directory" in err
    assert err.count("\n") == 1


def test_nothing_half_written_is_left(tmp_path, capfd):
    with tiny.largest_file(100):
        assert follow(tmp_path, [line(1, loss=1.0)]) is None
    assert "TensorBoard does not follow this run: No space left" in (
        capfd.readouterr().err
    )
    assert not [*tmp_path.iterdir()]


class Full:
    """A disk that takes half of the first write, and fails at the next."""

    closed = False

    def __init__(self):
        self.writes = 0

    def write(self, data):
        self.writes += 1
        return len(data) // 2

    def close(self):
        self.closed = True


def test_a_disk_that_fills_stops_no_run(tmp_path, tiny_runs, train, monkeypatch):
    disk, init = Full(), tensorboard.TensorBoard.__init__

    def begin(self, *arguments):
        init(self, *arguments)
        self._file.close()
        self._file = disk

    monkeypatch.setattr(tensorboard.TensorBoard, "__init__", begin)
    status, _, err = train(tmp_path / "run")
    assert status == 0
    assert err == (
        "warning: TensorBoard does not follow this run: No space left on device\n"
    )
    assert disk.writes == 1
    tiny.assert_same_run(tmp_path / "run", tiny_runs("rows"))


def test_files_of_others_stay(tmp_path):
    his = tmp_path / "events.out.tfevents.1700000000.host"
    his.write_bytes(b"his")
    for _ in range(2):
        follow(tmp_path).close()
    assert len([*tmp_path.iterdir()]) == 2
    assert his.read_bytes() == b"his"


def test_the_truth_is_written_first(tmp_path):
    path, seen = tmp_path / "metrics.jsonl", []

    class Sink:
        def write(self, line):
            seen.append((line, json.loads(path.read_text().splitlines()[-1])))

        def close(self):
            seen.append("closed")

    with metrics_writer.MetricsWriter(path, [Sink()]) as writer:
        writer.write(line(1, loss=np.float32(0.5)))
        with pytest.raises(ValueError, match="loss is nan"):
            writer.write(line(2, loss=float("nan")))
    assert seen == [(line(1, loss=0.5),) * 2, "closed"]
