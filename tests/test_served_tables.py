"""Item tables in fewer bytes, and what an export of one says and recommends."""

import itertools
import json
import re
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow.parquet as pq
import pytest
import test_recommending as small
import tiny
from test_export import rows

from experiments import export, recommend
from experiments.assembly import trained
from experiments.comparing import statistics
from tron_jax.data.sessions import open_prepared
from tron_jax.recommending import recommender
from tron_jax.serving import onnx_graph, stablehlo, tables
from tron_jax.serving.scorer import Weights, make_last_queries, make_scorer

ROUNDED = ("bfloat16", "int8")


def drawn(num_items=100, width=6):
    draw = np.random.default_rng(3)
    table = draw.normal(size=(num_items + 1, width)).astype(np.float32)
    table[5] *= 100
    table[:, -1] *= 1e4  # as biases may be
    table[7] = 0
    table[:, 2] = 0
    return table


def unfolded(table):
    """A table of any kind as float64, number by number."""
    if not isinstance(table, tables.Int8Table):
        return np.asarray(table).astype(np.float64)
    numbers = [
        [float(value) * float(row) * float(column) for value, column in pairs]
        for pairs, row in (
            (zip(values, table.columns, strict=True), row)
            for values, row in zip(table.values, table.rows, strict=True)
        )
    ]
    return np.array(numbers)


@pytest.mark.parametrize("scale", [1.0, 1e-20, 1e20])
def test_int8_is_within_half_a_step_of_every_number(scale):
    table = drawn() * np.float32(scale)
    rounded = tables.compacted(table, "int8")
    assert rounded.values.dtype == np.int8
    assert np.abs(rounded.values).max() == tables.MOST
    step = np.outer(rounded.rows.astype(float), rounded.columns)
    error = np.abs(unfolded(rounded) - table)
    assert (error <= 0.5 * step * (1 + 1e-4) + 1e-30).all()
    # A large bias takes nothing from the other numbers of its row.
    of_row = np.abs(table[:, :-1]).max(axis=1)
    assert (error[:, :-1].max(axis=1) <= 0.03 * of_row).all()
    np.testing.assert_array_equal(unfolded(rounded)[7], 0)


@pytest.mark.portable
@pytest.mark.parametrize("dtype", tables.DTYPES)
@pytest.mark.parametrize("size", [7, 50, 99, 100, 1000])
def test_rows_and_scores_are_those_of_the_table(dtype, size, monkeypatch):
    monkeypatch.setattr(tables, "ROWS", size)
    rounded = tables.compacted(drawn(), dtype)
    expected = unfolded(rounded)
    on_device = jax.device_put(rounded)
    ids = np.array([[0, 5], [100, 7]], np.int32)
    np.testing.assert_allclose(
        tables.read_rows(on_device, ids), expected[ids], rtol=1e-6
    )
    hidden = np.random.default_rng(1).normal(size=(3, 6)).astype(np.float32)
    with jax.default_matmul_precision("highest"):
        scores = jax.jit(tables.score_items)(on_device, hidden)
    wanted = hidden.astype(np.float64) @ expected[1:].T
    scale = np.abs(hidden.astype(np.float64)) @ np.abs(expected[1:]).T
    assert (np.abs(scores - wanted) <= 1e-6 * scale).all()


def test_float32_and_bfloat16_are_the_nearest():
    table = drawn()
    np.testing.assert_array_equal(tables.compacted(table, "float32"), table)
    error = np.abs(unfolded(tables.compacted(table, "bfloat16")) - table)
    assert (error <= np.abs(table) * 2.0**-8).all()


@pytest.fixture(params=ROUNDED)
def dtype(request):
    return request.param


def of_model(kind, dtype):
    params, table = jax.tree.map(np.asarray, small.model(kind))
    return Weights(params, tables.compacted(table, dtype))


@pytest.mark.parametrize("kind", small.KINDS)
def test_the_exported_scorer_reads_it(kind, dtype):
    weights = of_model(kind, dtype)
    encoder = small.GRU4REC if kind == "slots" else small.SASREC
    position = "from_start" if kind == "slots" else kind
    longest = small.LONGEST
    last = make_last_queries(encoder, max_session_length=longest, position=position)
    served = jax.export.deserialize(
        bytearray(stablehlo.serialize(make_scorer(last, k=9), weights))
    )
    sessions, expected = some_sessions(kind, weights)
    scores, best = served.call(jax.tree.leaves(weights), *rows(sessions))
    np.testing.assert_allclose(scores, expected.scores, rtol=1e-4, atol=1e-4)
    assert (np.asarray(best) != expected.items).mean() < 0.02  # by rounding alone


