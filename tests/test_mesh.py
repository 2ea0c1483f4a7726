"""Many devices do what one does, part by part; whole runs: tests/test_mesh_runs.py."""

import functools
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from jax.sharding import PartitionSpec as P
from many_devices import ASKED, DEVICES, assert_passes, many, starts_them
from test_objective import ITEMS, example
from test_steps import assert_trees_close

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
from tron_jax.sharding import columns, events, look_ups, rows
from tron_jax.sharding.events import Events
from tron_jax.sharding.shards import over_devices

COUNTS = (3, 8)


@pytest.mark.skipif(ASKED not in os.environ, reason="only where devices are asked for")
def test_there_are_as_many_devices_as_were_asked_for():
    assert jax.device_count() == int(os.environ[ASKED]) >= DEVICES


@starts_them
def test_on_eight_devices():
    assert_passes(__file__, 50)


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
    "few": (2, {"num_uniform": 1, "num_popularity": 0, "num_in_batch": 1}),
    "some": (6, {"num_uniform": 61, "num_popularity": 7, "exclude": "batch"}),
    "start": (6, {"topk_start": 12, "topk_steps": 4}),
    "all": (17, {"num_uniform": 8, "num_popularity": 5, "num_in_batch": 4}),
    "hits": (5, {"mask_hits": True}),
    "repeats": (20, {"num_uniform": 60, "deduplicate": True}),
    "drawn": (9, {"num_in_batch": 0}),
    "in_batch": (3, {"num_uniform": 0, "num_popularity": 0}),
    # More than there are, so that some do not count.
    "labels": (30, {"in_batch_from": "labels", "num_in_batch": 60}),
    "bfloat16": (6, {"dtype": jnp.bfloat16}),
}
DIVISIONS = [(3, True), (8, True), (8, False)]  # devices, and whether all hold items


@functools.cache
def find_hardest(name, count=None, even=True):
    """From hidden states and table to what a step makes of them: on one, or on many."""
    topk, fields = CHOICES[name]
    of_selection = fields.keys() & {"topk_start", "topk_steps", "mask_hits"}
    settings = Selection(topk, **{key: fields[key] for key in of_selection})
    dtype = fields.get("dtype", jnp.float32)
    fields = {key: fields[key] for key in fields.keys() - of_selection - {"dtype"}}
    batch, candidates, touched, *_ = example(drawn_per="batch", **fields)
    loss = make_loss(LossSettings("ssm", 0.1, 0.5, 0.0, 17, ITEMS))

    def step(hidden, rows, find):
        """Totals, gradients, and the scores and items of what is selected."""
        data = StepData(jnp.int32(2), batch, candidates, touched, None)
        objective = make_objective(loss, settings, hardest=find, dtype=dtype)
        gradients, totals = objective(data, hidden, rows)
        found = find(data, hidden, rows, settings, dtype)
        items = jnp.sort(jnp.where(found.keep, found.items, 0))
        by_rows = sum_rows(ITEMS + 1, gradients.rows)
        return totals, gradients.hidden, by_rows, found.scores, items

    if count is None:
        return jax.jit(functools.partial(step, find=hardest_candidates))
    shards = over_devices(count, (ITEMS + 1) * (1 if even else 99))
    division = Events(count, unit=3)

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

    return jax.jit(shards.over(of_each, [P(), P()], P()))


@many
@pytest.mark.parametrize("division", DIVISIONS)
@pytest.mark.parametrize("name", CHOICES)
def test_the_hardest_of_all_are_found_together(name, division):
    """As on one device, with their loss and gradient; also where one holds them all."""
    fields = CHOICES[name][1].keys() - {"dtype", "topk_start", "topk_steps"}
    fields = {key: CHOICES[name][1][key] for key in fields - {"mask_hits"}}
    *_, hidden, table = example(drawn_per="batch", **fields)
    wanted = find_hardest(name)(hidden, table)
    assert wanted[0].loss > 0
    found = find_hardest(name, *division)(hidden, table)
    assert_trees_close(found, wanted, atol=1e-5)
    assert wanted[-1].any()


@many
@pytest.mark.parametrize("division", DIVISIONS[1:])
@pytest.mark.parametrize("name", ["drawn", "in_batch"])
def test_the_loss_shows_a_candidate_that_is_no_number(name, division):
    fields = CHOICES[name][1]
    batch, candidates, _, _, hidden, table = example(drawn_per="batch", **fields)
    inputs = np.asarray(batch.items)[candidates.in_batch]
    items = candidates.drawn if name == "drawn" else inputs
    item = np.setdiff1d(items, batch.labels)[-1]  # a label would show it anyway
    loss = find_hardest(name, *division)(hidden, table.at[item].set(jnp.nan))[0].loss
    assert jnp.isnan(loss)


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
