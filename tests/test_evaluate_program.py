"""A checkpoint alone is enough to evaluate a run."""

import contextlib
import io
import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
import tiny

from experiments import evaluate as program
from tron_jax.data.sessions import open_prepared
from tron_jax.evaluation.protocols import EXACT_AT_BEST as AT_BEST
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


def written(workdir):
    """The lines of evaluation.json, and the rules that chose their steps."""
    lines = json.loads((workdir / "evaluation.json").read_text())
    assert [list(line)[:4] for line in lines] == [
        ["step", "chosen_by", "split", "protocol"]
    ] * len(lines)
    checkpoints = Checkpoints(workdir / "checkpoints")
    for line in lines:
        assert line.pop("checkpoint") == checkpoints.checksum(line["step"])
    return lines, [line.pop("chosen_by") for line in lines]


def column(out, name):
    """The cells of a printed line, those of paper and exact first."""
    (cells,) = [line.split() for line in out.splitlines() if line.split()[0] == name]
    return cells[1:]


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory, _stopped, compilations):
    """A run that was evaluated, to be read only, and what was printed."""
    workdir = tmp_path_factory.mktemp("evaluated") / "run"
    shutil.copytree(_stopped, workdir)
    out, err = io.StringIO(), io.StringIO()
    with (
        tiny.compiled_once(compilations),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        assert program.main(["evaluate", f"--workdir={workdir}"]) == 0
    assert err.getvalue() == ""
    return workdir, out.getvalue()


def test_each_protocol_takes_its_own_checkpoint(evaluated):
    workdir, out = evaluated
    assert column(out, "test") == ["paper", "exact", "exact_at_best"]
    assert column(out, "step") == ["25", "33", "25"]
    best = "best, the highest Recall@20 on test"
    for protocol, rule in (("paper", best), ("exact", "latest"), (AT_BEST, best)):
        assert f"checkpoint ({protocol}): {rule}\n" in out
    assert "reveal" not in out
    (paper, exact, at_best), rules = written(workdir)
    assert rules == [best, "latest", best]
    assert paper == line_of(workdir, 25, "paper")
    assert (exact["step"], exact["protocol"]) == (33, "exact")
    # Not what training wrote at step 25: the state has moved on.
    before = line_of(workdir, 25, "exact")
    assert exact["events"] == before["events"]
    assert exact["mrr@20"] != before["mrr@20"]
    assert at_best == before | {"protocol": AT_BEST}
    assert list(at_best) == list(exact)


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
    found, rules = written(stopped)
    assert (column(out, "test"), rules) == (["paper", "exact"], [rule, rule])
    assert [line["step"] for line in found] == [step, step]
    if step == 25:  # an evaluated one: the numbers are those of training
        assert found == [line_of(stopped, 25, name) for name in ("paper", "exact")]


def test_metrics_follow_from_the_ranks(evaluated, tiny_data):
    workdir, out = evaluated
    table = pq.read_table(workdir / "ranks.parquet")
    assert table.column_names == [
        *("protocol", "session", "event", "label", "higher", "equal")
    ]
    ranks = {name: table[name].to_numpy() for name in table.column_names}
    test = open_prepared(tiny_data).test
    protocols = ("paper", "exact", AT_BEST)
    printed = dict(zip(protocols, column(out, "Recall@20"), strict=True))
    found, _ = written(workdir)
    assert list(dict.fromkeys(ranks["protocol"])) == list(protocols)

    exact = ranks["protocol"] == "exact"
    assert exact.sum() == test.num_events - test.num_sessions
    at_best = ranks["protocol"] == AT_BEST
    for name in ("session", "event", "label"):
        np.testing.assert_array_equal(ranks[name][at_best], ranks[name][exact])
    assert np.any(ranks["higher"][at_best] != ranks["higher"][exact])
    rank = 1 + ranks["higher"][at_best] + ranks["equal"][at_best]
    assert found[2]["recall@20"] == pytest.approx(np.mean(rank <= 20), rel=1e-12)
    assert printed[AT_BEST] == f"{found[2]['recall@20']:.4f}"
    rank = 1 + ranks["higher"][exact] + ranks["equal"][exact]
    recall, mrr = np.mean(rank <= 20), np.mean(np.where(rank <= 20, 1 / rank, 0))
    assert found[1]["recall@20"] == pytest.approx(recall, rel=1e-12)
    assert found[1]["mrr@20"] == pytest.approx(mrr, rel=1e-12)
    assert printed["exact"] == f"{recall:.4f}"
    ndcg = np.mean(np.where(rank <= 20, 1 / np.log2(1 + rank), 0))
    assert found[1]["ndcg@20"] == pytest.approx(ndcg, rel=1e-12)
    assert column(out, "NDCG@20")[1] == f"{ndcg:.4f}"

    # Two whole batches of 128 sessions; the 44 sessions left are out.
    paper = ranks["protocol"] == "paper"
    rank = 1 + ranks["higher"][paper]
    batch = (ranks["session"][paper] - test.ids[0].as_py()) // 128
    assert set(batch) == {0, 1}
    recall = np.mean([np.mean(rank[batch == number] <= 20) for number in (0, 1)])
    assert found[0]["recall@20"] == pytest.approx(recall, rel=1e-12)
    assert printed["paper"] == f"{recall:.4f}"

    # The labels are the clicks that they are said to be.
    ids = {session.as_py(): row for row, session in enumerate(test.ids)}
    rows = np.array([ids[session] for session in ranks["session"]])
    where = test.offsets[rows] + ranks["event"]
    np.testing.assert_array_equal(ranks["label"], test.items[where])


def test_nothing_but_the_checkpoint_and_config_is_needed(stopped, evaluated, evaluate):
    (stopped / "metrics.jsonl").unlink()
    config = (stopped / "config.json").read_bytes()
    status, after, _ = evaluate(stopped)
    assert (status, after) == (0, evaluated[1])
    assert (stopped / "config.json").read_bytes() == config
    assert Checkpoints(stopped / "checkpoints").steps() == [25, 28, 33]


def test_a_full_disk_leaves_the_last_evaluation(
    evaluated, tmp_path, evaluate, monkeypatch
):
    workdir = tmp_path / "run"
    shutil.copytree(evaluated[0], workdir)
    files = [workdir / name for name in ("evaluation.json", "ranks.parquet")]
    before = [file.read_bytes() for file in files]

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(pq.ParquetWriter, "write_table", full)
        outcome = evaluate(workdir)
    tiny.assert_refused(outcome, "cannot write", "ranks.parquet: No space", "--out=DIR")
    assert [file.read_bytes() for file in files] == before
    assert not list(workdir.glob("*.new*"))


def test_data_that_has_moved(stopped, evaluated, tmp_path, tiny_data, evaluate):
    shutil.copytree(tiny_data, tmp_path / "moved")
    content = json.loads((stopped / "config.json").read_text())
    content["data"]["path"] = None  # as results are committed
    (stopped / "config.json").write_text(json.dumps(content))
    tiny.assert_refused(evaluate(stopped), "data.path is not set")
    status, after, _ = evaluate(stopped, f"--data={tmp_path / 'moved'}")
    assert (status, after) == (0, evaluated[1])


def test_positions_that_reveal_the_end_are_named(stopped, evaluate):
    content = json.loads((stopped / "config.json").read_text())
    content["model"]["position"] = "from_end"
    (stopped / "config.json").write_text(json.dumps(content))
    status, out, _ = evaluate(stopped, "--step=latest")
    assert status == 0
    assert "positions reveal how many clicks" in out


def test_a_run_from_before_metrics_could_be_chosen(stopped, evaluated, evaluate):
    content = json.loads((stopped / "config.json").read_text())
    del content["eval"]
    (stopped / "config.json").write_text(json.dumps(content))
    status, out, _ = evaluate(stopped)
    assert (status, out) == (0, evaluated[1])


def test_metrics_chosen_after_training(stopped, train, evaluate):
    """The config's metrics may change on resume; the best checkpoint stays the best."""
    chosen = {"eval__metrics": "('HitRate','ndcg')", "eval__cutoffs": "(50,1)"}
    status, _, err = train(stopped, **chosen)
    assert (status, err) == (0, "")
    keys = [f"{name}@{cutoff}" for name in ("recall", "ndcg") for cutoff in (1, 20, 50)]
    last = line_of(stopped, 50, "exact")
    assert list(last)[4:] == keys
    status, out, _ = evaluate(stopped, "--step=latest")
    assert status == 0
    assert [line.split()[0] for line in out.splitlines()[3:-2]] == [
        *("Recall@1", "Recall@20", "Recall@50", "NDCG@1", "NDCG@20", "NDCG@50")
    ]
    assert written(stopped)[0][1] == last
    assert last["ndcg@1"] == last["recall@1"] <= last["ndcg@20"] <= last["recall@20"]


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("metrics", "('recall','auc')", "of: recall, mrr, ndcg, hit"),
        ("cutoffs", "(5,0)", "(5, 0); expected a tuple of whole numbers of at least 1"),
        ("cutoffs", "(1.5,)", "(1.5,); expected a tuple of whole numbers"),
        ("cutoffs", "ten", "('ten',); expected a tuple of whole numbers"),
    ],
)
def test_metrics_that_make_no_sense(tmp_path, train, field, value, message):
    outcome = train(tmp_path / "run", **{f"eval__{field}": value})
    tiny.assert_refused(outcome, f"eval.{field} is ", message)
    assert not (tmp_path / "run").exists()