@pytest.mark.parametrize("kind", small.KINDS)
def test_the_onnx_graph_reads_it(kind, dtype, tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    weights = of_model(kind, dtype)
    position = "from_start" if kind == "slots" else kind
    onnx_graph.save(
        tmp_path / "model.onnx",
        weights,
        model="gru4rec" if kind == "slots" else "sasrec",
        num_heads=1,
        k=9,
        max_session_length=small.LONGEST,
        position=position,
    )
    session = runtime.InferenceSession(tmp_path / "model.onnx")
    sessions, expected = some_sessions(kind, weights)
    inputs = dict(zip(("items", "lengths"), rows(sessions), strict=True))
    scores, best = session.run(["scores", "best"], inputs)
    np.testing.assert_allclose(scores, expected.scores, rtol=1e-4, atol=1e-4)
    assert (best != expected.items).mean() < 0.02


def some_sessions(kind, weights):
    """Sessions that the model may see whole, and what it recommends after them."""
    items, offsets = small.clicks()
    recommender = small.recommender(kind, tables.read_rows)
    expected = recommender(
        weights.params, jax.device_put(weights.table), 0, items, offsets, k=9
    )
    sessions = [items[a:b] for a, b in itertools.pairwise(offsets)]
    if kind != "slots":
        sessions = [one[-small.LONGEST :] for one in sessions]
    return sessions, expected


@pytest.fixture
def exported(tmp_path, tiny_runs, compilations):
    """``(dtype, *flags) -> folder``"""

    def call(dtype, *flags, workdir=None):
        out = tmp_path / dtype
        argv = [f"--workdir={workdir or tiny_runs('rows')}", f"--out={out}", "--k=30"]
        with tiny.compiled_once(compilations):
            assert export.main(["export", *argv, f"--table={dtype}", *flags]) == 0
        return out

    return call


@pytest.mark.portable
def test_its_folder_is_smaller_and_read_by_all(exported, dtype, tiny_data, tmp_path):
    folder = exported(dtype)
    weights = (folder / "weights.safetensors").stat().st_size
    assert weights < (exported("float32") / "weights.safetensors").stat().st_size
    code = re.findall(
        r"```python\n(.*?)```", (folder / "MODEL_CARD.md").read_text(), re.S
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", f"{code[0]}\nprint(best.tolist())"],
        cwd=folder,
        env={"JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    alone = json.loads(done.stdout.splitlines()[-1])
    model = trained.load(folder).model
    clicked = np.array([1, 5, 8], np.int32), np.array([0, 1, 3])
    found = model.recommender(model.params, model.table_state, 0, *clicked, k=30)
    assert alone == found.items.tolist()


def test_its_card_says_what_rounding_costs(exported, dtype, tiny_data):
    text = (exported(dtype) / "MODEL_CARD.md").read_text()
    assert f"### Item table in {dtype}" in text
    predictions = int(np.diff(open_prepared(tiny_data).test.offsets).sum())
    predictions -= open_prepared(tiny_data).test.num_sessions
    assert f"instead of float32 ({predictions:,} predictions, exact)" in text
    found = re.search(r"enters the first 20 of (\d+) .* leaves those of (\d+)", text)
    change = re.search(r"Recall@20 [\d.]+ ([+-][\d.]+)", text)
    assert found is not None
    assert change is not None
    balance = (int(found[1]) - int(found[2])) / predictions
    assert float(change[1]) == pytest.approx(balance, abs=6e-5)


def test_without_the_data_its_card_says_so(exported, tiny_runs, tmp_path, capfd):
    workdir = shutil.copytree(tiny_runs("rows"), tmp_path / "run")
    path = workdir / "config.json"
    content = json.loads(path.read_text())
    content["data"]["path"] = str(tmp_path / "gone")
    path.write_text(json.dumps(content))
    text = (exported("int8", workdir=workdir) / "MODEL_CARD.md").read_text()
    assert "What rounding costs was not measured." in text
    assert "was not measured: --data=DIR names" in capfd.readouterr().err


def test_its_lists_are_of_the_rounded_scores(exported, tmp_path):
    log = tmp_path / "log.csv"
    log.write_text("s,i\n1,5\n1,8\n2,9\n")
    folder = exported("int8")
    out = tmp_path / "lists.parquet"
    argv = [f"--model={folder}", f"--sessions={log}", f"--out={out}", "--k=9"]
    assert recommend.main(["recommend", *argv, "--session=s", "--item=i"]) == 0
    loaded = trained.load(folder)
    numbers = {raw: n + 1 for n, raw in enumerate(loaded.items.raw_ids.to_pylist())}
    found = pq.read_table(out)
    table = unfolded(jax.tree.map(np.asarray, loaded.model.table_state))
    rounded = trained.load(exported("float32")).model._replace(
        table_state=jnp.asarray(table, jnp.float32)
    )
    lists = recommender.recommend(rounded, [[numbers[5], numbers[8]], [numbers[9]]], 9)
    raw_ids = loaded.items.raw_ids.to_numpy()
    np.testing.assert_array_equal(found["item"], raw_ids[lists.items - 1].reshape(-1))
    np.testing.assert_allclose(found["score"], lists.scores.reshape(-1), rtol=1e-5)


def test_means_have_the_intervals_of_a_bootstrap_by_session():
    draw = np.random.default_rng(0)
    session = np.repeat(np.arange(40), draw.integers(1, 6, 40))
    values = draw.random(len(session))
    (found,) = statistics.of_means([values], session, 40)
    assert found.value == pytest.approx(values.mean())
    means = []
    for _ in range(4000):
        chosen = draw.integers(40, size=40)
        part = np.concatenate([values[session == one] for one in chosen])
        means.append(part.mean())
    half = 1.96 * np.std(means)
    assert found.high - found.value == pytest.approx(half, rel=0.06)
    assert found.value - found.low == pytest.approx(half, rel=0.06)
    assert found.p is None
