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


def test_a_column_for_each_protocol_that_was_taken():
    line = {"split": "test", "events": 7} | dict.fromkeys(KEYS, 0.5)
    steps = {"paper": 9, "exact": 12, "exact_at_best": 9}
    lines = format_summaries(
        dict.fromkeys(steps, line),
        keys=KEYS,
        steps=steps,
        chosen_by=dict.fromkeys(steps, "a rule"),
        position=None,
    ).splitlines()
    assert lines[0].split() == ["test", *steps]
    assert lines[1].split() == ["step", "9", "12", "9"]
    assert (
        len({len(line) for line in lines[:6]}) == 1
    )  # the cells stand below each other
    assert lines[-1] == "checkpoint (exact_at_best): a rule"


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
