"""What a training run writes and says."""

import json
import math
import shutil

import jax
import numpy as np
import pytest
import tiny
from tolerances import of_float32

from data_prep import synthetic
from experiments import workdirs
from experiments.assembly import program, run_parts
from experiments.assembly.ways import Ways
from experiments.configs import smoke
from tron_jax import files, memory
from tron_jax.console.program import run as run_preparation
from tron_jax.data.sessions import open_prepared
from tron_jax.errors import UserError
from tron_jax.reporting import metrics_writer, plots
from tron_jax.storage.checkpoints import Checkpoints

METRICS = [
    f"{name}@{cutoff}" for name in ("recall", "mrr", "ndcg") for cutoff in (5, 10, 20)
]
GOLDEN = tiny.ROOT / "tests" / "golden" / "smoke_losses.json"


def evaluations(workdir, **wanted):
    """The lines of evaluation that have the values wanted."""
    found = metrics_writer.read(workdir / "metrics.jsonl")
    return [
        line
        for line in found
        if "protocol" in line and all(line[k] == v for k, v in wanted.items())
    ]


@pytest.mark.parametrize(
    "mode", [pytest.param("rows", marks=pytest.mark.device), "dense"]
)
def test_what_a_run_leaves(tiny_runs, mode):
    workdir = tiny_runs(mode)
    names = {path.name for path in workdir.iterdir() if "tfevents" not in path.name}
    expected = {".lock", "config.json", "metrics.jsonl", "checkpoints", "items.parquet"}
    assert expected <= names <= {*expected, "plot.png"}
    lines = metrics_writer.read(workdir / "metrics.jsonl")
    assert all(list(line)[:3] == ["step", "epoch", "time"] for line in lines)
    training = [line for line in lines if "loss" in line]
    steps = [line["step"] for line in training]
    multiples = {*range(4, 51, 4), *range(7, 51, 7), 25, 50}
    assert steps == sorted(multiples)
    for line in training:
        assert math.isfinite(line["loss"])
        for rate in ("sessions_per_s", "events_per_s", "epochs_per_hour"):
            assert line[rate] > 0
    # Both protocols at the end of each epoch, and nowhere else.
    for protocol in ("paper", "exact"):
        found = evaluations(workdir, protocol=protocol)
        assert [line["step"] for line in found] == [25, 50]
        for line in found:
            about = ["step", "epoch", "time", "split", "protocol", "events"]
            assert list(line) == [*about, *METRICS]
            assert line["split"] == "test"
            assert 0 < line["mrr@5"] <= line["recall@5"] <= line["recall@20"] <= 1
    paper, exact = evaluations(workdir, step=50)
    assert paper["events"] < exact["events"]
    checkpoints = Checkpoints(workdir / "checkpoints")
    scores = {
        line["step"]: line["recall@20"]
        for line in evaluations(workdir, protocol="paper")
    }
    best = max(scores, key=lambda step: (scores[step], -step))
    assert checkpoints.best_step() == best
    assert {42, 49, 50} <= {*checkpoints.steps()} <= {25, 42, 49, 50}


def test_config_json_is_whole(tiny_runs, tiny_data):
    content = json.loads((tiny_runs("rows") / "config.json").read_text())
    provenance = content.pop("provenance")
    asked = tiny.config(tiny_data, "rows").to_dict()
    assert content == json.loads(json.dumps(asked))
    stats = json.loads((tiny_data / "stats.json").read_text())
    assert provenance["fingerprint"] == stats["fingerprint"]
    assert {"git", "python", "jax", "device"} <= set(provenance)
    info = Checkpoints(tiny_runs("rows") / "checkpoints").read_info(50)
    assert info["fingerprint"] == stats["fingerprint"]


def test_auto_is_resolved_once(tiny_data, monkeypatch):
    config = tiny.config(tiny_data, optimizer__item_table="auto")
    assert run_parts.resolve(config, 199_999).optimizer.item_table == "dense"
    assert run_parts.resolve(config, 200_000).optimizer.item_table == "rows"
    assert config.optimizer.item_table == "auto"


