"""``data_prep.show``: what it prints, and that it finds what is damaged."""

import json
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_prep import events, show, synthetic
from data_prep.prepared.histograms import as_text, item_popularity, session_lengths
from tron_jax.console.program import run


@pytest.fixture
def made(tmp_path, capsys):
    out = tmp_path / "set"
    argv = ["s", "--profile=otto", f"--out={out}", "--num_sessions=300"]
    assert run(synthetic.main, synthetic.define_flags(), [*argv, "--num_items=40"]) == 0
    capsys.readouterr()
    return out


def status_of(*argv):
    argv = show.with_flag(["show", *map(str, argv)])
    return run(show.main, show.define_flags(), argv)


def test_shows_a_set(made, capsys):
    plot = made.parent / "plot.png"
    assert status_of(made, f"--plot={plot}", "--sessions=2") == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    stats = json.loads((made / "stats.json").read_text())
    for part in (
        "Table 1, otto",
        f"{stats['train']['events']:,}",
        "split: kind made",
        "made up: profile otto, seed 0",
        "train sessions by length: mean",
        "test sessions by length: mean",
        "items by clicks in train",
        "first train sessions",
        "2024-01-01 ",
        "whole: 9 arrays match",
    ):
        assert part in captured.out
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_shows_a_log_that_was_prepared(tmp_path, capsys):
    log = tmp_path / "log.csv"
    rows = [f"s{n // 2},ä{n % 2}\n" for n in range(20)]
    log.write_text("session,item\n" + "".join(rows))
    argv = ["e", f"--train={log}", f"--out={tmp_path}/out", "--session=session"]
    assert run(events.main, events.define_flags(), [*argv, "--item=item"]) == 0
    capsys.readouterr()
    assert status_of(tmp_path / "out") == 0
    out = capsys.readouterr().out
    assert "Table 1" not in out
    assert "filters: sessions of at least 2 events, items of at least 5" in out
    assert "from log.csv (train" in out
    assert "unknown  s0:  ä0 ä1" in out


