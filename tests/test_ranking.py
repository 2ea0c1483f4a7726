from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tron_jax.evaluation import metrics, protocols
from tron_jax.evaluation.queries import plain
from tron_jax.evaluation.ranking import make_rank_step

GOLDEN = Path(__file__).parent / "golden"


def read_rows(table, ids, step):
    return table[ids]


def counts(table, hidden, labels, block=64, read_rows=read_rows, step=0, fixed=None):
    """Runs the rank step on padded chunks: (higher, equal), [events] each."""
    if fixed is None:  # as on the device at hand
        fixed = jax.default_backend() != "cpu"
    num_events = len(labels)
    padding = -num_events % block + block
    hidden = np.pad(hidden, ((0, padding), (0, 0)), constant_values=7)
    labels = np.pad(labels, (0, padding)).astype(np.int32)
    rank_step = make_rank_step(
        read_rows, num_items=len(table) - 1, block=block, fixed=fixed
    )
    found = jax.jit(rank_step)(table, step, plain(hidden), labels, num_events)
    return [np.asarray(values)[:num_events] for values in found]


def counts_by_numpy(table, hidden, labels):
    """The whole matrix of scores, in integers or float64."""
    scores = hidden @ table.T
    own = np.take_along_axis(scores, labels[:, None], 1)
    other = np.arange(len(table)) != labels[:, None]
    other[:, 0] = False
    return ((scores > own) & other).sum(1), ((scores == own) & other).sum(1)


@pytest.mark.device
@pytest.mark.portable
@pytest.mark.parametrize(
    ("num_items", "block"), [(5, 64), (64, 64), (130, 64), (333, 32)]
)
def test_counts_are_those_of_the_whole_matrix(num_items, block):
    draw = np.random.default_rng(num_items)
    # Small integers: exact in float32, with many ties
    table = draw.integers(-2, 3, (num_items + 1, 6)).astype(np.float32)
    hidden = draw.integers(-2, 3, (200, 6)).astype(np.float32)
    labels = draw.integers(1, num_items + 1, 200)
    expected = counts_by_numpy(table, hidden, labels)
    for fixed in (False, True):
        found = counts(table, hidden, labels, block, fixed=fixed)
        np.testing.assert_array_equal(found, expected)
    assert expected[1].sum() > 0


@pytest.mark.device
def test_counts_of_real_numbers():
    draw = np.random.default_rng(0)
    table = draw.normal(size=(1502, 32)).astype(np.float32)
    hidden = draw.normal(size=(500, 32)).astype(np.float32)
    labels = draw.integers(1, 1502, 500)
    higher, equal = counts(table, hidden, labels, 128)
    expected, _ = counts_by_numpy(table.astype(np.float64), hidden, labels)
    # float32 may swap two items whose scores differ in the last bit
    assert np.abs(higher - expected).max() <= 1
    assert (higher == expected).mean() > 0.99
    assert (equal <= 1).all()


@pytest.mark.device
@pytest.mark.parametrize(
    ("hidden_size", "block"), [(16, 1024), (64, 256), (200, 256), (200, 1024)]
)
def test_exact_duplicates_of_the_label_tie_bit_for_bit(hidden_size, block):
    draw = np.random.default_rng(hidden_size)
    num_items, num_events = 2741, 2500
    rows = draw.normal(size=(914, hidden_size)).astype(np.float32)
    # Three of each row but the last, scattered over all blocks
    kind = draw.permutation(np.arange(num_items) % 914)
    table = np.concatenate([np.full((1, hidden_size), 9, np.float32), rows[kind]])
    hidden = draw.normal(size=(num_events, hidden_size)).astype(np.float32)
    labels = draw.integers(1, num_items + 1, num_events)
    _, equal = counts(table, hidden, labels, block)
    copies = np.bincount(kind)[kind[labels - 1]]
    assert (equal >= copies - 1).all()
    # More can tie only by chance, and then by whole kinds
    assert (equal == copies - 1).mean() > 0.99
    _, expected = counts_by_numpy(table.astype(np.float64), hidden, labels)
    assert (expected <= equal).all()