def test_epochs_of_a_schedule_are_steps_once_and_for_all(tmp_path, train, evaluate):
    """The same command goes on with the run, and what reads it needs no sessions."""
    fields = {"optimizer__schedule": "step", "optimizer__schedule_epochs": 1.5}
    workdir = tmp_path / "run"
    for epochs in (1, 2):
        status, _, err = train(workdir, "dense", train__epochs=epochs, **fields)
        assert status == 0, err
    config, _ = workdirs.read_config(workdir)
    optimizer = config.optimizer
    assert (optimizer.schedule_steps, optimizer.schedule_epochs) == (38, 0)  # of 25
    assert evaluate(workdir)[0] == 0
    fields["optimizer__schedule_epochs"] = 1
    refused = train(workdir, "dense", train__epochs=2, **fields)
    tiny.assert_refused(refused, "schedule_steps=38, not 25", "expected the same")
    fields["train__batch_size"] = 6
    refused = train(workdir, "dense", train__epochs=2, **fields)
    tiny.assert_refused(refused, "train.batch_size=12, not 6")


def test_epochs_of_a_schedule_may_be_too_many(tiny_data):
    fields = {"optimizer__schedule": "step", "optimizer__schedule_epochs": 40_001.0}
    config = tiny.config(tiny_data, **fields)
    train = open_prepared(tiny_data).train
    with pytest.raises(UserError, match=r"is 40001 of 25 steps; expected at most 1,00"):
        run_parts.resolve(config, 300, train=train)


def test_steps_of_a_group_are_resolved_by_the_device(tiny_data, monkeypatch):
    config = tiny.config(tiny_data, train__steps_per_group=0)
    assert run_parts.resolve(config, 300).train.steps_per_group == 1
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert run_parts.resolve(config, 300).train.steps_per_group == 8
    config.model.name = "gru4rec"
    assert run_parts.resolve(config, 300).train.steps_per_group == 1


@pytest.mark.parametrize(("share", "judged_by"), [(0.5, "paper"), (0.1, "exact")])
def test_validation(tmp_path, train, evaluate, share, judged_by):
    """Both splits are evaluated; validation alone decides which checkpoint is best."""
    workdir = tmp_path / "run"
    fields = {"data__validation": share, "checkpoint__every_steps": 1000}
    status, out, _ = train(workdir, "dense", **fields)
    assert status == 0
    last = max(line["step"] for line in metrics_writer.read(workdir / "metrics.jsonl"))
    held_out = round(share * tiny.TRAIN_SESSIONS)
    assert last == 2 * math.ceil((tiny.TRAIN_SESSIONS - held_out) / 12)
    protocols = {"test": ["paper", "exact"], "validation": ["paper", "exact"]}
    if judged_by == "exact":  # fewer sessions than a batch of the published evaluation
        protocols["validation"] = ["exact"]
        assert "n/a" in out
    for split, names in protocols.items():
        found = [line["protocol"] for line in evaluations(workdir, split=split)]
        assert found == 2 * names
    scores = {
        line["step"]: line["recall@20"]
        for line in evaluations(workdir, split="validation", protocol=judged_by)
    }
    of_test = {
        line["step"]: line["recall@20"]
        for line in evaluations(workdir, split="test", protocol=judged_by)
    }
    assert scores != of_test
    checkpoints = Checkpoints(workdir / "checkpoints")
    assert checkpoints.best_step() == max(scores, key=lambda s: (scores[s], -s))
    assert checkpoints._scores() == {
        step: scores[step] for step in checkpoints.steps() if step in scores
    }
    for split in ("test", "validation"):
        status, out, _ = evaluate(workdir, f"--split={split}")
        assert status == 0
        assert out.startswith(split)
        best = "best, the highest Recall@20 on validation"
        assert f"checkpoint (paper): {best}" in out
        assert f"checkpoint (exact): {best}" in out


