"""A run on many devices is that of one: its steps, checkpoints and ranks."""

import functools
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from conftest import said, without_plot
from many_devices import DEVICES, assert_passes, many, starts_them

from experiments import evaluate, train
from experiments.assembly import run_parts
from experiments.assembly.ways import Ways
from tron_jax.data.sessions import open_prepared
from tron_jax.sharding import traffic
from tron_jax.sharding.placement import OneDevice, OnMesh
from tron_jax.sharding.shards import over_devices
from tron_jax.storage.checkpoints import Checkpoints


@pytest.fixture(autouse=True)
def no_plot(monkeypatch):
    without_plot(monkeypatch)


@starts_them
def test_on_eight_devices():
    assert_passes(__file__, 25)


FULL_SOFTMAX = {
    "loss__name": "full_softmax",
    "loss__topk": 0,
    "negatives__num_uniform": 0,
    "negatives__num_in_batch": 0,
    "negatives__mask_hits": False,
    "negatives__exclude": "none",
}
# Streams of 48 in blocks of 16: events of three devices.
SHORT = {"model__max_session_length": 4}
RUNS = {
    "tron": {},
    "dense": {"mode": "dense"},
    "masked": {"negatives__mask_hits": True, "loss__topk": 3},
    "sessions": {
        "negatives__drawn_per": "session",
        "negatives__exclude": "session",
        "loss__name": "bce",
        "loss__topk": 0,
    },
    "events": {
        "mode": "dense",  # one device would touch all rows anyway, and none would sleep
        "negatives__drawn_per": "event",
        "negatives__exclude": "none",
        "negatives__num_popularity": 7,
        "negatives__deduplicate": True,  # or of equals with other log q any is chosen
        "loss__logq": "by_source",
        "loss__topk": 4,
    },
    "gru4rec": {
        "model__name": "gru4rec",
        "model__position": "from_start",
        "negatives__exclude": "none",
        "loss__name": "bpr_max",
        "loss__topk": 0,
        "optimizer__name": "adagrad",
        "train__order": "chronological",
        "train__steps_per_group": 0,
        "train__steps_per_call": 4,
    },
    "wide": {"model__hidden_size": 32, "loss__name": "gbce"},
    "cosine": {"model__scoring": "cosine", "mode": "dense"},
    "repeats": {"model__repeats": True},
    "repeats_of_sessions": {
        "model__repeats": True,
        "negatives__drawn_per": "session",
        "negatives__exclude": "session",
        "negatives__mask_hits": True,
        "loss__topk": 0,
    },
    "softmax": FULL_SOFTMAX,
    "dense_softmax": {"mode": "dense", **FULL_SOFTMAX},
}


def run_of(folder, data, name, mesh, **fields):
    fields = {"mode": "rows", **SHORT, **RUNS[name], **fields}
    argv = tiny.command(folder, data, train__mesh=mesh, **fields)
    assert train.main(argv) == 0
    return folder


def assert_close(state, wanted, share):
    """Each array within a share of its largest number."""
    leaves = jax.tree.leaves_with_path(wanted)
    for one, (path, other) in zip(jax.tree.leaves(state), leaves, strict=True):
        # A softmax does not see the bias of the keys, whose gradient is rounding alone.
        if "['qkv']['bias']" in jax.tree_util.keystr(path):
            continue
        one, other = np.asarray(one, float), np.asarray(other, float)
        atol = share * np.abs(other).max(initial=0)
        np.testing.assert_allclose(one, other, rtol=0, atol=atol)


@many
@pytest.mark.parametrize("name", RUNS)
def test_a_step_has_the_loss_and_gradient_of_one_device(name, tiny_data):
    found = []
    data = open_prepared(tiny_data)
    for mesh in (1, 8):
        fields = {"mode": "rows", **SHORT, **RUNS[name], "train__mesh": mesh}
        config = run_parts.resolve(tiny.config(tiny_data, **fields), data.num_items)
        parts = run_parts.build(config, data.num_items, data.train)
        placement = parts.placement
        dispatch, _ = parts.batches.dispatch_at(3, 4)
        arguments = placement.send((dispatch, parts.constants))
        state = jax.jit(parts.init)()
        state, totals = jax.jit(parts.train_step)(state, *arguments)
        found.append((placement.saved(state), np.asarray(totals.loss).sum()))
    for state, loss in found[1:]:
        assert loss == pytest.approx(found[0][1], rel=1e-6)
        # Of a first step optimizers keep its gradients and their squares.
        moments = [(s.opt, s.items[1:]) for s in (state, found[0][0])]
        assert_close(*moments, 1e-5)


@many
@pytest.mark.parametrize("name", ["tron", "events", "gru4rec", "softmax", "repeats"])
def test_a_step_lowers_for_accelerators(name, tiny_data):
    data = open_prepared(tiny_data)
    fields = {"mode": "rows", **SHORT, **RUNS[name], "train__mesh": DEVICES}
    config = run_parts.resolve(tiny.config(tiny_data, **fields), data.num_items)
    ways = Ways(by_matmul=True, fixed=True)
    parts = run_parts.build(config, data.num_items, data.train, ways)
    state = parts.placement.shapes(jax.eval_shape(parts.init))
    traced = jax.jit(parts.train_step).trace(
        state, parts.batches.shapes[0], parts.constants
    )
    assert traced.lower(lowering_platforms=("cuda", "tpu")).as_text()


