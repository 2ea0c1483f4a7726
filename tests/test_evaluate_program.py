"""A checkpoint alone is enough to evaluate a run."""

import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
import tiny

from tron_jax.data.sessions import open_prepared
from tron_jax.reporting import metrics_writer
from tron_jax.storage.checkpoints import Checkpoints


def line_of(workdir, step, protocol):
    """The line that training wrote about a step."""
    (found,) = [
        line
        for line in metrics_writer.read(workdir / "metrics.jsonl")
        if (line["step"], line.get("protocol")) == (step, protocol)
    ]
    return {key: value for key, value in found.items() if key not in ("epoch", "time")}


def column(out, name):
    """The two cells of a printed line, paper and exact."""
    (cells,) = [line.split() for line in out.splitlines() if line.split()[0] == name]
    return cells[1:]


def test_each_protocol_takes_its_own_checkpoint(stopped, evaluate):
    status, out, err = evaluate(stopped)
    assert (status, err) == (0, "")
    assert column(out, "test") == ["paper", "exact"]
    assert column(out, "step") == ["25", "33"]
    assert "checkpoint (paper): best, the highest Recall@20 on test" in out
    assert "checkpoint (exact): latest" in out
    assert "reveal" not in out
    paper, exact = json.loads((stopped / "evaluation.json").read_text())
    assert paper == line_of(stopped, 25, "paper")
    assert (exact["step"], exact["protocol"]) == (33, "exact")
    # Not what training wrote at step 25: the state has moved on.
    before = line_of(stopped, 25, "exact")
    assert exact["events"] == before["events"]
    assert exact["mrr@20"] != before["mrr@20"]


@pytest.mark.portable
@pytest.mark.parametrize(
    ("asked", "step", "rule"),
    [
        ("25", 25, "asked for by --step"),
        ("best", 25, "best, the highest Recall@20 on test"),
        ("latest", 33, "latest"),
    ],
)
def test_both_protocols_at_one_step(stopped, evaluate, asked, step, rule):
    status, out, _ = evaluate(stopped, f"--step={asked}")
    assert status == 0
    assert column(out, "step") == [str(step)] * 2
    for protocol in ("paper", "exact"):
        assert f"checkpoint ({protocol}): {rule}\n" in f"{out}\n"
    found = json.loads((stopped / "evaluation.json").read_text())
    assert [line["step"] for line in found] == [step, step]
    if step == 25:  # an evaluated one: the numbers are those of training
        assert found == [line_of(stopped, 25, name) for name in ("paper", "exact")]


def test_metrics_follow_from_the_ranks(stopped, tiny_data, evaluate):
    _, out, _ = evaluate(stopped)
    table = pq.read_table(stopped / "ranks.parquet")
    assert table.column_names == [
        *("protocol", "session", "event", "label", "higher", "equal")
    ]
    ranks = {name: table[name].to_numpy() for name in table.column_names}
    test = open_prepared(tiny_data).test
    printed = dict(zip(("paper", "exact"), column(out, "Recall@20"), strict=True))
    found = json.loads((stopped / "evaluation.json").read_text())

    exact = ranks["protocol"] == "exact"
    assert exact.sum() == test.num_events - test.num_sessions
    rank = 1 + ranks["higher"][exact] + ranks["equal"][exact]
    recall, mrr = np.mean(rank <= 20), np.mean(np.where(rank <= 20, 1 / rank, 0))
    assert found[1]["recall@20"] == pytest.approx(recall, rel=1e-12)
    assert found[1]["mrr@20"] == pytest.approx(mrr, rel=1e-12)
    assert printed["exact"] == f"{recall:.4f}"

    # Two whole batches of 128 sessions; the 44 sessions left are out.
    paper = ranks["protocol"] == "paper"
    rank = 1 + ranks["higher"][paper]
    batch = (ranks["session"][paper] - test.ids[0].as_py()) // 128
    assert set(batch) == {0, 1}
    recall = np.mean([np.mean(rank[batch == number] <= 20) for number in (0, 1)])
    assert found[0]["recall@20"] == pytest.approx(recall, rel=1e-12)
    assert printed["paper"] == f"{recall:.4f}"

    # Every label stands where it says.
    ids = {session.as_py(): row for row, session in enumerate(test.ids)}
    rows = np.array([ids[session] for session in ranks["session"]])
    where = test.offsets[rows] + ranks["event"]
    np.testing.assert_array_equal(ranks["label"], test.items[where])


def test_nothing_but_the_checkpoint_and_config_is_needed(stopped, evaluate):
    _, before, _ = evaluate(stopped)
    (stopped / "metrics.jsonl").unlink()
    (stopped / "ranks.parquet").unlink()
    config = (stopped / "config.json").read_bytes()
    status, after, _ = evaluate(stopped)
    assert (status, after) == (0, before)
    assert (stopped / "config.json").read_bytes() == config
    assert Checkpoints(stopped / "checkpoints").steps() == [25, 28, 33]


def test_data_that_has_moved(stopped, tmp_path, tiny_data, evaluate):
    _, before, _ = evaluate(stopped)
    shutil.copytree(tiny_data, tmp_path / "moved")
    content = json.loads((stopped / "config.json").read_text())
    content["data"]["path"] = None  # as results are committed
    (stopped / "config.json").write_text(json.dumps(content))
    tiny.assert_refused(evaluate(stopped), "data.path is not set")
    status, after, _ = evaluate(stopped, f"--data={tmp_path / 'moved'}")
    assert (status, after) == (0, before)


def test_positions_that_reveal_the_end_are_told(stopped, evaluate):
    content = json.loads((stopped / "config.json").read_text())
    content["model"]["position"] = "from_end"
    (stopped / "config.json").write_text(json.dumps(content))
    status, out, _ = evaluate(stopped, "--step=latest")
    assert status == 0
    assert "positions reveal how many clicks" in out
