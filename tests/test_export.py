"""``experiments.export``: a folder from which anything that has jax can recommend."""

import itertools
import json
import re
import shutil
import subprocess
import sys

import jax
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import test_recommending as small
import tiny
from conftest import said
from made_up_results import drawn_ranks, write_run

from experiments import export, recommend, run_files, workdirs
from experiments.assembly import trained
from experiments.exporting import card
from tron_jax.data.sessions import catalogue_of, open_prepared
from tron_jax.models.cosine import cosine
from tron_jax.recommending import recommender
from tron_jax.recommending.recommender import Model
from tron_jax.reporting import metrics_writer
from tron_jax.serving import folder, onnx_graph, stablehlo
from tron_jax.serving.scorer import Weights, make_last_queries, make_scorer


@pytest.fixture
def run(tmp_path, compilations, capfd):
    """Exports: ``(workdir, *flags) -> status, out, err``, into ``tmp_path/model``."""

    def call(workdir, *flags):
        capfd.readouterr()
        argv = ["export", f"--workdir={workdir}", f"--out={tmp_path / 'model'}"]
        with tiny.compiled_once(compilations):
            status = export.main([*argv, *flags])
        return status, *said(capfd)

    return call


@pytest.fixture(scope="module")
def exported(tmp_path_factory, tiny_runs, compilations):
    """An exported model, to be read; its run was never evaluated."""
    out = tmp_path_factory.mktemp("exported") / "model"
    argv = [f"--workdir={tiny_runs('rows')}", f"--out={out}", "--k=30"]
    with tiny.compiled_once(compilations):
        assert export.main(["export", *argv]) == 0
    return out


@pytest.fixture
def copied(exported, tmp_path):
    return shutil.copytree(exported, tmp_path / "copy")


def sessions(tiny_data):
    test = open_prepared(tiny_data).test
    return [
        test.items[first:last].tolist()
        for first, last in itertools.pairwise(test.offsets)
    ]


def test_it_recommends_as_the_run_does(exported, tiny_runs, tiny_data, tmp_path):
    clicks = [(s, i) for s, items in enumerate(sessions(tiny_data)) for i in items]
    log = tmp_path / "log.parquet"
    columns = map(list, zip(*clicks, strict=True))
    pq.write_table(pa.table(dict(zip("si", columns, strict=True))), log)
    lists = []
    for model in (tiny_runs("rows"), exported):
        out = tmp_path / "lists.parquet"
        argv = [f"--model={model}", f"--sessions={log}", f"--out={out}"]
        argv += ["--session=s", "--item=i", "--per_event", "--k=9"]
        assert recommend.main(["recommend", *argv]) == 0
        lists.append(pq.read_table(out))
    assert lists[0].drop_columns("score").equals(lists[1].drop_columns("score"))
    scores = [table["score"].to_numpy() for table in lists]
    np.testing.assert_allclose(*scores, rtol=1e-5, atol=1e-6)


def test_it_is_no_run_to_evaluate(exported, evaluate):
    tiny.assert_refused(evaluate(exported), "no checkpoint in", "a trained run")


