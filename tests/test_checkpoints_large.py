"""Checkpoints of states that there is no room to copy, and disks without room."""

import itertools
import json
import shutil
import subprocess
import sys
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import assert_same_bits

from tron_jax import files
from tron_jax.errors import UserError
from tron_jax.storage import array_files, chunks, staging
from tron_jax.storage.checkpoints import Checkpoints

ROWS = 1001


class State(NamedTuple):
    step: jax.Array
    table: jax.Array
    half: jax.Array
    last: jax.Array


def make_state():
    table = jax.random.normal(jax.random.key(0), (ROWS, 8))
    half = jnp.arange(4 * ROWS, dtype=jnp.bfloat16).reshape(ROWS, 2, 2)
    return State(jnp.int32(3), table, half, jnp.arange(ROWS, dtype=jnp.int32))


def addresses(state):
    return [x.unsafe_buffer_pointer() for x in jax.tree.leaves(state)]


@pytest.mark.parametrize("rows", [1, 7, 1000, 1001, 5000])
def test_large_arrays_are_read_in_pieces(tmp_path, rows):
    """Bit for bit, each by itself, into memory that the next step may write to."""
    state = make_state()
    if rows < 7:
        state = state._replace(table=state.table[:9], half=state.half[:9])
    checkpoints = Checkpoints(tmp_path, piece=4 * rows)
    checkpoints.save(3, state, {}, wait=True)
    restored, _ = checkpoints.restore(3, jax.eval_shape(lambda: state))
    assert_same_bits(restored, state)
    large = [x.ndim > 0 and x.nbytes >= 4 * rows for x in state]
    assert sum(large) == {1: 3, 7: 3, 1000: 3, 1001: 3, 5000: 1}[rows]
    # What Orbax reads, the next step may have to copy.
    before = addresses(restored)
    update = jax.jit(lambda s: jax.tree.map(lambda x: x + 1, s), donate_argnums=0)
    pairs = zip(addresses(update(restored)), before, large, strict=True)
    assert all(after == before for after, before, large in pairs if large)


def test_other_layouts_are_read_as_well(tmp_path):
    """A file that is not the plain array is left to Orbax."""
    from orbax.checkpoint import v1 as ocp

    state = make_state()
    ocp.save(str(tmp_path / "ocdbt"), state)
    like = jax.eval_shape(lambda: state)
    assert_same_bits(array_files.read(tmp_path / "ocdbt", like, piece=1), state)


