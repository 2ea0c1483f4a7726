import itertools
import json
import logging
import shutil
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tron_jax.errors import UserError
from tron_jax.storage.checkpoints import Checkpoints
from tron_jax.storage.manifest import DamagedCheckpointError

NAN_WITH_PAYLOAD = np.array([0x7FC12345], np.uint32).view(np.float32)
tx = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(1e-3))


class Table(NamedTuple):
    rows: jax.Array
    last: jax.Array


class State(NamedTuple):
    step: jax.Array
    params: dict
    opt: optax.OptState
    table: Table
    gate: None = None


def make_state(seed: int = 0, num_items: int = 50) -> State:
    draw = np.random.default_rng(seed)
    params = {
        "kernel": draw.normal(size=(7, 3)).astype(np.float32),
        "odd": np.array([-0.0, 1e-45, np.inf, NAN_WITH_PAYLOAD[0]], np.float32),
        "layers": [np.zeros(3, np.float32), {"bias": np.float32(1 / 3)}],
    }
    table = Table(
        draw.normal(size=(num_items, 20)).astype(np.float32),
        np.full(num_items, 2**31 - 1, np.int32),
    )
    # Copied, not computed, so that no bit of what is odd is lost on the way.
    params, table = jax.device_put((params, table))
    return State(jnp.int32(seed), params, jax.jit(tx.init)(params), table)


def bits(tree) -> list[tuple]:
    leaves, structure = jax.tree.flatten(tree)
    return [structure, *((x.dtype, x.shape, np.asarray(x).tobytes()) for x in leaves)]


def abstract(state):
    return jax.eval_shape(lambda: state)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def warned(monkeypatch) -> list[str]:
    """The warning lines of a test, in order."""
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    log = logging.getLogger("absl")
    monkeypatch.setattr(log, "handlers", [handler])
    monkeypatch.setattr(log, "level", logging.WARNING)
    return lines


@pytest.mark.device
@pytest.mark.portable
def test_restores_the_bits(tmp_path):
    state = make_state(3)
    info = {"fingerprint": "abc", "loss": [0.1 + 0.2, 7], "best": None}
    with Checkpoints(tmp_path / "a" / "b") as checkpoints:
        seconds = checkpoints.save(3, state, info, score=1 / 3)
        info["loss"].append("changed by the caller later")
    assert 0 < seconds < 60

    reader = Checkpoints(tmp_path / "a" / "b")
    step, restored, found = reader.restore_newest(abstract(state))
    assert step == 3
    assert bits(restored) == bits(state)
    assert all(isinstance(x, jax.Array) for x in jax.tree.leaves(restored))
    assert found == {"fingerprint": "abc", "loss": [0.1 + 0.2, 7], "best": None}
    assert reader.read_info(3) == found
    assert (reader.latest_step(), reader.best_step()) == (3, 3)


@pytest.mark.device
@pytest.mark.portable
def test_state_may_be_donated_at_once_and_resumes_exactly(tmp_path):
    @jax.jit
    def start():
        rows = jax.random.normal(jax.random.key(0), (10_000, 100))
        return Table(rows, jnp.zeros(10_000, jnp.int32))

    def update(state):
        return Table(jnp.sin(state.rows * 3), state.last + 1)

    step = jax.jit(update, donate_argnums=0)
    state = jax.block_until_ready(start())
    saved = {}
    with Checkpoints(tmp_path, keep_last=3) as checkpoints:
        for at in range(3):
            saved[at] = jax.tree.map(lambda x: np.array(x, copy=True), state)
            checkpoints.save(at, state, {})
            for _ in range(4):
                state = step(state)
        jax.block_until_ready(state)
    for at, expected in saved.items():
        restored, _ = checkpoints.restore(at, abstract(state))
        assert bits(restored) == bits(expected)
        for _ in range(4 * (3 - at)):
            restored = step(restored)
        assert bits(restored) == bits(state)


def test_keeps_the_last_and_the_earliest_best(tmp_path):
    state = make_state()
    scores = {1: 0.1, 2: 0.3, 3: None, 4: 0.3, 5: 0.2, 6: None, 7: 0.25, 8: 0.1}
    checkpoints = Checkpoints(tmp_path, keep_last=3)
    assert checkpoints.steps() == []
    assert checkpoints.latest_step() is None
    assert checkpoints.best_step() is None
    for step, score in scores.items():
        checkpoints.save(step, state, {"at": step}, score=score)
    checkpoints.wait()
    assert checkpoints.steps() == [2, 6, 7, 8]
    assert names(tmp_path) == ["2", "6", "7", "8"]
    assert checkpoints.best_step() == 2
    checkpoints.save(9, state, {}, score=0.9, wait=True)
    assert checkpoints.steps() == [7, 8, 9]
    assert checkpoints.best_step() == 9


def test_saving_a_step_again(tmp_path, warned):
    state, other = make_state(1), make_state(2)
    like = abstract(state)
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(5, state, {"score": "none"})
    checkpoints.save(5, other, {"score": "still none"}, wait=True)
    assert bits(checkpoints.restore(5, like)[0]) == bits(state)
    assert checkpoints.read_info(5) == {"score": "none"}

    checkpoints.save(5, other, {"score": "added"}, score=0.5)
    checkpoints.save(5, other, {"score": "too late"}, score=0.6, wait=True)
    assert checkpoints.best_step() == 5
    restored, info = checkpoints.restore(5, like)
    assert bits(restored) == bits(state)
    assert info == {"score": "added"}
    assert warned == []

    flip_largest(tmp_path / "5")
    checkpoints.save(5, other, {"score": "new"}, wait=True)
    assert bits(checkpoints.restore(5, like)[0]) == bits(other)
    assert checkpoints.best_step() is None
    assert len(warned) == 1
    assert warned[0].endswith("saving it again")
    assert names(tmp_path) == ["5"]


