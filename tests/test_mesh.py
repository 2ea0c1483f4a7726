"""Many devices do what one does: here eight that the CPU plays.

Those are there in a process of their own alone, which the last test starts.
"""

import functools
import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from conftest import said, without_plot
from jax.sharding import PartitionSpec as P
from test_objective import ITEMS, example
from test_steps import assert_trees_close

from experiments import evaluate, train
from experiments.assembly import run_parts
from experiments.assembly.ways import Ways
from tron_jax.data.sessions import open_prepared
from tron_jax.models.gru4rec import GRU4RecSettings, make_gru4rec
from tron_jax.models.initializers import Part, draw_in_blocks
from tron_jax.models.sasrec import SASRecSettings, make_sasrec
from tron_jax.objectives.losses import LossSettings, make_loss
from tron_jax.objectives.objective import StepData, hardest_candidates, make_objective
from tron_jax.objectives.settings import Selection
from tron_jax.optimizers.item_table import Rows, deferred_adam, row_adagrad
from tron_jax.optimizers.touched import Touched, sum_rows
from tron_jax.sampling import popularity
from tron_jax.sampling.popularity import make_click_counts, make_popularity
from tron_jax.sharding import columns, events, look_ups, rows, traffic
from tron_jax.sharding.events import Events
from tron_jax.sharding.shards import over_devices
from tron_jax.storage.checkpoints import Checkpoints

DEVICES = 8
many = pytest.mark.skipif(
    jax.device_count() < DEVICES, reason="in a process with eight devices"
)
COUNTS = (3, 8)


@pytest.fixture(autouse=True)
def no_plot(monkeypatch):
    without_plot(monkeypatch)


ASKED = "TRON_TESTS_DEVICES"  # the variable by which conftest.py has the CPU play them


@pytest.mark.skipif(ASKED not in os.environ, reason="only where devices are asked for")
def test_there_are_as_many_devices_as_were_asked_for():
    assert jax.device_count() == int(os.environ[ASKED]) >= DEVICES


@pytest.mark.skipif(ASKED in os.environ, reason="it is that process")
@pytest.mark.skipif(jax.default_backend() != "cpu", reason="devices of a CPU")
def test_on_eight_devices():
    command = [sys.executable, "-m", "pytest", "-x", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, str(Path(__file__))],
        cwd=tiny.ROOT,
        env=os.environ | {ASKED: str(DEVICES)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-5000:]
    outcomes = "".join(re.findall(r"^([.s]+) *\[", done.stdout, re.M))
    assert outcomes.count("s") == 1  # this one
    assert outcomes.count(".") > 30


@pytest.mark.parametrize("num_rows", [5, 16, 40, 47, 48])
def test_a_part_of_a_table_is_drawn_as_in_the_whole(num_rows):
    def draw(key, rows):
        return jax.random.uniform(key, (rows, 3))

    key = jax.random.key(3)
    whole = np.asarray(draw_in_blocks(draw, key, num_rows, block=16))
    for first, count in ((0, 4), (3, 20), (15, 1), (16, 16), (44, 9), (60, 5)):
        part = draw_in_blocks(draw, key, num_rows, 16, Part(jnp.int32(first), count))
        wanted = np.zeros((count, 3), np.float32)
        there = whole[first : first + count]
        wanted[: len(there)] = there
        np.testing.assert_array_equal(part, wanted)


def on_all(shards, function, *arguments, divided=()):
    takes = [P("items") if i in divided else P() for i in range(len(arguments))]
    return jax.jit(shards.over(function, takes, P()))(*arguments)


@many
@pytest.mark.parametrize("count", COUNTS)
def test_ids_ascend_on_every_device(count):
    shards = over_devices(count, 22)
    ids = jnp.arange(22)
    gathered = jax.jit(shards.over(shards.own, [P()], P("items")))(ids)
    for device, own in enumerate(np.asarray(gathered).reshape(count, -1)):
        first = device * shards.rows
        held = (ids >= first) & (ids < first + shards.rows)
        np.testing.assert_array_equal(own[held], np.arange(22)[held] - first)
        outside = own[~held]
        assert ((outside < -shards.rows) | (outside >= shards.rows)).all()
        assert (np.diff(own) > 0).all()


