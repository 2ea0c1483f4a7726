from tron_jax.reporting.evaluation_table import format_summaries

KEYS = ["recall@5", "recall@20", "ndcg@20"]


def table(summaries, position="from_end"):
    return format_summaries(
        summaries,
        keys=KEYS,
        steps={"paper": 1200, "exact": 3400},
        chosen_by={"paper": "highest Recall@20 on test", "exact": "latest"},
        position=position,
    ).splitlines()


def test_shows_both_protocols_and_what_belongs_to_them():
    exact = {"split": "test", "protocol": "exact", "events": 5000}
    exact |= dict(zip(KEYS, (0.4, 0.5, 1 / 3), strict=True))
    lines = table({"paper": None, "exact": exact})
    assert [line.split() for line in lines[:6]] == [
        ["test", "paper", "exact"],
        ["step", "1,200", "3,400"],
        ["events", "n/a", "5,000"],
        ["Recall@5", "n/a", "0.4000"],
        ["Recall@20", "n/a", "0.5000"],
        ["NDCG@20", "n/a", "0.3333"],
    ]
    assert "checkpoint (paper): highest Recall@20 on test" in lines
    assert "how many clicks" in lines[-1]
    assert "how many clicks" not in table({"exact": exact}, "from_start")[-1]
