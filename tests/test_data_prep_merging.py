"""Sorted runs on disk merged block by block: the order, the ids and the memory."""

import contextlib
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest

from data_prep.clicks.batches import TIME
from data_prep.pipeline import merging
from data_prep.pipeline.merging import ItemNumbers, Merger
from data_prep.pipeline.steps import Arranged
from data_prep.prepared.sessions_writer import INT32_MAX, SessionsWriter
from tron_jax.console.stages import Stages
from tron_jax.data.sessions import Sessions
from tron_jax.errors import UserError


def random_sessions(seed, size, longest=6):
    """(start, row, id, items): few starts, so that many sessions start together."""
    rng = np.random.default_rng(seed)
    rows = rng.permutation(10 * size)[:size]
    starts = rng.integers(0, size // 5, size)
    lengths = rng.integers(2, longest, size)
    return [
        (int(start), int(row), int(row) * 7, rng.integers(0, 50, length).tolist())
        for start, row, length in zip(starts, rows, lengths, strict=True)
    ]


def merge(folder, sessions, parts, timed=True, name=str, record=None, limit=INT32_MAX):
    """Merges sessions that are dealt out to parts at random."""
    rng = np.random.default_rng(len(sessions))
    dealt = rng.integers(0, parts, len(sessions))
    with (
        contextlib.closing(Merger(folder, "train", parts)) as merger,
        contextlib.closing(SessionsWriter(folder, "train", limit)) as writer,
    ):
        if record is not None:
            writer.append = record
        for part in range(parts):
            chosen = [s for s, p in zip(sessions, dealt, strict=True) if p == part]
            chosen.sort(key=lambda s: s[:2] if timed else s[1])
            if chosen:
                append(merger, chosen, timed, name)
        number = ItemNumbers(50)
        merger.merge(writer, number, Stages())
        merger.close()
        path = writer.write()
    assert list(folder.iterdir()) == [path]
    batch = pa.ipc.open_file(pa.memory_map(str(path))).get_batch(0)
    lists, ids, starts = (batch[name] for name in ("items", "session", "start_time"))
    items, offsets = lists.values.to_numpy(), lists.offsets.to_numpy()
    return Sessions(items, offsets, ids, starts), number


def append(merger, sessions, timed, name):
    starts = pa.array([s[0] for s in sessions]).cast(TIME)
    arranged = Arranged(
        np.concatenate([s[3] for s in sessions]).astype(np.int32),
        np.array([len(s[3]) for s in sessions], np.int32),
        np.arange(len(sessions), dtype=np.int32),
        starts if timed else pa.nulls(len(sessions), TIME),
    )
    ids = pa.array([name(s[2]) for s in sessions])
    merger.append(arranged, ids, np.array([s[1] for s in sessions]))


@pytest.mark.parametrize("timed", [True, False])
@pytest.mark.parametrize("parts", [1, 2, 13])
@pytest.mark.parametrize("buffer", [1, 3000, 1 << 25])
def test_the_order_is_that_of_one_sort(tmp_path, monkeypatch, timed, parts, buffer):
    monkeypatch.setattr(merging, "BUFFER", buffer)
    sessions = random_sessions(parts, 400)
    merged, number = merge(tmp_path, sessions, parts, timed)
    expected = sorted(sessions, key=lambda s: s[:2] if timed else s[1])
    assert merged.ids.to_pylist() == [s[2] for s in expected]
    found = np.split(merged.items, merged.offsets[1:-1])
    codes = number.codes()
    assert [codes[x - 1].tolist() for x in found] == [s[3] for s in expected]
    assert codes.tolist() == list(dict.fromkeys(i for s in expected for i in s[3]))
    if timed:
        starts = merged.start_time.cast(pa.int64()).to_pylist()
        assert starts == [s[0] for s in expected]
    else:
        assert merged.start_time.null_count == len(sessions)


def test_ids_are_text_if_one_is(tmp_path):
    sessions = random_sessions(0, 60)
    odd = sessions[7][2]
    merged, _ = merge(
        tmp_path, sessions, 5, name=lambda s: f"0{s}" if s == odd else str(s)
    )
    assert merged.ids.type == pa.string()
    assert sorted(merged.ids.to_pylist()) == sorted(
        f"0{s[2]}" if s[2] == odd else str(s[2]) for s in sessions
    )


def test_what_is_in_memory_is_bounded(tmp_path, monkeypatch):
    """Never more than two blocks of each run, however many sessions there are."""
    monkeypatch.setattr(merging, "BUFFER", 8000)
    sizes = []

    def record(chunk):
        sizes.append(4 * len(chunk.items) + 40 * len(chunk.ids))

    merge(tmp_path, random_sessions(1, 4000), 8, name=int, record=record)
    assert max(sizes) < 2 * 8000 + 8 * 100
    assert sum(sizes) > 20 * 8000
    assert len(sizes) < 60  # a block of each run at a time, not of one


def test_a_session_longer_than_a_block(tmp_path, monkeypatch):
    monkeypatch.setattr(merging, "BUFFER", 100)
    sessions = random_sessions(2, 30, longest=400)
    merged, _ = merge(tmp_path, sessions, 3)
    lengths = [len(s[3]) for s in sorted(sessions, key=lambda s: s[:2])]
    assert np.diff(merged.offsets).tolist() == lengths


@pytest.mark.parametrize(
    ("limit", "what"), [(100, "events"), (1000, "bytes of session ids")]
)
def test_more_than_a_split_can_hold(tmp_path, limit, what):
    sessions = random_sessions(3, 90)  # of 2 to 5 events each
    with pytest.raises(UserError, match=rf"can hold [0-9,]+ {what}; there are more"):
        merge(tmp_path, sessions, 2, name="id of a session {}".format, limit=limit)


WRITE = """
import resource, sys
from pathlib import Path
import numpy as np, pyarrow as pa
from data_prep.clicks.batches import TIME
from data_prep.prepared.chunks import SessionChunk
from data_prep.prepared.sessions_writer import SessionsWriter
from data_prep.prepared.writer import write_prepared

folder = Path(sys.argv[1])
train, test = SessionsWriter(folder, "train"), SessionsWriter(folder, "test")
items, lengths = np.tile(np.array([1, 2], np.int32), 1 << 20), np.full(1 << 20, 2)
for chunk in range(5):
    ids = pa.array(np.arange(chunk << 20, (chunk + 1) << 20))
    train.append(SessionChunk(items, lengths, ids, ids.cast(TIME)))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
stats = write_prepared(folder, train, test, pa.array([5, 6]), {})
assert stats["train"]["events"] == 10 << 20
print(1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in kilobytes")
def test_a_set_is_written_without_holding_it(tmp_path):
    command = [sys.executable, "-c", WRITE, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    size = (tmp_path / "train.arrow").stat().st_size
    assert size > 140_000_000
    assert int(done.stdout) < 70_000_000
