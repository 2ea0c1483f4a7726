import math

import numpy as np
import pytest

from tron_jax.evaluation import metrics


def recommended(rank, cutoff):
    """A list of recommendations: True where the item is the label."""
    return [position == rank for position in range(1, cutoff + 1)]


def recall(hits):
    return sum(hits) / 1  # of one relevant item


def mrr(hits):
    return 1 / (1 + hits.index(True)) if True in hits else 0


def ndcg(hits):
    gain = sum(hit / math.log2(1 + i) for i, hit in enumerate(hits, start=1))
    ideal = sorted(hits, reverse=True)
    most = sum(hit / math.log2(1 + i) for i, hit in enumerate(ideal, start=1))
    return gain / most if most else 0


REFERENCES = {"recall": recall, "mrr": mrr, "ndcg": ndcg}


@pytest.mark.parametrize("name", metrics.METRICS)
@pytest.mark.parametrize("cutoff", [1, 5, 20])
def test_metrics_against_lists_of_recommendations(name, cutoff):
    ranks = np.array([1, 2, 3, 5, 6, 19, 20, 21, 1000, 2**32])
    found = metrics.METRICS[name](ranks, cutoff)
    assert found.dtype == np.float64
    expected = [REFERENCES[name](recommended(rank, cutoff)) for rank in ranks]
    np.testing.assert_allclose(found, expected, rtol=1e-15)


def test_hit_rate_is_another_name_of_recall():
    for name in ("HitRate", "hitrate", "Recall", "RECALL"):
        assert metrics.canonical_name(name) == "recall"
    assert metrics.reported(["MRR", "HitRate", "recall"], [20]).names == (
        "mrr",
        "recall",
    )
    with pytest.raises(KeyError, match="'AUC'; expected one of: recall, mrr, ndcg"):
        metrics.reported(["AUC"], [])


def test_recall_at_20_is_always_reported():
    found = metrics.reported(["ndcg"], [50, 1, 50])
    assert list(found.by_key) == [
        *("recall@1", "recall@20", "recall@50"),
        *("ndcg@1", "ndcg@20", "ndcg@50"),
    ]
    assert found.by_key["ndcg@50"] == (metrics.ndcg, 50)
    assert list(metrics.reported([], []).by_key) == [metrics.BEST_KEY] == ["recall@20"]


def test_titles():
    titles = [metrics.title(key) for key in ("recall@20", "mrr@5", "ndcg@100")]
    assert titles == ["Recall@20", "MRR@5", "NDCG@100"]