OPTIMIZERS = {
    "rows": deferred_adam(lambda step: 0.1 + 0 * step, epsilon=1e-8),
    "adagrad": row_adagrad(lambda step: 0.1 + 0 * step, epsilon=1e-6, momentum=0.5),
}


@many
@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("count", COUNTS)
def test_rows_are_read_and_updated_as_on_one_device(name, count):
    """To the bit, also those that slept and those that nobody holds."""
    item_tx, num_rows = OPTIMIZERS[name], 22
    shards = over_devices(count, num_rows)
    draw = np.random.default_rng(0)
    table = draw.normal(size=(num_rows, 4)).astype(np.float32)
    state = item_tx.init(jnp.asarray(table))
    specs = shards.specs(state)
    padded = np.pad(table, ((0, shards.all_rows - num_rows), (0, 0)))
    make = jax.jit(shards.over(item_tx.init, [P("items")], specs))
    many_states = make(padded)
    divided = rows.divided(item_tx, shards)

    def one_step(tx, share, state, ids, gradients, step):
        read = share(tx.read(state, ids, step), Touched(ids, ids, ids, ids))
        return read.values, tx.update(state, ids, read, gradients, step)

    alone = jax.jit(functools.partial(one_step, item_tx, lambda rows, _: rows))
    together = jax.jit(
        shards.over(
            functools.partial(one_step, divided, rows.share_all),
            [specs, P(), P(), P()],
            (P(), specs),
        )
    )
    for step in range(6):
        ids = np.sort(draw.choice(num_rows, 5, replace=False)).astype(np.int32)
        # As ``touch`` fills them up.
        beyond = shards.all_rows + np.arange(3, dtype=np.int32)
        ids = np.concatenate([ids, beyond])
        gradients = draw.normal(size=(8, 4)).astype(np.float32)
        gradients[5:] = 0
        values, state = alone(state, ids, gradients, np.int32(step))
        found, many_states = together(many_states, ids, gradients, np.int32(step))
        np.testing.assert_array_equal(found[:5], values[:5])
    for one, other in zip(
        jax.tree.leaves(state), jax.tree.leaves(many_states), strict=True
    ):
        np.testing.assert_array_equal(np.asarray(other)[:num_rows], one)


CHOICES = {
    "one": (1, {}),
    "some": (6, {"num_uniform": 61, "num_popularity": 7, "exclude": "batch"}),
    "start": (6, {"topk_start": 12, "topk_steps": 4}),
    "all": (17, {"num_uniform": 8, "num_popularity": 5, "num_in_batch": 4}),
    "hits": (5, {"mask_hits": True}),
    "repeats": (20, {"num_uniform": 60, "deduplicate": True}),
    "drawn": (9, {"num_in_batch": 0}),
    "in_batch": (3, {"num_uniform": 0, "num_popularity": 0}),
}