@pytest.mark.device
def test_duplicates_give_the_stated_rank_under_both_rules():
    table = np.zeros((8, 4), np.float32)
    table[:, 0] = [9, 1, 3, 2, 2, 2, 0, 3]  # item 0 never counts
    hidden = np.eye(1, 4, dtype=np.float32).repeat(7, 0)
    higher, equal = counts(table, hidden, np.arange(1, 8))
    standard = protocols.standard(higher, equal)
    np.testing.assert_array_equal(standard, [6, 1, 3, 3, 3, 7, 1])
    conservative = protocols.conservative(higher, equal)
    np.testing.assert_array_equal(conservative, [6, 2, 5, 5, 5, 7, 2])


@pytest.mark.device
def test_unique_best_labels_have_rank_one():
    draw = np.random.default_rng(1)
    table = draw.normal(size=(3001, 64)).astype(np.float32)
    table /= np.linalg.norm(table, axis=1, keepdims=True)
    labels = draw.integers(1, 3001, 10_000)
    # A unit row's product with itself is the largest; any length of hidden will do
    hidden = table[labels] * draw.uniform(0.1, 10, (10_000, 1)).astype(np.float32)
    higher, equal = counts(table, hidden, labels, 1024)
    assert not higher.any()
    assert not equal.any()


@pytest.mark.device
def test_rows_are_read_as_of_the_step():
    draw = np.random.default_rng(2)
    table = draw.integers(-3, 4, (101, 5)).astype(np.float32)
    moves = draw.integers(-3, 4, (101, 5)).astype(np.float32)

    def deferred(state, ids, step):
        return state[0][ids] + step * state[1][ids]

    hidden = draw.integers(-3, 4, (70, 5)).astype(np.float32)
    labels = draw.integers(1, 101, 70)
    rank_step = jax.jit(make_rank_step(deferred, num_items=100, block=70))
    for step in (0, 3):
        state = (jnp.asarray(table), jnp.asarray(moves))
        found = rank_step(
            state, jnp.int32(step), plain(hidden), labels.astype(np.int32), 70
        )
        expected = counts_by_numpy(table + step * moves, hidden, labels)
        np.testing.assert_array_equal(found, expected)


@pytest.mark.device
def test_what_is_not_a_number_ranks_last():
    table = np.random.default_rng(3).normal(size=(41, 4)).astype(np.float32)
    hidden = np.ones((3, 4), np.float32)
    hidden[1] = np.nan
    table[7] = np.nan
    higher, equal = counts(table, hidden, np.array([3, 3, 7]))
    clean = np.delete(table.sum(1), [0, 7])
    assert higher[0] == 1 + (clean > table[3].sum()).sum()
    np.testing.assert_array_equal(higher[1:], [39, 39])
    assert not equal.any()


@pytest.mark.device
def test_golden_metrics():
    golden = np.load(GOLDEN / "metrics.npz")
    real = golden["mask"] > 0
    higher, equal = counts(
        golden["item_table"], golden["hidden"][real], golden["labels"][real]
    )
    ranks = protocols.standard(higher, equal)
    for i, cutoff in enumerate(golden["cutoffs"]):
        for name in ("recall", "mrr"):
            value = metrics.METRICS[name](ranks, cutoff).mean()
            np.testing.assert_allclose(value, golden[name][i], atol=1e-6)


def test_block_too_large_to_count_is_refused():
    with pytest.raises(ValueError, match="32767"):
        make_rank_step(read_rows, num_items=5, block=1 << 15)


def test_no_more_scores_than_a_block_of_them_in_memory():
    block, num_items, chunk, width = 256, 50_000, 8192, 32
    shapes: list[Any] = [
        jax.ShapeDtypeStruct(shape, dtype)
        for shape, dtype in [
            ((num_items + 1, width), jnp.float32),
            ((), jnp.int32),
            ((chunk, width), jnp.float32),
            ((chunk,), jnp.int32),
            ((), jnp.int32),
        ]
    ]
    shapes[2] = jax.eval_shape(plain, shapes[2])
    rank_step = make_rank_step(read_rows, num_items=num_items, block=block)
    memory = jax.jit(rank_step).lower(*shapes).compile().memory_analysis()
    blocks = 4 * (2 * block * block + 6 * block * width)
    assert memory.temp_size_in_bytes < blocks + 4 * 4 * chunk
