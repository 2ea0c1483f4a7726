import numpy as np
import pytest

from tron_jax.evaluation import metrics


@pytest.mark.parametrize(
    ("ties", "expected"),
    [("standard", [1, 3, 20, 21]), ("conservative", [5, 3, 21, 21])],
)
def test_ties_are_counted_for_or_against_the_label(ties, expected):
    higher, equal = np.array([0, 2, 19, 20]), np.array([4, 0, 1, 0])
    ranks = metrics.ranks_of(higher, equal, ties)
    np.testing.assert_array_equal(ranks, expected)
    recall = metrics.mean_of_means(metrics.recall_at(ranks, 20))
    assert recall == np.mean([rank <= 20 for rank in expected])
    mrr = metrics.mean_of_means(metrics.mrr_at(ranks, 20))
    assert mrr == np.mean([1 / rank if rank <= 20 else 0 for rank in expected])


def test_unknown_tie_rule_is_named():
    with pytest.raises(KeyError, match="optimistic"):
        metrics.ranks_of(np.zeros(1), np.zeros(1), "optimistic")


def test_ranks_do_not_overflow():
    most = np.array([2**31 - 1], np.int32)
    assert metrics.ranks_of(most, most, "conservative") == 2**32 - 1


def test_mean_of_batch_means_is_not_the_mean_over_events():
    ranks = np.array([1, 1, 1, 30])
    batch = np.array([0, 0, 0, 2])  # batch 1 has no events
    totals = metrics.recall_at(ranks, 20, batch)
    np.testing.assert_array_equal(totals.sum, [3, 0, 0])
    np.testing.assert_array_equal(totals.count, [3, 0, 1])
    assert metrics.mean_of_means(totals) == 0.5
    assert metrics.mean_of_means(metrics.recall_at(ranks, 20)) == 0.75


def test_no_events_have_no_mean():
    assert np.isnan(metrics.mean_of_means(metrics.recall_at(np.zeros(0), 20)))