@many
@pytest.mark.parametrize("name", ["tron", "dense", "gru4rec", "softmax", "repeats"])
def test_steps_that_are_computed_in_vain_change_nothing(name, tiny_data):
    """As on an accelerator, where a dispatch always computes as many."""
    data = open_prepared(tiny_data)
    fields = {"mode": "rows", **SHORT, **RUNS[name]}
    group = "train__steps_per_call" if name == "gru4rec" else "train__steps_per_group"
    found = []
    for mesh in (1, 3):
        fields |= {"train__mesh": mesh, group: 8}
        config = run_parts.resolve(tiny.config(tiny_data, **fields), data.num_items)
        ways = Ways(by_matmul=True, fixed=True)
        parts = run_parts.build(config, data.num_items, data.train, ways)
        dispatch, steps = parts.batches.dispatch_at(0, 3)
        assert steps == 3
        arguments = parts.placement.send((dispatch, parts.constants))
        state = jax.jit(parts.init)()
        state, totals = jax.jit(parts.train_step)(state, *arguments)
        found.append((parts.placement.saved(state), totals.loss))
    np.testing.assert_allclose(found[1][1], found[0][1], rtol=1e-5)
    assert_close(found[1][0], found[0][0], 1e-4)


@many
def test_clicks_are_sent_to_the_devices_once(tiny_data):
    data = open_prepared(tiny_data)
    fields = {"train__mesh": 3, "train__steps_per_group": 2}
    config = run_parts.resolve(tiny.config(tiny_data, **fields), data.num_items)
    parts = run_parts.build(config, data.num_items, data.train)
    dispatch, _ = parts.batches.dispatch_at(0, 2)
    assert dispatch.clicks.items.sharding.num_devices == 3
    sent = parts.placement.send(dispatch)
    for x, y in zip(sent.clicks, dispatch.clicks, strict=True):
        for one, other in zip(x.addressable_shards, y.addressable_shards, strict=True):
            pointers = (z.data.unsafe_buffer_pointer() for z in (one, other))
            assert len(set(pointers)) == 1


@many
@pytest.mark.parametrize("name", ["wide", "gru4rec"])
def test_fifty_steps_are_those_of_one_device(name, tiny_data, tmp_path, compilations):
    with tiny.compiled_once(compilations):
        one, three = (
            run_of(tmp_path / str(mesh), tiny_data, name, mesh) for mesh in (1, 3)
        )
    losses = [
        [line["loss"] for line in tiny.lines(folder) if "loss" in line]
        for folder in (three, one)
    ]
    np.testing.assert_allclose(*losses, rtol=1e-6)
    assert_close(tiny.saved(three)[0], tiny.saved(one)[0], 1e-4)


@pytest.fixture(scope="module")
def one_epoch(tmp_path_factory, tiny_data, compilations):
    """Runs of an epoch on three devices, to be read: ``one_epoch("tron")``."""

    @functools.cache
    def run(name):
        folder = tmp_path_factory.mktemp(name) / "run"
        with tiny.compiled_once(compilations), pytest.MonkeyPatch.context() as patch:
            without_plot(patch)
            return run_of(folder, tiny_data, name, 3, train__epochs=1)

    return run


@many
@pytest.mark.parametrize("name", ["tron", "gru4rec", "repeats"])
def test_a_checkpoint_has_the_same_ranks_on_any_devices(
    name, one_epoch, tmp_path, compilations, capfd
):
    found = []
    folder = one_epoch(name)
    with tiny.compiled_once(compilations):
        for mesh in (1, 3, 8):
            out = tmp_path / str(mesh)
            argv = [f"--workdir={folder}", f"--out={out}", f"--mesh={mesh}"]
            assert evaluate.main(["evaluate", *argv]) == 0
            found.append((out / "ranks.parquet").read_bytes())
    capfd.readouterr()
    assert len(set(found)) == 1
    status = evaluate.main(["evaluate", f"--workdir={folder}", "--mesh=9"])
    tiny.assert_refused((status, *said(capfd)), "--mesh=9", "at most the 8 devices")


@many
def test_it_resumes_bit_for_bit_on_as_many(
    one_epoch, tiny_data, tmp_path, compilations, capfd
):
    part, other = (
        shutil.copytree(one_epoch("tron"), tmp_path / name)
        for name in ("part", "other")
    )
    with tiny.compiled_once(compilations):
        whole = run_of(tmp_path / "whole", tiny_data, "tron", 3)
        run_of(part, tiny_data, "tron", 3)
        tiny.assert_same_run(part, whole)
        assert "rounds differently" not in capfd.readouterr().out
        run_of(other, tiny_data, "tron", 2)
        assert "train.mesh was 3 and is 2" in capfd.readouterr().out


