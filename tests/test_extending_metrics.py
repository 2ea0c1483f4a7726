"""A metric is one function and one line: a toy one, from training to evaluation."""

import json

import pytest

from tron_jax.evaluation import metrics
from tron_jax.reporting import metrics_writer


def precision(ranks, cutoff):
    return (ranks <= cutoff) / cutoff


def test_a_toy_metric(tmp_path, monkeypatch, train, evaluate):
    monkeypatch.setitem(metrics.METRICS, "precision", precision)
    workdir = tmp_path / "run"
    fields = {"eval__metrics": "('precision',)", "eval__cutoffs": "(5,)"}
    status, out, err = train(workdir, train__epochs=1, **fields)
    assert (status, err) == (0, "")
    assert "Precision@5 " in out
    paper, exact = [
        line
        for line in metrics_writer.read(workdir / "metrics.jsonl")
        if "protocol" in line
    ]
    for line in (paper, exact):
        for cutoff in (5, 20):
            recall = line[f"recall@{cutoff}"]
            assert line[f"precision@{cutoff}"] == pytest.approx(recall / cutoff)
    status, out, _ = evaluate(workdir)
    assert status == 0
    printed = {line.split()[0]: line.split()[1:] for line in out.splitlines()}
    assert printed["Precision@5"][1] == f"{exact['precision@5']:.4f}"
    found = json.loads((workdir / "evaluation.json").read_text())
    assert found[1]["precision@20"] == exact["precision@20"]