@pytest.mark.parametrize(("rows", "per_file"), [(7, 7), (7, 2), (6, 2), (7, 5)])
def test_rows_are_read_across_the_files_of_devices(tmp_path, rows, per_file):
    """As Orbax leaves them, of a table cut to fewer rows than the devices have."""
    whole = np.arange(rows * 3, dtype=np.float32).reshape(rows, 3)
    files = -(-rows // per_file)
    padded = np.pad(whole, ((0, files * per_file - rows), (0, 0)))
    grid = {"configuration": {"chunk_shape": [per_file, 3]}}
    (tmp_path / chunks.ABOUT).write_text(json.dumps({"chunk_grid": grid}))
    for number, part in enumerate(np.split(padded, files)):
        file = tmp_path / "c" / str(number) / "0"
        file.parent.mkdir(parents=True)
        index = np.array([0, part.nbytes], "<u8").tobytes() + bytes(4)
        file.write_bytes(part.tobytes() + index)
    found = chunks.open_rows(tmp_path, whole.shape, whole.dtype)
    for first, stop in itertools.combinations(range(rows + 1), 2):
        read = found.read(first, stop - first)
        np.testing.assert_array_equal(read, whole[first:stop])
    file.write_bytes(file.read_bytes()[:-1])
    assert chunks.open_rows(tmp_path, whole.shape, whole.dtype) is None


def test_large_states_are_written_without_a_copy(tmp_path):
    """The save returns once they are written, and the next step reuses their memory."""
    state = jax.block_until_ready(jax.jit(make_state)())
    expected = jax.tree.map(lambda x: np.array(x, copy=True), state)
    update = jax.jit(lambda s: jax.tree.map(lambda x: x + 1, s), donate_argnums=0)
    large = sum(x.nbytes for x in state)
    with Checkpoints(tmp_path, copy_below=large) as checkpoints:
        assert not checkpoints.copies(state)
        for step in (1, 2):
            before = addresses(state)
            checkpoints.save(step, state, {})
            state = update(state)
            assert addresses(state) == before
    assert Checkpoints(tmp_path, copy_below=large + 1).copies(state)
    restored, _ = checkpoints.restore(1, jax.eval_shape(lambda: expected))
    assert_same_bits(restored, expected)
    assert [(s.step, s.bytes) for s in checkpoints.saved] == [(1, large), (2, large)]
    assert all(s.seconds > 0 for s in checkpoints.saved)


@pytest.mark.parametrize("copy_below", [0, 1 << 30])
def test_full_disk_is_known_before_writing(tmp_path, monkeypatch, copy_below):
    state = make_state()
    checkpoints = Checkpoints(tmp_path / "run", copy_below=copy_below)
    checkpoints.save(1, state, {"at": 1}, wait=True)
    room = shutil.disk_usage(tmp_path)
    asked = []

    def usage(path):
        asked.append(path)
        return room._replace(free=1_000_000)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    monkeypatch.setattr(array_files, "start_writing", None)
    with pytest.raises(UserError) as error:
        checkpoints.save(2, state, {})
    assert str(error.value) == (
        f"cannot write checkpoint {tmp_path}/run/2: No space left on device "
        "(1.1 MB are needed, 1.0 MB are free)"
    )
    assert asked == [tmp_path / "run"]
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["1"]
    assert checkpoints.restore_newest(jax.eval_shape(lambda: state))[0] == 1


def test_room_is_asked_of_the_disk_to_be(tmp_path):
    there = files.free_room(tmp_path)
    assert abs(files.free_room(tmp_path / "not" / "yet") - there) < 1e9
    files.require_room(tmp_path / "not" / "yet", 1)
    with pytest.raises(OSError, match=r"GB are needed, .* are free"):
        files.require_room(tmp_path, shutil.disk_usage(tmp_path).total + 1)
    assert not (tmp_path / "not").exists()


def test_fault_of_another_kind_is_not_the_disk_s(tmp_path):
    (tmp_path / staging.UNFINISHED).mkdir()

    def work():
        with staging.writing(tmp_path, 3):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work()
    assert list(tmp_path.iterdir()) == []


PEAK = """
import sys, jax, jax.numpy as jnp
from tron_jax.storage.checkpoints import Checkpoints
from tron_jax.memory import peak_memory, size

folder, what = sys.argv[1:]
rows = 400_000
make = jax.jit(lambda: [jnp.full((rows, 100), 0.5), jnp.zeros((rows, 100))])
with Checkpoints(folder, copy_below=0, piece=1 << 22) as checkpoints:
    small = jax.jit(lambda: [jnp.zeros(9), jnp.zeros(9)])
    checkpoints.save(1, small(), {}, wait=True)
    checkpoints.restore(1, jax.eval_shape(small))
    if what == "save":
        state = jax.block_until_ready(make())
        before = peak_memory().host
        checkpoints.save(2, state, {}, wait=True)
        print(peak_memory().host - before)
    else:
        before = peak_memory().host
        state, _ = checkpoints.restore(2, jax.eval_shape(make))
        print(peak_memory().host - before - size(state))
"""


def test_memory_beside_a_large_state(tmp_path):
    """Of two arrays of 160 MB, saving and restoring hold none a second time."""
    for what in ("save", "restore"):
        command = [sys.executable, "-W", "error", "-c", PEAK, str(tmp_path), what]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert done.stderr == ""
        assert int(done.stdout) < 80e6, what