@many
@pytest.mark.parametrize("even", [True, False])
@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("name", CHOICES)
def test_the_hardest_of_all_are_found_together(name, count, even):
    """As on one device, with their loss and gradient; also where one holds them all."""
    topk, fields = CHOICES[name]
    of_selection = fields.keys() & {"topk_start", "topk_steps", "mask_hits"}
    settings = Selection(topk, **{key: fields[key] for key in of_selection})
    fields = {key: fields[key] for key in fields.keys() - of_selection}
    batch, candidates, touched, _, hidden, table = example(drawn_per="batch", **fields)
    loss = make_loss(LossSettings("ssm", 0.1, 0.5, 0.0, 17, ITEMS))
    shards = over_devices(count, (ITEMS + 1) * (1 if even else 99))
    division = Events(count, unit=3)

    def step(hidden, rows, find):
        """Totals, gradients, and the scores and items of what is selected."""
        data = StepData(jnp.int32(2), batch, candidates, touched, None)
        objective = make_objective(loss, settings, hardest=find)
        gradients, totals = objective(data, hidden, rows)
        found = find(data, hidden, rows, settings, jnp.float32)
        items = jnp.sort(jnp.where(found.keep, found.items, 0))
        by_rows = sum_rows(ITEMS + 1, gradients.rows)
        return totals, gradients.hidden, by_rows, found.scores, items

    def of_each(hidden, table):
        held = shards.holds(jnp.arange(ITEMS + 1))[:, None]
        own = rows.share_events(Rows(jnp.where(held, table, 0), ()), touched)
        find = functools.partial(
            columns.hardest_candidates, shards=shards, events=division
        )
        totals, by_hidden, by_rows, *selected = step(hidden, own.values, find)
        by_hidden = division.everywhere(division.own(by_hidden), len(hidden))
        by_rows = jax.lax.psum(jnp.where(held, by_rows, 0), "items")
        return totals, by_hidden, by_rows, *selected

    of_one = functools.partial(step, find=hardest_candidates)
    wanted = jax.jit(of_one)(hidden, table)
    assert wanted[0].loss > 0
    assert_trees_close(on_all(shards, of_each, hidden, table), wanted, atol=1e-5)
    assert wanted[-1].any()


@many
@pytest.mark.parametrize("count", COUNTS)
def test_what_is_known_of_items_is_divided(count):
    """Draws by popularity and the counts of clicks are those of one device."""
    clicks = np.random.default_rng(2).geometric(0.2, 500) % 21 + 1
    made = {
        "popularity": make_popularity(clicks, 21, 0.5),
        "in_batch": make_click_counts(clicks, 21),
        "mine": np.arange(21),  # whose use is not known
    }
    shards = over_devices(count, 22)
    divided = look_ups.divide(made, shards)
    assert isinstance(divided["mine"], np.ndarray)
    tiny.assert_same_bits(look_ups.whole(divided), made)

    def drawn(constants):
        ids = popularity.draw(jax.random.key(1), (3, 40), constants["popularity"])
        return ids, popularity.look_up(constants["in_batch"].log_count, ids)

    takes = [look_ups.specs(divided)]
    found = jax.jit(shards.over(drawn, takes, P()))(divided)
    tiny.assert_same_bits(found, jax.jit(drawn)(made))


@many
@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize(("unit", "length"), [(1, 32), (16, 48), (16, 160), (3, 4)])
def test_events_are_divided_and_come_together(count, unit, length):
    shards, division = over_devices(count, 22), Events(count, unit)
    x = jnp.arange(2.0 * length).reshape(length, 2)
    assert division.size(length) % unit == 0

    def together(x):
        own = division.own(x)
        assert len(own) == division.size(length)
        stacked = division.to_owners(x)
        return (
            division.everywhere(own, length),
            jax.lax.psum(division.in_place(own, length), "items"),
            division.everywhere(division.owners_sum(x), length),
            division.everywhere(stacked, length),
        )

    whole, placed, added, stacked = on_all(shards, together, x)
    np.testing.assert_array_equal(whole, x)
    np.testing.assert_array_equal(placed, x)
    np.testing.assert_array_equal(added, count * x)
    np.testing.assert_array_equal(stacked, jnp.tile(x, count))


