import sys

import pytest

from tron_jax.errors import UserError
from tron_jax.reporting import metrics_writer, plots


def write_run(path, *, epochs, steps, window, splits=("test",), stop=None):
    with metrics_writer.MetricsWriter(path) as writer:
        for epoch in range(1, epochs + 1):
            step = (epoch - 1) * steps
            while step < epoch * steps:
                step = min(step + window, epoch * steps)
                if stop is not None and step > stop:
                    return
                line = {"step": step, "epoch": step / steps, "time": step / 10}
                writer.write(line | {"loss": 6 - step / 100, "sessions_per_s": 1e3})
            for split in splits:
                for protocol in ("paper", "exact"):
                    line |= {"split": split, "protocol": protocol, "events": 9}
                    writer.write(line | {"recall@20": epoch / 9, "mrr@20": 0.1})


def test_draws_a_picture(tmp_path):
    pytest.importorskip("matplotlib")
    metrics, picture = tmp_path / "metrics.jsonl", tmp_path / "metrics.png"
    picture.write_text("an older one")
    write_run(metrics, epochs=3, steps=100, window=30, splits=("validation", "test"))
    assert plots.plot_run(metrics, picture)
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert sorted(p.name for p in tmp_path.iterdir()) == [metrics.name, picture.name]


@pytest.mark.parametrize("splits", [(), ("test",), ("validation", "test")])
def test_a_panel_for_each_metric_and_a_curve_for_each_protocol(
    tmp_path, monkeypatch, splits
):
    pytest.importorskip("matplotlib")
    from matplotlib.figure import Figure

    figure = Figure()
    monkeypatch.setattr(plots, "save", lambda path, draw, size: draw(figure))
    write_run(tmp_path / "m", epochs=3, steps=100, window=30, splits=splits)
    plots.plot_run(tmp_path / "m", tmp_path / "unused")
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    shown = ["Recall@20", "MRR@20"] if splits else ["Recall@20"]
    assert titles == ["Training loss", *shown]
    for axes in figure.axes[1:]:
        legend = axes.get_legend_handles_labels()[1]
        assert len(legend) == 2 * len(splits)
    if splits:
        recall = figure.axes[1].get_legend_handles_labels()[1]
        assert recall[0] == "test, paper: best 0.3333 (epoch 3)"


def test_panels_are_of_20_or_else_the_largest_cut_off():
    lines = [
        {"split": "test", "recall@5": 0, "recall@20": 0, "recall@100": 0, "mrr@9": 0},
        {"split": "test", "recall@20": 0, "mrr@10": 0, "ndcg@20": 0},
    ]
    assert plots.panel_keys(lines) == ["recall@20", "mrr@10", "ndcg@20"]


def test_a_run_with_no_lines_yet(tmp_path):
    pytest.importorskip("matplotlib")
    (tmp_path / "metrics.jsonl").touch()
    assert plots.plot_run(tmp_path / "metrics.jsonl", tmp_path / "metrics.png")
    with pytest.raises(UserError, match="cannot read"):
        plots.plot_run(tmp_path / "none", tmp_path / "metrics.png")


def test_without_matplotlib(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    write_run(tmp_path / "metrics.jsonl", epochs=1, steps=10, window=5)
    assert not plots.plot_run(tmp_path / "metrics.jsonl", tmp_path / "metrics.png")
    assert not (tmp_path / "metrics.png").exists()


def test_means_of_epochs(tmp_path):
    write_run(tmp_path / "m", epochs=2, steps=100, window=40, splits=(), stop=140)
    starts, ends, means = plots.epoch_means(metrics_writer.read(tmp_path / "m"))
    assert (starts, ends) == ([0, 1], [1.0, 1.4])
    assert means == pytest.approx([0.4 * 5.6 + 0.4 * 5.2 + 0.2 * 5.0, 4.6])
    assert plots.epoch_means([]) == ([], [], [])


def test_picture_that_cannot_be_written(tmp_path):
    pytest.importorskip("matplotlib")
    (tmp_path / "metrics.jsonl").touch()
    with pytest.raises(UserError, match=r"cannot write .*: No such file"):
        plots.plot_run(tmp_path / "metrics.jsonl", tmp_path / "none" / "metrics.png")