def test_without_test_sessions(tmp_path, train, evaluate):
    data = tiny.write_data(tmp_path / "data", test_sessions=0)
    workdir = tmp_path / "run"
    status, out, err = train(workdir, "dense", data=data, train__epochs=1)
    assert (status, err) == (0, "")
    assert "warning: no test sessions; training without evaluation" in out
    assert evaluations(workdir) == []
    assert Checkpoints(workdir / "checkpoints").best_step() is None
    tiny.assert_refused(evaluate(workdir), "no test sessions")


def test_no_room(tmp_path, train, monkeypatch):
    """Refused before anything is trained; a killed run's leavings take no room."""
    monkeypatch.setattr(memory, "free_memory", lambda: 1000)
    status, out, err = train(tmp_path / "run")
    assert status == 1
    assert "but 0.0 MB are free; " in err
    left = tmp_path / "run" / "checkpoints" / ".unfinished" / "7"
    left.mkdir(parents=True)
    monkeypatch.setattr(memory, "free_memory", lambda: None)
    monkeypatch.setattr(
        files, "free_room", lambda folder: 1000 + 10**12 * left.exists()
    )
    status, out, err = train(tmp_path / "run")
    assert status == 1
    assert "but 0.0 MB are free on disk; " in err
    assert "memory: " in out
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_plot(tmp_path, tiny_runs, train, monkeypatch):
    workdir = tmp_path / "run"
    shutil.copytree(tiny_runs("dense"), workdir)
    monkeypatch.setattr(plots, "plot_run", lambda metrics, picture: False)
    status, out, err = train(workdir, "dense")
    assert (status, err) == (0, "")
    assert out.splitlines()[1:] == [  # after the line of the device
        "already trained to step 50, 2 epochs",
        "no plot is drawn: matplotlib is not installed; tron-jax[plots] has it",
    ]


def first_losses(data, steps):
    """The losses of smoke, one a step, on data that anybody can make again."""
    flags = ["--profile=diginetica", "--num_sessions=2000", "--num_items=500"]
    argv = ["synthetic", *flags, "--seed=0", f"--out={data}"]
    assert run_preparation(synthetic.main, synthetic.define_flags(), argv) == 0
    config = smoke.get_config()
    config.data.path = str(data)
    config.train.steps_per_group = 1  # on any device
    prepared = run_parts.open_data(config)
    config = run_parts.resolve(config, prepared.num_items)
    parts = run_parts.build(config, prepared.num_items, prepared.train)
    # One length of stream is compiled instead of all; padding rounds, no more.
    vars(parts.batches)["sizes"] = parts.batches.sizes[-1:]
    train_step = jax.jit(parts.train_step, donate_argnums=0)
    state = jax.jit(parts.init)()
    totals = []
    for step in range(steps):
        batch = jax.device_put(parts.batches.at(step))
        state, of_step = train_step(state, batch, parts.constants)
        totals.append(of_step)
    return [float(t.loss) / float(t.events) for t in jax.device_get(totals)]


@pytest.fixture(scope="module")
def smoke_losses(tmp_path_factory):
    with jax.default_matmul_precision("highest"):  # the golden ones are of a CPU
        return first_losses(tmp_path_factory.mktemp("smoke") / "data", 30)


@pytest.mark.device
@pytest.mark.portable
def test_first_losses_of_smoke(smoke_losses):
    golden = json.loads(GOLDEN.read_text())
    assert len(golden["losses"]) == 20
    np.testing.assert_allclose(
        smoke_losses[:20], golden["losses"], rtol=of_float32(1e-4)
    )


@pytest.mark.device
@pytest.mark.portable
def test_smoke_learns(smoke_losses):
    assert np.mean(smoke_losses[-10:]) < 0.97 * np.mean(smoke_losses[:10])


