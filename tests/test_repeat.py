"""Many train steps in one dispatch, with an encoder that carries a state."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pyarrow as pa
import pytest
import tiny

from tron_jax import rng
from tron_jax.data.sessions import Sessions
from tron_jax.data.slots import SlotBatches
from tron_jax.models.encoder import Encoder
from tron_jax.objectives.losses import ssm
from tron_jax.objectives.objective import make_objective
from tron_jax.objectives.settings import Selection
from tron_jax.optimizers import item_table
from tron_jax.sampling.candidates import Candidates
from tron_jax.steps import TrainState, make_train_step, repeat

HIDDEN, SLOTS, STEPS, DRAWN = 6, 4, 9, 10
ITEMS = 30_000  # far more than a dispatch touches


def encode(params, carry, inputs, session, position, dropout_key=None):
    before = jax.lax.stop_gradient(jnp.where(position[:, None] == 0, 0.0, carry))
    hidden = jnp.tanh(inputs @ params["in"] + before @ params["across"])
    return hidden, hidden


def init_params(key):
    first, second = jax.random.normal(key, (2, HIDDEN, HIDDEN))
    return {"in": first, "across": second}


ENCODER = Encoder(
    init_params,
    lambda key, rows: jax.random.normal(key, (rows, HIDDEN)),
    lambda slots: jnp.zeros((slots, HIDDEN)),
    encode,
    lambda params, inputs, position: inputs,
    unit=1,
)


def make_step():
    """A train step on rows, and the function that makes its first state."""

    def rate(step):
        return 1e-2 + 0 * step

    def sample(step, batch, constants):
        key = rng.step_key(0, step, rng.source_stream("uniform"))
        drawn = jax.random.randint(key, (1, DRAWN), 1, ITEMS + 1)
        others = (jnp.arange(SLOTS)[:, None] + jnp.arange(1, 3)) % SLOTS
        return Candidates(drawn, jnp.array(True), others, batch.weight[others] > 0)

    tx, item_tx = optax.sgd(rate), item_table.row_adagrad(rate, epsilon=1e-10)
    objective = make_objective(ssm, Selection(topk=5, mask_hits=True))
    train_step = make_train_step(
        ENCODER,
        sample,
        objective,
        tx,
        item_tx,
        num_items=ITEMS,
        whole_table=False,
        seed=0,
    )

    def init():
        params = ENCODER.init(jax.random.key(0))
        table = item_tx.init(ENCODER.init_table(jax.random.key(1), ITEMS + 1))
        carry = ENCODER.init_carry(SLOTS)
        return TrainState(jnp.int32(0), params, tx.init(params), table, carry)

    return train_step, init


@functools.cache
def make_batches():
    draw = np.random.default_rng(0)
    lengths = draw.integers(2, 9, 20)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    items = draw.integers(1, ITEMS + 1, offsets[-1]).astype(np.int32)
    sessions = Sessions(items, offsets, pa.nulls(20), pa.nulls(20))
    return SlotBatches(sessions, SLOTS, 6, STEPS)


@pytest.fixture(scope="module", params=[False, True], ids=["counted", "in vain"])
def programs(request):
    """One step, many in a dispatch (which takes the state's buffers), and a start."""
    train_step, init = make_step()
    donating = jax.jit(repeat(train_step, fixed=request.param), donate_argnums=0)
    repeated = donating.lower(jax.eval_shape(init), *make_batches().shapes).compile()
    return jax.jit(train_step), repeated, jax.jit(init)


def run(repeated, state, untils):
    """Trains on chunks that end at the given steps; the totals of each step."""
    step, totals = 0, []
    for until in untils:
        while step < until:
            chunk, steps = make_batches().dispatch_at(step, until)
            state, of_chunk = repeated(state, chunk)
            totals += [(x[:steps], x[steps:]) for x in of_chunk]
            step += steps
    assert not any(np.any(rest) for _, rest in totals)
    loss, events = (
        np.concatenate([made for made, _ in totals[i::2]]) for i in range(2)
    )
    return state, loss, events


def test_a_chunk_is_so_many_train_steps(programs):
    one, repeated, init = programs
    wanted, losses, events = init(), [], []
    for step in range(STEPS + 4):
        chunk, _ = make_batches().dispatch_at(step, step + 1)
        batch = jax.tree.map(lambda x: x[0], chunk.batches)
        wanted, totals = one(wanted, batch)
        losses.append(totals.loss)
        events.append(totals.events)
    actual, loss, count = run(repeated, init(), [STEPS + 4])
    assert actual.step == STEPS + 4
    tiny.assert_same_bits(actual, wanted)
    np.testing.assert_array_equal(loss, losses)
    np.testing.assert_array_equal(count, events)
    # What the test would not see otherwise: the carry matters, and so does each step.
    assert np.ptp(losses) > 0
    assert np.any(np.asarray(wanted.carry) != 0)
    forgotten, _ = one(wanted._replace(carry=0 * wanted.carry), batch)
    remembered, _ = one(wanted, batch._replace(position=batch.position + 1))
    assert np.any(forgotten.params["in"] != remembered.params["in"])


def test_how_steps_are_gathered_does_not_show(programs):
    _, repeated, init = programs
    epoch = make_batches().steps_per_epoch
    last = 2 * epoch + 3
    whole = run(repeated, init(), [last])
    for untils in ([1, 2, 9, epoch - 1, last], range(1, last + 1), [4, last]):
        for a, b in zip(run(repeated, init(), untils), whole, strict=True):
            tiny.assert_same_bits(a, b)
    assert whole[2].sum() == 2 * sum(make_batches().counts) + 3 * SLOTS


def test_a_chunk_of_no_steps_changes_nothing(programs):
    _, repeated, init = programs
    chunk, _ = make_batches().dispatch_at(0, 5)
    same, totals = repeated(init(), chunk._replace(steps=np.int32(0)))
    tiny.assert_same_bits(same, init())
    assert not any(np.any(x) for x in totals)


def test_the_table_is_updated_in_place(programs):
    _, repeated, init = programs
    memory = repeated.memory_analysis()
    state_bytes = sum(leaf.nbytes for leaf in jax.tree.leaves(init()))
    assert state_bytes > 1_000_000
    assert memory.temp_size_in_bytes < 100_000
    assert memory.alias_size_in_bytes > 0.99 * state_bytes


@pytest.mark.portable
@pytest.mark.parametrize("fixed", [False, True])
def test_lowers_for_accelerators(fixed):
    train_step, init = make_step()
    state = jax.eval_shape(init)
    donating = jax.jit(repeat(train_step, fixed=fixed), donate_argnums=0)
    traced = donating.trace(state, *make_batches().shapes)
    text = traced.lower(lowering_platforms=("cuda", "tpu")).as_text()
    assert "stablehlo.while" in text
    donated = donating.lower(state, *make_batches().shapes).as_text()
    marks = donated.count("tf.aliasing_output")
    assert marks == len(jax.tree.leaves(state))
