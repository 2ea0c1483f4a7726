import numpy as np
import pytest

from tron_jax.data import neighbours
from tron_jax.data.neighbours import neighbour_means

WIDTH = 3


def slow(sessions, table, is_new):
    """By hand, one new item after the other."""
    means, counts = [], []
    for item in np.flatnonzero(is_new):
        rows = [
            np.float64(table[other])
            for session in sessions
            if item in session
            for other in session
            if not is_new[other]
        ]
        means.append(np.mean(rows, axis=0) if rows else np.zeros(WIDTH))
        counts.append(len(rows))
    return np.array(means), counts


@pytest.mark.parametrize("block", [1, 7, 1 << 14])
def test_means_of_sessions_one_by_one(monkeypatch, block):
    """New items that repeat, or are alone with others, and sessions from the middle."""
    monkeypatch.setattr(neighbours, "BLOCK", block)
    draw = np.random.default_rng(0)
    is_new = np.append(False, draw.random(40) < 0.3)
    sessions = [list(draw.integers(1, 41, draw.integers(2, 6))) for _ in range(60)]
    sessions += [[int(np.flatnonzero(is_new)[0])] * 3]
    offsets = np.cumsum([0, *map(len, sessions)])
    table = draw.normal(size=(41, WIDTH)).astype(np.float32)
    table[is_new] = np.nan  # never read
    items = np.concatenate(sessions).astype(np.int32)
    means, counts = neighbour_means(items, offsets[10:], table, is_new)
    expected, known = slow(sessions[10:], table, is_new)
    assert counts.tolist() == known
    np.testing.assert_allclose(means, expected, rtol=1e-6, atol=1e-7)


def test_an_item_with_new_neighbours_alone_has_no_mean():
    is_new = np.array([False, False, True, True])
    table = np.ones((4, WIDTH), np.float32)
    items, offsets = np.array([2, 3, 1, 2], np.int32), np.array([0, 2, 4])
    means, counts = neighbour_means(items, offsets, table, is_new)
    assert counts.tolist() == [1, 0]
    assert means.tolist() == [[1.0] * WIDTH, [0.0] * WIDTH]


def test_nothing_new():
    items, offsets = np.array([1, 2], np.int32), np.array([0, 2])
    means, counts = neighbour_means(items, offsets, np.ones((3, 2)), np.zeros(3, bool))
    assert means.shape == (0, 2)
    assert counts.shape == (0,)