def flip_largest(folder: Path) -> None:
    """Flips one bit in the middle of the array data."""
    flip(max(folder.rglob("*"), key=lambda path: path.stat().st_size))


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


DAMAGES = {
    "deleted": lambda path: path.unlink(),
    "cut": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "flipped": lambda path: flip(path),
    "garbled": lambda path: path.write_bytes(b"\xff" * path.stat().st_size),
}


def test_damage_of_every_kind_is_found(tmp_path, warned):
    """Of the newest, which is named; what is restored is the one before."""
    run, sound = tmp_path / "run", tmp_path / "sound"
    state = {step: make_state(step) for step in (1, 2)}
    with Checkpoints(run) as checkpoints:
        for step in state:
            checkpoints.save(step, state[step], {"at": step})
    shutil.copytree(run / "2", sound)
    like = abstract(state[1])
    cases = 0
    names = [path.relative_to(sound) for path in sound.rglob("*") if path.is_file()]
    for name, damage in itertools.product(names, DAMAGES):
        if damage == "deleted" or (sound / name).stat().st_size:
            DAMAGES[damage](run / "2" / name)
            with pytest.raises(DamagedCheckpointError) as error:
                Checkpoints(run).restore(2, like)
            assert str(run / "2") in str(error.value), (name, damage)
            shutil.copyfile(sound / name, run / "2" / name)
            cases += 1
    assert cases > 30
    shutil.rmtree(run / "2")
    (run / "2").mkdir()
    step, restored, info = Checkpoints(run).restore_newest(like)
    assert (step, info) == (1, {"at": 1})
    assert bits(restored) == bits(state[1])
    assert len(warned) == 1
    assert str(run / "2") in warned.pop()
    # Unharmed, the copy is what is restored.
    shutil.copytree(sound, run / "2", dirs_exist_ok=True)
    assert Checkpoints(run).restore_newest(like)[0] == 2
    assert warned == []


def test_damaged_ones_do_not_count_as_kept(tmp_path, warned):
    state = make_state()
    with Checkpoints(tmp_path, keep_last=2) as checkpoints:
        for step in (1, 2, 3):
            checkpoints.save(step, state, {}, score=float(step))
    flip_largest(tmp_path / "3")
    checkpoints = Checkpoints(tmp_path, keep_last=1)
    assert checkpoints.restore_newest(abstract(state))[0] == 2
    checkpoints.save(4, state, {}, score=0.0, wait=True)
    assert checkpoints.steps() == [2, 4]
    assert checkpoints.best_step() == 2


def test_all_damaged(tmp_path, warned):
    state = make_state()
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.restore_newest(abstract(state)) is None
    for step in (1, 2):
        checkpoints.save(step, state, {}, wait=True)
        flip_largest(tmp_path / str(step))
    with pytest.raises(UserError, match=r"all 2 checkpoints .* are damaged"):
        checkpoints.restore_newest(abstract(state))
    assert len(warned) == 2
    with pytest.raises(UserError, match="has changed"):
        checkpoints.restore(2, abstract(state))


def test_refuses_another_model_and_unknown_steps(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, make_state(), {}, wait=True)
    bigger = abstract(make_state(num_items=51))
    with pytest.raises(UserError, match=r"\.table\.rows is float32\[50, 20\]") as error:
        checkpoints.restore_newest(bigger)
    assert "expected float32[51, 20]" in str(error.value)
    fewer = abstract(make_state())
    del fewer.params["kernel"]
    with pytest.raises(UserError, match="expected absent"):
        checkpoints.restore(1, fewer)
    for read in (checkpoints.read_info, lambda step: checkpoints.restore(step, fewer)):
        with pytest.raises(UserError, match=r"no checkpoint of step 7 .* are: 1"):
            read(7)


def test_refuses_info_that_json_cannot_hold(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        Checkpoints(tmp_path).save(1, make_state(), {"loss": float("nan")})
    assert names(tmp_path) == []


def test_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    checkpoints = Checkpoints(tmp_path / "file" / "checkpoints")
    assert checkpoints.steps() == []
    with pytest.raises(UserError, match=r"cannot write .*: Not a directory"):
        checkpoints.save(1, make_state(), {})


def test_error_in_the_block_is_not_hidden(tmp_path):
    checkpoints = Checkpoints(tmp_path)

    def train():
        with checkpoints:
            checkpoints.save(1, make_state(), {})
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        train()
    assert checkpoints.steps() == [1]


def test_manifest_is_plain_json(tmp_path):
    Checkpoints(tmp_path).save(4, make_state(), {"a": 1}, score=0.5, wait=True)
    content = json.loads((tmp_path / "4" / "manifest.json").read_text())["content"]
    assert (content["step"], content["score"], content["info"]) == (4, 0.5, {"a": 1})
    assert content["arrays"][".table.last"] == "int32[50]"
