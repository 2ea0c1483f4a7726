import numpy as np
import pytest

from tron_jax.evaluation import protocols
from tron_jax.evaluation.metrics import recall, reported
from tron_jax.evaluation.rank_file import Ranks

REPORTED = reported(["recall", "mrr", "ndcg"], [5, 10, 20])


def make_ranks(session, higher, equal):
    count = len(session)
    columns = session, 1 + np.arange(count), 11 + np.arange(count), higher, equal
    return Ranks(*(np.asarray(column, np.int32) for column in columns))


PAPER = make_ranks([0, 0, 1, 2], [0, 4, 9, 30], [0, 1, 0, 0])
EXACT = make_ranks([0, 0, 1, 2, 4], [0, 4, 9, 30, 0], [0, 1, 0, 0, 3])


@pytest.mark.parametrize(
    ("rule", "expected"),
    [(protocols.standard, [1, 3, 20, 21]), (protocols.conservative, [5, 3, 21, 21])],
)
def test_ties_are_counted_for_or_against_the_label(rule, expected):
    higher, equal = np.array([0, 2, 19, 20]), np.array([4, 0, 1, 0])
    np.testing.assert_array_equal(rule(higher, equal), expected)


def test_ranks_do_not_overflow():
    most = np.array([2**31 - 1], np.int32)
    assert protocols.conservative(most, most) == 2**32 - 1


def test_mean_of_batch_means_is_not_the_mean_over_events():
    values = recall(np.array([1, 1, 1, 30]), 20)
    batch = np.array([0, 0, 0, 2])  # batch 1 has no events
    assert protocols.mean(values, batch) == 0.5
    assert protocols.mean(values) == 0.75


def test_paper_is_a_mean_of_batch_means_with_ties_in_favour():
    summary = protocols.summarise(
        PAPER, "paper", split="test", reported=REPORTED, paper_batch_size=2
    )
    gain = 1 / np.log2(1 + np.array([1, 5, 10]))
    expected = {
        "split": "test",
        "protocol": "paper",
        "events": 4,
        "recall@5": np.mean([2 / 3, 0]),
        "recall@10": np.mean([1, 0]),
        "recall@20": np.mean([1, 0]),
        "mrr@5": np.mean([(1 + 1 / 5) / 3, 0]),
        "mrr@10": np.mean([(1 + 1 / 5 + 1 / 10) / 3, 0]),
        "mrr@20": np.mean([(1 + 1 / 5 + 1 / 10) / 3, 0]),
        "ndcg@5": np.mean([gain[:2].sum() / 3, 0]),
        "ndcg@10": np.mean([gain.sum() / 3, 0]),
        "ndcg@20": np.mean([gain.sum() / 3, 0]),
    }
    assert list(summary) == list(expected)
    assert summary == expected


def test_exact_is_a_mean_over_events_with_ties_against():
    summary = protocols.summarise(EXACT, "exact", split="validation", reported=REPORTED)
    assert summary["split"] == "validation"
    assert summary["events"] == 5
    assert summary["recall@5"] == 2 / 5
    assert summary["recall@10"] == 4 / 5
    np.testing.assert_allclose(summary["mrr@10"], (1 + 1 / 6 + 1 / 10 + 1 / 4) / 5)