@pytest.mark.portable
@pytest.mark.parametrize("mode", tiny.MODES)
@pytest.mark.parametrize("group", [1, 8])
def test_lowers_for_accelerators(tiny_data, mode, group, monkeypatch):
    ways = Ways(by_matmul=True, fixed=True)
    monkeypatch.setattr(run_parts, "best", lambda platform=None: ways)
    config = tiny.config(tiny_data, mode, train__steps_per_group=group)
    prepared = run_parts.open_data(config)
    parts = run_parts.build(config, prepared.num_items, prepared.train)
    state, (batch,) = jax.eval_shape(parts.init), parts.batches.shapes
    assert batch.shape == ((48,) if group == 1 else (8, 48))
    train_step = jax.jit(parts.train_step, donate_argnums=0)
    traced = {
        "train": train_step.trace(state, batch, parts.constants),
        **parts.evaluator.trace(state.params, state.items),
    }
    # Of a loop with a number of steps that is known beforehand, JAX makes a scan.
    outermost = [equation.primitive.name for equation in traced["train"].jaxpr.eqns]
    assert ("scan" in outermost) == (group > 1)
    for name, step in traced.items():
        text = step.lower(lowering_platforms=("cuda", "tpu")).as_text()
        assert "stablehlo" in text, name
        if name == "rank":
            assert "precision = [HIGHEST, HIGHEST]" in text
    # The whole state is updated in place.
    donated = train_step.lower(state, batch, parts.constants)
    marks = donated.as_text().count("tf.aliasing_output")
    assert marks == len(jax.tree.leaves(state))


@pytest.mark.parametrize("mode", ["rows", "dense"])
def test_a_program_is_told_from_others_but_not_by_its_seed(tiny_data, mode):
    def described(**fields):
        config = tiny.config(tiny_data, mode, **fields)
        data = run_parts.open_data(config)
        train = run_parts.splits(config, data)["train"]
        parts = run_parts.build(config, data.num_items, train)
        return program.describe(config, data.num_items, train, parts)

    first = described(train__seed=0)
    assert described(train__seed=3) == first
    assert described(loss__topk=4).hash != first.hash
    assert described(negatives__mask_hits=False).hash != first.hash
    assert described(model__hidden_size=9).parameters > first.parameters


@pytest.mark.portable
@pytest.mark.parametrize("mode", tiny.MODES)
def test_all_seeds_have_one_program(tiny_data, mode):
    """A sweep compiles once for all of its seeds."""

    def built(seed):
        config = tiny.config(tiny_data, mode, train__seed=seed)
        data = run_parts.open_data(config)
        return run_parts.build(config, data.num_items, data.train)

    one, other = built(0), built(2**32 - 1)
    (shape,) = one.batches.shapes
    state = jax.eval_shape(one.init)
    lowered = [
        jax.jit(parts.train_step).lower(state, shape, parts.constants)
        for parts in (one, other)
    ]
    assert lowered[0].as_text() == lowered[1].as_text()
    step = lowered[0].compile()
    batch, _ = one.batches.dispatch_at(0, 1)
    start = jax.jit(one.init)()
    losses = [step(start, batch, p.constants)[1].loss for p in (one, other, one)]
    assert np.all(losses[0] == losses[2])
    assert np.all(losses[0] != losses[1])


def test_the_number_of_parameters(tiny_runs):
    content = json.loads((tiny_runs("rows") / "config.json").read_text())
    state, _ = tiny.saved(tiny_runs("rows"))
    learnt = [state.items.table, *jax.tree.leaves(state.params)]
    assert content["provenance"]["parameters"] == sum(x.size for x in learnt)


def test_fewer_epochs_than_there_are(tmp_path, tiny_runs, train):
    """The state would not be theirs, whatever config.json then said."""
    workdir = tmp_path / "run"
    shutil.copytree(tiny_runs("dense"), workdir)
    before = (workdir / "config.json").read_bytes()
    fewer = train(workdir, "dense", train__epochs=1)
    tiny.assert_refused(fewer, "trained to step 50, beyond train.epochs=1", "step 25")
    assert (workdir / "config.json").read_bytes() == before