@pytest.mark.parametrize("name", ["train", "test"])
def test_finds_a_flipped_bit(made, capsys, name):
    path = made / f"{name}.arrow"
    data = bytearray(path.read_bytes())
    # The items' buffer is one of int32 below 41: swap two neighbours that differ.
    items = np.frombuffer(bytes(data[: len(data) // 8 * 8]), np.int32)
    like = (items[:-3] > 0) & (items[1:-2] > 0) & (items[2:-1] > 0) & (items[3:] > 0)
    like &= (items[:-3] < 41) & (items[1:-2] < 41) & (items[2:-1] < 41)
    like &= (items[3:] < 41) & (items[1:-2] != items[2:-1])
    start = 4 * (int(np.flatnonzero(like)[20]) + 1)
    swapped = data[start + 4 : start + 8] + data[start : start + 4]
    data[start : start + 8] = swapped
    path.write_bytes(data)
    assert status_of(made) == 1
    err = capsys.readouterr().err
    assert (
        err == f"error: {made}: {name}.items is not what its hash in stats.json says\n"
    )
    assert status_of(made, "--nocheck") == 0


def test_finds_a_fingerprint_of_another_set(made, capsys):
    path = made / "stats.json"
    stats = json.loads(path.read_text())
    path.write_text(json.dumps(stats | {"fingerprint": "0" * 64}))
    assert status_of(made) == 1
    assert "the fingerprint in stats.json is not of this set" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("stats.json", "not JSON"),
        ("train.arrow", "8 bytes; stats.json says "),
        ("items.parquet", "damaged or no Parquet file"),
    ],
)
def test_damaged_files(made, capsys, name, what):
    (made / name).write_bytes(b"nonsense")
    assert status_of(made) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(f"error: {made / name}: {what}")
    (made / name).unlink()
    assert status_of(made) == 1
    line = f"error: {made}: no file {name}; expected a prepared data set\n"
    assert capsys.readouterr().err == line


def test_finds_what_is_of_another_set(made, tmp_path, capsys):
    stats = json.loads((made / "stats.json").read_text())
    items = pq.read_table(made / "items.parquet")
    clicks = pa.array(items["train_events"].to_numpy() + 1)
    pq.write_table(items.set_column(2, "train_events", clicks), made / "items.parquet")
    assert status_of(made) == 1
    assert "train_events of items.parquet are not those" in capsys.readouterr().err
    pq.write_table(items.slice(1), made / "items.parquet")
    assert status_of(made) == 1
    assert "39 items; expected 40" in capsys.readouterr().err
    pq.write_table(items, made / "items.parquet")
    del stats["hashes"]
    (made / "stats.json").write_text(json.dumps(stats))
    assert status_of(made) == 1
    assert "stats.json: no field 'hashes'" in capsys.readouterr().err


def test_offsets_that_do_not_rise(made, capsys):
    path = made / "train.arrow"
    data = bytearray(path.read_bytes())
    lengths = pa.ipc.open_file(pa.memory_map(str(path))).get_batch(0).column("items")
    offsets = lengths.offsets.to_numpy()
    start = data.index(offsets.tobytes())
    data[start + 4 : start + 8] = np.int32(0).tobytes()
    path.write_bytes(data)
    assert status_of(made, "--nocheck") == 1
    assert "offsets do not rise" in capsys.readouterr().err


def test_what_is_no_set(tmp_path, capsys):
    for argv in ([tmp_path], [tmp_path / "absent"], [], [tmp_path, tmp_path]):
        assert status_of(*argv) == 1
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1
        assert lines[0].startswith("error: ")


def test_plot_that_cannot_be_written(made, capsys):
    assert status_of(made, f"--plot={made}/absent/plot.png") == 1
    assert f"cannot write {made}/absent/plot.png" in capsys.readouterr().err


def test_plot_without_matplotlib(made, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert status_of(made, f"--plot={made}/plot.png") == 1
    assert "--plot needs matplotlib" in capsys.readouterr().err


def test_histograms():
    text = as_text(session_lengths(np.array([2, 2, 2, 3, 300]), "train"))
    lines = text.splitlines()
    assert "mean 61.80, median 2, longest 300" in lines[0]
    assert lines[1].split()[:2] == ["2", "60.0%"]
    assert lines[1].split()[2] == "█" * 40
    assert lines[2].split()[:2] == ["3", "20.0%"]
    assert lines[-1].split()[:2] == ["201+", "20.0%"]
    assert lines[-1].endswith("97.1% of events")
    text = as_text(item_popularity(np.array([0, 1, 3, 10_000])))
    assert "most 10,000" in text
    assert "2-4" in text


def test_as_a_program(made):
    command = [sys.executable, "-m", "data_prep.show", str(made)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stdout.startswith(f"{made}: synthetic otto\n")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("filters", {"min_session_length": 2}),
        ("filters", [1]),
        ("filters", {"min_session_length": 2, "min_item_support": 1, "steps": [1]}),
        ("split", "none"),
        ("sources", [{"file": "a"}]),
        ("sources", 5),
        ("made", "up"),
    ],
)
def test_stats_that_are_not_as_they_should_be(made, capsys, field, value):
    path = made / "stats.json"
    stats = json.loads(path.read_text())
    path.write_text(json.dumps(stats | {field: value}))
    assert status_of(made) == 1
    line = f"error: {path}: filters, split, sources or made are not as FORMAT.md has"
    assert capsys.readouterr().err.startswith(line)


@pytest.mark.parametrize("odd", ["null", "float", "text"])
def test_a_catalogue_that_is_not_as_it_should_be(made, capsys, odd):
    path = made / "items.parquet"
    items = pq.read_table(path)
    count = len(items)
    columns = {
        "null": lambda: items.set_column(1, "raw_id", pa.nulls(count, pa.int64())),
        "float": lambda: items.set_column(1, "raw_id", pa.array([0.5] * count)),
        "text": lambda: items.set_column(2, "train_events", pa.array(["1"] * count)),
    }
    pq.write_table(columns[odd](), path)
    assert status_of(made) == 1
    assert f"{path}: expected columns raw_id, int64 or" in capsys.readouterr().err
