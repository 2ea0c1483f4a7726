"""The train step as a whole, against slow NumPy and against its own invariants."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import reference
from reference_negatives import make_sampler
from tolerances import of_float32

from tron_jax.data.packing import Batch, pack
from tron_jax.models.sasrec import SASRecSettings, make_sasrec
from tron_jax.objectives.full_softmax import make_full_softmax
from tron_jax.objectives.losses import LossSettings, make_loss
from tron_jax.objectives.objective import StepData, make_objective
from tron_jax.objectives.settings import Selection
from tron_jax.optimizers import item_table as tables
from tron_jax.optimizers.touched import touch
from tron_jax.sampling.candidates import Candidates
from tron_jax.steps import TrainState, make_train_step

ITEMS, HIDDEN, SESSIONS, LIMIT = 70, 8, 5, 16


def learning_rate(step):
    return 1e-2 + 0 * step


def make_batch(seed=0, size=64, sessions=SESSIONS, order=None, items=ITEMS):
    rng = np.random.default_rng(seed)
    clicks = [rng.integers(1, items + 1, rng.integers(2, 14)) for _ in range(sessions)]
    clicks = clicks if order is None else [clicks[i] for i in order]
    counts = np.array([len(c) - 1 for c in clicks])
    return pack(
        np.concatenate(clicks).astype(np.int32),
        np.cumsum(counts + 1) - counts - 1,
        counts,
        size=size,
        pad_session=SESSIONS,
        max_session_length=LIMIT,
        position="from_end",
    )


def make_encoder(dropout=0.0):
    return make_sasrec(
        SASRecSettings(
            hidden_size=HIDDEN,
            num_layers=1,
            num_heads=2,
            feedforward_size=HIDDEN,
            max_session_length=LIMIT,
            dropout=dropout,
        )
    )


def make_sample(num_uniform=12, num_in_batch=4, exclude="none", items=ITEMS):
    return make_sampler(
        num_items=items,
        num_sessions=SESSIONS,
        num_uniform=num_uniform,
        num_in_batch=num_in_batch,
        exclude=exclude,
        seed=5,
    )


def make_step(
    item_table="dense",
    dropout=0.0,
    loss="ssm",
    topk=6,
    mask_hits=True,
    objective=None,
    **sampling,
):
    """A compiled step and its first state; ``objective`` is one of the whole table."""
    encoder = make_encoder(dropout)
    items = sampling.get("items", ITEMS)
    tx = optax.adam(learning_rate)
    dense = item_table == "dense"
    item_tx = tables.dense(tx) if dense else tables.deferred_adam(learning_rate)
    train_step = make_train_step(
        encoder,
        make_sample(**sampling),
        objective
        or make_objective(
            make_loss(LossSettings(loss)), Selection(topk=topk, mask_hits=mask_hits)
        ),
        tx,
        item_tx,
        num_items=items,
        whole_table=dense or objective is not None,
        seed=5,
    )

    @jax.jit
    def init():
        params = encoder.init(jax.random.key(0))
        table = jax.random.normal(jax.random.key(1), (items + 1, HIDDEN)) * 0.3
        return TrainState(jnp.int32(0), params, tx.init(params), item_tx.init(table))

    return jax.jit(train_step), init()


def assert_trees_close(actual, expected, **tolerance):
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, **tolerance)


@pytest.mark.usefixtures("full_float32")
@pytest.mark.parametrize(
    ("loss", "topk", "mask_hits", "exclude"),
    [
        pytest.param("ssm", 6, False, "batch", marks=pytest.mark.device),
        ("ssm", 6, True, "none"),
        ("ssm", 0, True, "batch"),
        ("bce", 6, True, "batch"),
        ("bce", 0, False, "none"),
    ],
)
def test_loss_of_a_batch_equals_the_slow_reference(loss, topk, mask_hits, exclude):
    step, state = make_step(
        loss=loss, topk=topk, mask_hits=mask_hits, exclude=exclude, num_uniform=30
    )
    batch = make_batch()
    sample = jax.jit(make_sample(exclude=exclude, num_uniform=30))
    candidates = sample(jnp.int32(0), batch)
    table = np.asarray(state.items.table)
    hidden, _ = jax.jit(make_encoder().encode)(
        state.params, (), table[batch.items], batch.session, batch.position
    )
    expected = reference.batch_loss(
        batch,
        np.asarray(hidden),
        table.astype(np.float64),
        [np.asarray(x) for x in candidates[:4]],
        loss,
        topk=topk,
        mask_hits=mask_hits,
    )
    _, totals = step(state, batch)
    assert totals.events == batch.weight.sum()
    actual = totals.loss / totals.events
    np.testing.assert_allclose(actual, expected, rtol=of_float32(1e-5))


def test_the_loss_does_not_depend_on_the_order_of_the_sessions():
    """For given negatives: the places of the in-batch ones move with their inputs."""
    order = [3, 0, 4, 1, 2]
    batch, moved = make_batch(), make_batch(order=order)
    candidates = make_sample()(jnp.int32(0), batch)
    place_in_moved = np.concatenate(
        [np.flatnonzero(moved.session == order.index(s)) for s in range(SESSIONS)]
    )
    moved_candidates = candidates._replace(
        in_batch=jnp.asarray(place_in_moved[candidates.in_batch[np.array(order)]]),
        in_batch_keep=candidates.in_batch_keep[np.array(order)],
    )
    _, state = make_step()
    table = state.items.table
    objective = make_objective(
        make_loss(LossSettings("ssm")), Selection(topk=6, mask_hits=True)
    )

    @jax.jit
    def loss(batch, candidates):
        hidden, _ = make_encoder().encode(
            state.params, (), table[batch.items], batch.session, batch.position
        )
        touched = touch(batch.items, batch.labels, candidates.drawn, ITEMS + 1, True)
        data = StepData(jnp.int32(0), batch, candidates, touched, None)
        return objective(data, hidden, table)[1].loss

    np.testing.assert_allclose(
        loss(batch, candidates), loss(moved, moved_candidates), rtol=1e-6
    )


@pytest.mark.usefixtures("full_float32")
@pytest.mark.portable
@pytest.mark.parametrize(
    ("item_table", "topk"),
    [("dense", 6), pytest.param("rows", 6, marks=pytest.mark.device), ("rows", 0)],
)
def test_padding_to_a_longer_bucket_changes_a_step_by_rounding_only(item_table, topk):
    items = 400
    step, state = make_step(
        item_table, dropout=0.3, topk=topk, exclude="batch", items=items
    )
    short, totals = step(state, make_batch(size=64, items=items))
    long, more = step(state, make_batch(size=96, items=items))
    assert_trees_close(totals, more, rtol=of_float32(1e-6))
    # Adam turns rounding in a gradient near 0 into a step of full size, so compare
    # moments, which are linear in the gradient.
    rtol, atol = of_float32(1e-4), of_float32(1e-8)
    assert_trees_close(short.opt[0].mu, long.opt[0].mu, rtol=rtol, atol=atol)
    mu = [
        s.items.mu if item_table == "rows" else s.items.opt[0].mu for s in (short, long)
    ]
    np.testing.assert_allclose(*mu, rtol=rtol, atol=atol)


@pytest.mark.device
@pytest.mark.usefixtures("full_float32")
@pytest.mark.portable
def test_rows_and_dense_tables_train_alike():
    items = 400
    batches = [make_batch(seed, items=items) for seed in range(12)]
    results = []
    for item_table in ("dense", "rows"):
        step, state = make_step(item_table, dropout=0.1, exclude="batch", items=items)
        losses = []
        for batch in batches:
            state, totals = step(state, batch)
            losses.append(totals.loss / totals.events)
        results.append((losses, state))
    (dense_losses, dense), (rows_losses, rows) = results
    np.testing.assert_allclose(dense_losses, rows_losses, rtol=of_float32(1e-4))
    assert (np.asarray(rows.items.last) < 12).sum() > 100  # many rows are asleep
    item_tx = tables.deferred_adam(learning_rate)
    table = jax.jit(lambda items: item_tx.read(items, None, jnp.int32(12)).values)(
        rows.items
    )
    apart = np.abs(np.asarray(table) - np.asarray(dense.items.table)).mean()
    assert apart < of_float32(1e-5)


def test_full_softmax_trains_rows_and_dense_tables_alike():
    states = []
    for item_table in ("dense", "rows"):
        objective = make_full_softmax(num_items=ITEMS, block=16)
        step, state = make_step(
            item_table, objective=objective, num_uniform=0, num_in_batch=0
        )
        losses = []
        for seed in range(20):
            state, totals = step(state, make_batch(seed % 2))
            losses.append(totals.loss / totals.events)
        states.append((state.params, state.items.table))
    assert losses[-1] < 0.8 * losses[0]
    assert_trees_close(*states, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("num_uniform", "num_in_batch", "topk"), [(0, 4, 3), (12, 0, 3), (0, 4, 0)]
)
def test_one_kind_of_negatives_alone_will_do(num_uniform, num_in_batch, topk):
    step, state = make_step(
        topk=topk, num_uniform=num_uniform, num_in_batch=num_in_batch
    )
    state, totals = step(state, make_batch())
    assert np.isfinite(totals.loss)
    assert totals.loss > 0


def test_a_batch_of_one_session_has_uniform_negatives_only():
    step, state = make_step(topk=6)
    _, totals = step(state, make_batch(sessions=1))
    assert totals.events == make_batch(sessions=1).weight.sum()
    assert totals.loss > 0
    # and none at all where the batch excludes every item of the catalogue
    step, state = make_step(topk=6, exclude="batch", items=2)
    everything = Batch(
        *(np.array(x, np.int32) for x in ([1, 2] + [0] * 14, [2, 1] + [0] * 14)),
        np.array([0, 0] + [SESSIONS] * 14, np.int32),
        np.zeros(16, np.int32),
        np.array([1, 1] + [0] * 14, np.float32),
    )
    after, totals = step(state, everything)
    assert totals.loss == 0
    assert_trees_close(after.params, state.params, rtol=0)


def test_temporaries_of_a_step_on_rows_do_not_grow_with_the_catalogue():
    """Beside what is drawn, and with the whole state updated in place."""

    def memory(items):
        step, state = make_step("rows", items=items, exclude="batch")
        donating = jax.jit(step, donate_argnums=0)
        compiled = donating.lower(state, make_batch(items=items)).compile()
        return compiled.memory_analysis(), state

    (small, _), (large, state) = memory(50_000), memory(500_000)
    assert large.temp_size_in_bytes == small.temp_size_in_bytes
    state_bytes = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    assert large.alias_size_in_bytes > 0.99 * state_bytes


def test_candidates_of_padding_are_harmless():
    candidates = Candidates(
        jnp.arange(3)[None],
        jnp.array(True),
        jnp.arange(6).reshape(2, 3),
        jnp.ones((2, 3), bool),
    )
    places, keep = candidates.of_events(jnp.array([0, 1, 2]))
    assert places.shape == keep.shape == (3, 3)