@pytest.mark.portable
def test_the_code_in_its_card_needs_nothing_of_this_package(exported):
    text = (exported / "MODEL_CARD.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, re.S)
    command = [sys.executable, "-I", "-c", f"{code}\nprint(best.tolist())"]
    done = subprocess.run(
        command,
        cwd=exported,
        env={"JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    best = json.loads(done.stdout.splitlines()[-1])
    model = trained.load(exported)
    recommender, params, table, step = model.model
    items, offsets = np.array([1, 5, 8], np.int32), np.array([0, 1, 3])
    found = recommender(params, table, step, items, offsets, k=30)
    assert best == found.items.tolist()


@pytest.mark.portable
@pytest.mark.parametrize("kind", small.KINDS)
def test_the_exported_scorer_is_the_recommender(kind):
    encoder = small.GRU4REC if kind == "slots" else small.SASREC
    weights = Weights(*small.model(kind))
    position = "from_start" if kind == "slots" else kind
    longest = small.LONGEST
    last_queries = make_last_queries(
        encoder, max_session_length=longest, position=position
    )
    score = make_scorer(last_queries, k=9)
    served = jax.export.deserialize(bytearray(stablehlo.serialize(score, weights)))
    items, offsets = small.clicks()
    expected = small.recommender(kind)(*weights, 0, items, offsets, k=9)
    clicks = [items[a:b] for a, b in itertools.pairwise(offsets)]
    if kind != "slots":
        clicks = [session[-longest:] for session in clicks]
    for some in (clicks[:1], clicks[3:20], clicks):
        padded, lengths = rows(some)
        scores, best = served.call(jax.tree.leaves(weights), padded, lengths)
        first = {1: 0, 17: 3}.get(len(some), 0)
        wanted = [part[first : first + len(some)] for part in expected]
        np.testing.assert_allclose(scores, wanted[1], rtol=1e-4, atol=1e-4)
        differ = np.asarray(best) != wanted[0]
        # Neighbours may swap whose scores differ by rounding alone.
        assert differ.mean() < 0.02
    assert stablehlo.names(weights)[-1] == "table"


@pytest.mark.parametrize("kind", small.KINDS)
def test_the_onnx_graph_is_the_recommender(kind, tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    weights = Weights(*jax.tree.map(np.asarray, small.model(kind)))
    path = tmp_path / "model.onnx"
    onnx_graph.save(
        path,
        weights,
        model="gru4rec" if kind == "slots" else "sasrec",
        num_heads=1,
        k=9,
        max_session_length=small.LONGEST,
        position="from_start" if kind == "slots" else kind,
    )
    session = runtime.InferenceSession(path)
    items, offsets = small.clicks()
    expected = small.recommender(kind)(*weights, 0, items, offsets, k=9)
    clicks = [items[a:b] for a, b in itertools.pairwise(offsets)]
    if kind != "slots":
        clicks = [one[-small.LONGEST :] for one in clicks]
    for first, last in ((0, 1), (3, 20), (0, len(clicks))):
        padded, lengths = rows(clicks[first:last])
        inputs = {"items": padded, "lengths": lengths}
        scores, best = session.run(["scores", "best"], inputs)
        wanted = [part[first:last] for part in expected]
        np.testing.assert_allclose(scores, wanted[1], rtol=1e-4, atol=1e-4)
        assert (best != wanted[0]).mean() < 0.02  # by rounding alone


def test_the_onnx_graph_of_cosines(tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    weights = Weights(*jax.tree.map(np.asarray, small.model("from_start")))
    path = tmp_path / "model.onnx"
    onnx_graph.save(
        path,
        weights,
        model="sasrec",
        num_heads=1,
        k=small.NUM_ITEMS,
        max_session_length=small.LONGEST,
        position="from_start",
        cosine_scale=7.0,
    )
    items = np.random.default_rng(3).integers(1, small.NUM_ITEMS, (4, small.LONGEST))
    items = items.astype(np.int32)
    lengths = np.full(4, small.LONGEST, np.int32)
    session = runtime.InferenceSession(path)
    inputs = {"items": items, "lengths": lengths}
    scores, best = session.run(["scores", "best"], inputs)
    position = np.broadcast_to(np.arange(small.LONGEST), items.shape)
    encoder = cosine(small.SASREC, 7.0)
    hidden = encoder.encode_rows(weights.params, weights.table[items], position)[:, -1]
    wanted = np.take_along_axis(np.asarray(hidden) @ weights.table.T, best, axis=1)
    np.testing.assert_allclose(scores, wanted, rtol=1e-4, atol=1e-4)


def rows(sessions):
    """Sessions a line each, padded by an item, and their lengths."""
    lengths = np.array([len(session) for session in sessions], np.int32)
    padded = np.full((len(sessions), lengths.max() + 2), 7, np.int32)
    for row, session in zip(padded, sessions, strict=True):
        row[: len(session)] = session
    return padded, lengths


def test_weights_beyond_a_protobuf_lie_beside_it(tmp_path, monkeypatch):
    runtime = pytest.importorskip("onnxruntime")
    weights = Weights(*jax.tree.map(np.asarray, small.model("from_start")))
    about = {"model": "sasrec", "num_heads": 1, "k": 3, "position": "from_start"}
    answers = []
    for name, largest in (("whole.onnx", 1 << 30), ("large.onnx", 1000)):
        monkeypatch.setattr(onnx_graph, "LARGEST", largest)
        path = tmp_path / name
        onnx_graph.save(path, weights, max_session_length=small.LONGEST, **about)
        session = runtime.InferenceSession(path)
        padded, lengths = rows([[1, 2], [3]])
        inputs = {"items": padded, "lengths": lengths}
        answers.append(session.run(["best"], inputs)[0])
    np.testing.assert_array_equal(*answers)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"whole.onnx", "large.onnx", "large.onnx.data"}


def test_onnx_is_one_flag(run, tiny_runs, tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    status, _, err = run(tiny_runs("dense"), "--onnx", "--k=5")
    assert (status, err) == (0, "")
    about = json.loads((tmp_path / "model" / "export.json").read_text())
    assert "model.onnx" in about["files"]
    session = runtime.InferenceSession(tmp_path / "model" / "model.onnx")
    sessions = [[1, 2], [3]]
    padded, lengths = rows(sessions)
    (best,) = session.run(["best"], {"items": padded, "lengths": lengths})
    model = trained.load(tmp_path / "model").model
    np.testing.assert_array_equal(best, recommender.recommend(model, sessions, 5).items)


def test_it_is_whole_and_names_no_folder_of_the_machine(exported, tiny_runs):
    names = {path.name for path in exported.iterdir()}
    about = json.loads((exported / "export.json").read_text())
    assert names == {*about["files"], "export.json"}
    for path in exported.iterdir():
        assert str(tiny_runs("rows").parent) not in path.read_text(errors="replace")
        assert path.stat().st_mode & 0o444 == 0o444


def test_the_card_of_a_run_that_only_training_evaluated(exported, tiny_runs, tmp_path):
    text = (exported / "MODEL_CARD.md").read_text()
    assert "`experiments.evaluate` adds intervals" in text
    log = metrics_writer.read(tiny_runs("rows") / run_files.METRICS)
    lines = [line for line in log if line.get("split") == "test"]
    for protocol in ("paper", "exact"):
        line = [one for one in lines if one["protocol"] == protocol][-1]
        assert f"{line['recall@20']:.4f} | {line['mrr@5']:.4f}" in text
    workdir = shutil.copytree(tiny_runs("rows"), tmp_path / "run")
    (workdir / run_files.METRICS).unlink()
    assert "Not evaluated." in card.write(workdir, trained.load(workdir), None)


def test_the_card_of_an_evaluated_run(tiny_runs, run, evaluate, tmp_path):
    workdir = shutil.copytree(tiny_runs("dense"), tmp_path / "run")
    assert evaluate(workdir)[0] == 0
    status, printed, err = run(workdir)
    assert (status, err) == (0, "")
    assert "300 items" in printed
    text = (tmp_path / "model" / "MODEL_CARD.md").read_text()
    lines = json.loads((workdir / "evaluation.json").read_text())
    (exact,) = [line for line in lines if line["protocol"] == "exact"]
    value = exact["recall@20"]
    found = re.search(rf"{value:.4f} \[([\d.]+), ([\d.]+)\]", text)
    assert found is not None
    assert float(found[1]) < value < float(found[2])
    assert "### Recall@20 by position of the label in the session" in text
    assert "- train: 300 sessions, begun 1970-01-01 to 1970-01-01" in text
    assert "- test: 300 sessions, begun 1970-01-01 to 1970-01-01" in text
    assert "python -m" in text


@pytest.mark.parametrize(
    "name", ["weights.safetensors", "items.parquet", "config.json", "model.stablehlo"]
)
def test_a_damaged_copy_is_refused(copied, name):
    content = bytearray((copied / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copied / name).write_bytes(content)
    with pytest.raises(trained.UserError, match=f"{name} is not what was exported"):
        trained.load(copied)
    (copied / name).unlink()
    with pytest.raises(trained.UserError, match=f"is not whole: no {name}"):
        trained.load(copied)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"version": 2}, "expected tron-export 1"),
        ({"format": "other"}, "expected tron-export 1"),
        ({"files": None}, "is damaged"),
        ({"step": None}, "is damaged"),
        ({"files": {}}, "is not whole"),
    ],
)
def test_another_version_is_refused(copied, change, expected):
    path = copied / "export.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(trained.UserError, match=expected):
        trained.load(copied)


def test_mistakes_are_one_line_and_leave_nothing(run, tiny_runs, tmp_path, monkeypatch):
    workdir = tiny_runs("rows")
    for flags, expected in (
        (["--k=301"], "expected at most the 300 items"),
        (["--step=7777"], "7777"),
        ([f"--out={workdir}"], str(workdir)),
    ):
        status, printed, err = run(workdir, *flags)
        assert (status, printed) == (1, "")
        assert expected in err
        assert len(err.splitlines()) == 1
    monkeypatch.setitem(sys.modules, "safetensors", None)
    assert "tron-jax[export]" in run(workdir)[2]
    assert not (tmp_path / "model").exists()


def test_an_export_is_not_exported_again(run, exported):
    status, _, err = run(exported)
    assert (status, "is an exported model" in err) == (1, True)


@pytest.mark.parametrize("step", [25, 50, 30])
def test_a_card_has_the_figures_of_its_step(tiny_data, tmp_path, step):
    data = open_prepared(tiny_data)
    best = (1, drawn_ranks(data, 3, shift=1.0))
    folder_ = write_run(tmp_path / "run", tiny_data, best=best, scores=[0.9, 0.1])
    model = Model(None, None, None, step)
    config, made_with = workdirs.read_config(folder_)
    made = trained.Trained(model, catalogue_of(data), config, made_with, "asked")
    text = card.write(folder_, made, None)
    lines = json.loads((folder_ / "evaluation.json").read_text())
    value = {line["protocol"]: f"{line['recall@20']:.4f}" for line in lines}
    shown = "exact_at_best" if step == 25 else "exact"
    other = "exact" if step == 25 else "exact_at_best"
    assert f"{value[shown]} [" in text
    assert f"{value[other]} [" not in text
    assert ("No figures are of the exported step" in text) == (step == 30)


def test_a_model_that_diverged_is_not_exported(run, tiny_runs, monkeypatch, tmp_path):
    load = trained.load

    def diverged(*arguments):
        found = load(*arguments)
        params = jax.tree.map(lambda x: x * np.nan, found.model.params)
        return found._replace(model=found.model._replace(params=params))

    monkeypatch.setattr(trained, "load", diverged)
    status, _, err = run(tiny_runs("rows"))
    assert (status, "not finite" in err) == (1, True)
    assert not (tmp_path / "model").exists()


def test_weights_that_are_no_numbers_are_not_served(copied):
    path = copied / folder.WEIGHTS
    exported = folder.read(copied)
    broken = folder.weights_of(exported)._replace(
        table=np.full_like(exported.weights["table"], np.nan)
    )
    folder.save_weights(path, broken)
    about = json.loads((copied / folder.ABOUT).read_text())
    (copied / folder.ABOUT).unlink()
    folder.seal(copied, {k: v for k, v in about.items() if k != "files"})
    with pytest.raises(trained.UserError, match="not finite"):
        trained.load(copied)