@many
@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("model", ["sasrec", "gru4rec"])
def test_events_are_encoded_where_they_are(model, count):
    """Hidden states and gradients are those of one device, what is dropped included."""
    if model == "sasrec":
        encoder = make_sasrec(SASRecSettings(8, 2, 2, 8, 16, 0.4))
        session = jnp.repeat(jnp.arange(9), 7)  # some lie in two blocks
        session = jnp.pad(session, (0, 1), constant_values=12)
        position = jnp.concatenate([jnp.tile(jnp.arange(7), 9), jnp.zeros(1, int)])
    else:
        encoder = make_gru4rec(GRU4RecSettings(8, 0.4, "published"))
        session, position = jnp.arange(10), jnp.arange(10) % 3
    draw = np.random.default_rng(1)
    width = encoder.init_table(jax.random.key(0), 3).shape[1]
    inputs = jnp.asarray(draw.normal(size=(len(session), width)), jnp.float32)
    by_hidden = jnp.asarray(draw.normal(size=inputs.shape), jnp.float32)
    carry = jax.tree.map(lambda x: x + 0.1, encoder.init_carry(len(session)))
    params = encoder.init(jax.random.key(1))

    def gradients(encoder, params, inputs):
        def encode(params, inputs):
            key = jax.random.key(2)
            return encoder.encode(params, carry, inputs, session, position, key)

        hidden, back, after = jax.vjp(encode, params, inputs, has_aux=True)
        return hidden, after, *back(by_hidden)

    shards = over_devices(count, 22)
    divided = events.divided(encoder, Events(count, encoder.unit))
    wanted = jax.jit(functools.partial(gradients, encoder))(params, inputs)
    found = on_all(shards, functools.partial(gradients, divided), params, inputs)
    np.testing.assert_array_equal(found[0] == 0, wanted[0] == 0)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-5 * np.abs(other).max())


FULL_SOFTMAX = {
    "loss__name": "full_softmax",
    "loss__topk": 0,
    "negatives__num_uniform": 0,
    "negatives__num_in_batch": 0,
    "negatives__mask_hits": False,
    "negatives__exclude": "none",
}
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
    "softmax": FULL_SOFTMAX,
    "dense_softmax": {"mode": "dense", **FULL_SOFTMAX},
}


def run_of(folder, data, name, mesh, **fields):
    fields = {"mode": "rows", **RUNS[name], **fields}
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
        fields = {"mode": "rows", **RUNS[name], "train__mesh": mesh}
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
@pytest.mark.parametrize("name", ["tron", "events", "gru4rec", "softmax"])
def test_a_step_lowers_for_accelerators(name, tiny_data):
    data = open_prepared(tiny_data)
    fields = {"mode": "rows", **RUNS[name], "train__mesh": DEVICES}
    config = run_parts.resolve(tiny.config(tiny_data, **fields), data.num_items)
    ways = Ways(by_matmul=True, fixed=True)
    parts = run_parts.build(config, data.num_items, data.train, ways)
    state = parts.placement.shapes(jax.eval_shape(parts.init))
    traced = jax.jit(parts.train_step).trace(
        state, parts.batches.shapes[0], parts.constants
    )
    assert traced.lower(lowering_platforms=("cuda", "tpu")).as_text()


@many
@pytest.mark.parametrize("name", ["tron", "dense", "gru4rec", "softmax"])
def test_steps_that_are_computed_in_vain_change_nothing(name, tiny_data):
    """As on an accelerator, where a dispatch always computes as many."""
    data = open_prepared(tiny_data)
    fields = {"mode": "rows", **RUNS[name]}
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
@pytest.mark.parametrize("name", ["wide", "gru4rec"])
def test_fifty_steps_are_those_of_one_device(name, tiny_data, tmp_path, compilations):
    with tiny.compiled_once(compilations):
        one, eight = (
            run_of(tmp_path / str(mesh), tiny_data, name, mesh) for mesh in (1, 8)
        )
    losses = [
        [line["loss"] for line in tiny.lines(folder) if "loss" in line]
        for folder in (eight, one)
    ]
    np.testing.assert_allclose(*losses, rtol=1e-6)
    assert_close(tiny.saved(eight)[0], tiny.saved(one)[0], 1e-4)


