"""A source of negatives, a loss and a metric of one's own: one function and one line.

Each line is put into its mapping by ``monkeypatch`` here; write yours into the file.
"""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
import pytest
import tiny

from experiments import checks, entry
from experiments.assembly import run_parts
from experiments.assembly.architectures import MODELS
from tron_jax.data.sessions import Sessions
from tron_jax.evaluation import metrics
from tron_jax.objectives import losses
from tron_jax.reporting import metrics_writer
from tron_jax.sampling import sources
from tron_jax.training.step_programs import compile_steps

NUM_ITEMS, MOST_CLICKED = 3000, 1000


# A source: uniform over the 1,000 most clicked items of the training sessions.


def find_most_clicked(clicks, num_items, settings):
    counts = np.bincount(clicks, minlength=num_items + 1)
    return np.argsort(-counts, kind="stable")[:MOST_CLICKED].astype(np.int32)


def draw_most_clicked(key, shape, num_items, most_clicked, excluded):
    return most_clicked[jax.random.randint(key, shape, 0, MOST_CLICKED)], True


def log_expected_most_clicked(items, count, num_items, most_clicked, settings):
    return jnp.where(jnp.isin(items, most_clicked), jnp.log(count / MOST_CLICKED), -99)


# A loss: how far negatives come within 1 of the label's score, on average.


def hinge(pos, neg, keep):
    too_high = jnp.maximum(1 - pos[:, None] + neg, 0)
    return jnp.sum(too_high, axis=1, where=keep) / jnp.maximum(keep.sum(1), 1)


CONFIG = """
from experiments.configs import smoke

def get_config():
    config = smoke.get_config()
    with config.unlocked():
        config.negatives.num_most_clicked = 40
    config.loss.name = "hinge"
    config.loss.topk = 0
    config.model.dropout = 0.0
    return config
"""
SMALL = [
    *("model.hidden_size", "model.feedforward_size", "model.num_layers"),
    *("model.max_session_length", "train.batch_size"),
    *("negatives.num_uniform", "negatives.num_in_batch"),
]


@pytest.fixture
def config(tmp_path, monkeypatch):
    source = sources.Source(
        draw_most_clicked, log_expected_most_clicked, find_most_clicked
    )
    monkeypatch.setitem(sources.SOURCES, "most_clicked", source)
    monkeypatch.setitem(losses.LOSSES, "hinge", lambda settings: hinge)
    (tmp_path / "mine.py").write_text(CONFIG)
    fields = {name: tiny.FIELDS[name] for name in SMALL}
    config = entry.read_config(str(tmp_path / "mine.py"), fields)
    checks.check(config)
    return config


def make_sessions(num=2000):
    """Sessions of 2 to 9 clicks, on items of all degrees of popularity."""
    draw = np.random.default_rng(0)
    offsets = np.cumsum([0, *draw.integers(2, 10, num)]).astype(np.int32)
    clicks = np.minimum(draw.geometric(0.001, offsets[-1]), NUM_ITEMS).astype(np.int32)
    return Sessions(clicks, offsets, pa.nulls(num), pa.nulls(num))


def hinge_of_batch(config, parts, state, batch, step):
    """Summed over the events, in NumPy, and the ids drawn by the source."""
    sample = run_parts.sampler_of(config, NUM_ITEMS, config.train.seed)
    found = jax.jit(sample)(jnp.int32(step), batch, parts.constants)
    [drawn], keep, positions, in_batch_keep = map(np.asarray, found[:4])
    assert keep.all()
    table = np.asarray(state.items.table)
    encode = MODELS["sasrec"](config).encoder.encode
    hidden, _ = jax.jit(encode)(
        state.params, (), table[batch.items], batch.session, batch.position
    )
    total = 0.0
    for event in np.flatnonzero(batch.weight):
        label, session = batch.labels[event], batch.session[event]
        others = batch.items[positions[session][in_batch_keep[session]]]
        items = np.concatenate([drawn, others])
        items = items[items != label]  # smoke masks hits
        scores = table @ np.asarray(hidden)[event]
        total += np.maximum(1 - scores[label] + scores[items], 0).mean()
    return total, drawn[-config.negatives.num_most_clicked :]


def test_a_toy_source_and_a_toy_loss(config):
    train = make_sessions()
    config = run_parts.resolve(config, NUM_ITEMS)
    parts = run_parts.build(config, NUM_ITEMS, train)
    assert set(parts.constants) == {"most_clicked", "seed"}
    counts = np.bincount(train.items, minlength=NUM_ITEMS + 1)
    least = np.sort(counts[1:])[-MOST_CLICKED]
    assert 0 < (counts[1:] < least).sum() < NUM_ITEMS - MOST_CLICKED
    batches = [parts.batches.at(step) for step in range(2)]
    train_step = compile_steps(
        parts.train_step,
        jax.eval_shape(parts.init),
        list({batch.shape: batch for batch in batches}.values()),
        parts.constants,
    )
    state = jax.jit(parts.init)()
    seen = []
    for step, batch in enumerate(batches):
        expected, drawn = hinge_of_batch(config, parts, state, batch, step)
        before = np.asarray(state.items.table)
        state, totals = train_step(state, batch)
        np.testing.assert_allclose(totals.loss, expected, rtol=1e-5)
        assert totals.events == batch.weight.sum()
        moved = (np.asarray(state.items.table) != before).any(axis=1)
        assert moved[drawn].all()
        assert (counts[drawn] >= least).all()
        seen += drawn.tolist()
    assert len(set(seen)) > 60  # of 80 draws among 1,000


# A metric: the share of the list that is right.


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