@many
def test_a_warm_start_is_that_of_one_device(
    one_epoch, tiny_data, tmp_path, compilations
):
    old = one_epoch("tron")
    init = {"init__workdir": old, "init__moments": "keep", "mode": "dense"}
    losses = []
    with tiny.compiled_once(compilations):
        for mesh in (1, 3):
            folder = run_of(
                tmp_path / str(mesh), tiny_data, "tron", mesh, train__epochs=1, **init
            )
            log = tiny.lines(folder)
            losses.append([line["loss"] for line in log if "loss" in line])
    np.testing.assert_allclose(*losses, rtol=1e-6)


def placement_of(mesh, num_rows, wanted):
    if mesh == 1:
        return OneDevice()
    shards = over_devices(mesh, num_rows)
    return OnMesh(shards, shards.specs(wanted))


@many
@pytest.mark.parametrize(
    ("num_rows", "piece"), [(5, 1), (9, 1 << 26), (16, 100), (66, 100)]
)
def test_a_checkpoint_opens_on_any_number_of_devices(tmp_path, num_rows, piece):
    """Bit for bit, whether its rows are read here or by Orbax."""
    draw = np.random.default_rng(0)
    wanted = {
        "table": draw.normal(size=(num_rows, 8)).astype(np.float32),
        "last": draw.integers(1, 99, num_rows).astype(np.int32),
        "half": draw.normal(size=(num_rows, 2, 2)).astype(jnp.bfloat16),
        "bias": draw.normal(size=7).astype(np.float32),
        "step": np.int32(3),
    }
    shapes = jax.eval_shape(lambda: wanted)
    places = {mesh: placement_of(mesh, num_rows, wanted) for mesh in (8, 3, 1)}
    for step, place in places.items():
        state = jax.tree.map(jnp.asarray, place.restored(wanted))
        with Checkpoints(tmp_path, piece=piece) as checkpoints:
            checkpoints.save(step, state, {}, wait=True, like=shapes)
            for other in places.values():
                placed = jax.tree.map(shape_and_place, other.restored(wanted))
                found, _ = checkpoints.restore(step, shapes, placed)
                tiny.assert_same_bits(other.saved(found), wanted)
                tiny.assert_same_bits(found, other.restored(wanted))  # rows beyond, too
                for x, like in zip(*map(jax.tree.leaves, (found, placed)), strict=True):
                    assert like.sharding in (None, x.sharding)


def shape_and_place(x):
    place = getattr(x, "sharding", None)
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place)


@many
def test_a_mesh_begins_as_one_device_does(tiny_data):
    config = run_parts.resolve(tiny.config(tiny_data, train__mesh=8), tiny.NUM_ITEMS)
    parts = run_parts.build(config, tiny.NUM_ITEMS, open_prepared(tiny_data).train)
    state, placement = jax.jit(parts.init)(), parts.placement
    alone = run_parts.resolve(tiny.config(tiny_data), tiny.NUM_ITEMS)
    one = run_parts.build(alone, tiny.NUM_ITEMS, open_prepared(tiny_data).train)
    tiny.assert_same_bits(placement.saved(state), jax.jit(one.init)())
    assert placement.all_finite(state)
    broken = state.items.table.at[tiny.NUM_ITEMS].set(np.nan)  # of the last device
    assert not placement.all_finite(
        state._replace(items=state.items._replace(table=broken))
    )


@many
def test_what_travels_and_what_is_held_beside_the_table_are_flat_in_items(tiny_data):
    train_sessions = open_prepared(tiny_data).train
    found = []
    for num_items in (40_000, 1_000_000, 10_000_000):
        fields = {"train__mesh": DEVICES, "model__hidden_size": 200}
        config = run_parts.resolve(tiny.config(tiny_data, **fields), num_items)
        parts = run_parts.build(config, num_items, train_sessions)
        state = parts.placement.shapes(jax.eval_shape(parts.init))
        jitted = jax.jit(parts.train_step, donate_argnums=0)
        compiled = jitted.lower(state, *parts.batches.shapes, parts.constants).compile()
        memory = compiled.memory_analysis()
        held = memory.argument_size_in_bytes / (4 * num_items * (3 * 200 + 1))
        assert held < 1.05 / DEVICES + 1e7 / num_items / 2400
        found.append((traffic.received(compiled.as_text()), memory.temp_size_in_bytes))
    travels, temporaries = zip(*found, strict=True)
    assert set(travels[0]) == set(traffic.KINDS)
    assert travels[0] == travels[1] == travels[2]
    assert max(temporaries) < 1.01 * min(temporaries)


@many
def test_what_makes_no_sense_is_one_line(tiny_data, tmp_path, capfd):
    for fields, words in (
        ({"train__mesh": 9}, ("train.mesh is 9", "at most the 8 devices")),
        ({"train__mesh": -1}, ("train.mesh is -1",)),
    ):
        capfd.readouterr()
        status = train.main(tiny.command(tmp_path / "run", tiny_data, **fields))
        tiny.assert_refused((status, *said(capfd)), *words)
    assert not (tmp_path / "run").exists()