@many
@pytest.mark.parametrize("name", ["tron", "gru4rec"])
def test_a_checkpoint_has_the_same_ranks_on_any_devices(
    name, tiny_data, tmp_path, compilations, capfd
):
    found = []
    with tiny.compiled_once(compilations):
        folder = run_of(tmp_path / "run", tiny_data, name, 2, train__epochs=1)
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
def test_it_resumes_bit_for_bit_on_as_many(tiny_data, tmp_path, compilations, capfd):
    with tiny.compiled_once(compilations):
        whole = run_of(tmp_path / "whole", tiny_data, "tron", 8)
        part = run_of(tmp_path / "part", tiny_data, "tron", 8, train__epochs=1)
        run_of(part, tiny_data, "tron", 8)
        tiny.assert_same_run(part, whole)
        assert "rounds differently" not in capfd.readouterr().out
        part = run_of(tmp_path / "other", tiny_data, "tron", 8, train__epochs=1)
        run_of(part, tiny_data, "tron", 2)
        assert "train.mesh was 8 and is 2" in capfd.readouterr().out


@many
def test_a_warm_start_is_that_of_one_device(tiny_data, tmp_path, compilations):
    with tiny.compiled_once(compilations):
        old = run_of(tmp_path / "old", tiny_data, "tron", 3, train__epochs=1)
        init = {"init__workdir": old, "init__moments": "keep", "mode": "dense"}
        losses = []
        for mesh in (1, 8):
            folder = run_of(tmp_path / str(mesh), tiny_data, "tron", mesh, **init)
            log = tiny.lines(folder)
            losses.append([line["loss"] for line in log if "loss" in line])
    np.testing.assert_allclose(*losses, rtol=1e-6)


@many
def test_a_state_is_the_same_after_a_checkpoint(tiny_data, tmp_path):
    config = run_parts.resolve(tiny.config(tiny_data, train__mesh=8), tiny.NUM_ITEMS)
    parts = run_parts.build(config, tiny.NUM_ITEMS, open_prepared(tiny_data).train)
    state, placement = jax.jit(parts.init)(), parts.placement
    alone = run_parts.resolve(tiny.config(tiny_data), tiny.NUM_ITEMS)
    one = run_parts.build(alone, tiny.NUM_ITEMS, open_prepared(tiny_data).train)
    tiny.assert_same_bits(placement.saved(state), jax.jit(one.init)())
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        checkpoints.save(0, placement.saved(state), {}, wait=True)
        shapes = placement.shapes(jax.eval_shape(parts.init))
        restored, _ = checkpoints.restore(0, placement.saved(shapes))
    again = placement.restored(restored)
    tiny.assert_same_bits(again, state)
    for left, right in zip(jax.tree.leaves(again), jax.tree.leaves(state), strict=True):
        assert left.sharding.is_equivalent_to(right.sharding, left.ndim)
    fewer = run_parts.resolve(tiny.config(tiny_data, train__mesh=3), tiny.NUM_ITEMS)
    three = run_parts.build(fewer, tiny.NUM_ITEMS, open_prepared(tiny_data).train)
    on_three = three.placement.restored(restored)
    assert on_three.items.table.sharding.num_devices == 3
    tiny.assert_same_bits(three.placement.saved(on_three), placement.saved(state))
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


@many
def test_a_mesh_needs_the_host(tiny_data, tmp_path, capfd, monkeypatch):
    """As with JAX_PLATFORMS=cuda, under which jax does not know the host."""
    there = jax.devices

    def devices(platform=None):
        if platform == "cpu":
            raise RuntimeError("Unknown backend cpu")
        return there()

    monkeypatch.setattr(jax, "devices", devices)
    argv = tiny.command(tmp_path / "run", tiny_data, train__mesh=2)
    status = train.main(argv)
    tiny.assert_refused((status, *said(capfd)), "train.mesh is 2", "JAX_PLATFORMS=")
    assert not (tmp_path / "run").exists()
