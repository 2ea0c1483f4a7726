"""A run that starts from another: what it takes over, and how it goes on."""

import json
import shutil
import signal
from pathlib import Path

import jax
import numpy as np
import pytest
import tiny
from conftest import signal_at
from test_repeats import names, not_of_repeats
from test_resume_slots import SLOTS

from experiments import checks, workdirs
from experiments.assembly import run_parts, trained, update_rules, warm_start
from tron_jax.data.neighbours import neighbour_means
from tron_jax.models import repeats
from tron_jax.optimizers import carried_over
from tron_jax.reporting import metrics_writer
from tron_jax.storage.checkpoints import Checkpoints

COSINE = {"model__scoring": "cosine", "model__scale": 7.0}
# The items of the new data, in another order: 20 that are new, and 20 of the old less.
NEW_IDS = [1 + 20 + (37 * number) % tiny.NUM_ITEMS for number in range(tiny.NUM_ITEMS)]


@pytest.fixture(scope="module")
def new_data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("new") / "data"
    return tiny.write_data(folder, seed=1, raw_ids=NEW_IDS)


def prepared(old, data, mode, **fields):
    """The warm start of a run that is not made, and the parts of that run."""
    fields = {f"init__{name}": value for name, value in fields.items()}
    config = tiny.config(data, mode, init__workdir=str(old), **fields)
    checks.check(config)
    opened = run_parts.open_data(config)
    parts = run_parts.build(config, opened.num_items, opened.train)
    return warm_start.prepare(
        config, opened, opened.train, jax.jit(parts.init)()
    ), parts


def rows_of(old):
    """By raw id the row that the old run ends with, sleeping ones caught up."""
    found = trained.restore(Path(old), None)
    numbers = np.arange(1, tiny.NUM_ITEMS + 1)
    rows = found.parts.read_rows(found.state.items, numbers, np.int32(found.step))
    raw_ids = found.items.raw_ids.to_pylist()
    return dict(zip(raw_ids, np.asarray(rows), strict=True)), found


@pytest.mark.parametrize("moments", ["reset", "keep"])
@pytest.mark.parametrize("mode", ["rows", "dense"])
@pytest.mark.parametrize("old_mode", ["rows", "dense"])
def test_rows_follow_their_raw_ids(tiny_runs, new_data, old_mode, mode, moments):
    old = tiny_runs(old_mode)
    warm, parts = prepared(old, new_data, mode, moments=moments)
    before, found = rows_of(old)
    fresh = jax.jit(parts.init)()
    expected = [
        before.get(raw_id, row)
        for raw_id, row in zip(NEW_IDS, fresh.items.table[1:], strict=True)
    ]
    numbers = np.arange(1, tiny.NUM_ITEMS + 1)
    config = tiny.config(new_data, mode, init__workdir="-", init__moments=moments)
    read_rows = run_parts.build_model(config, tiny.NUM_ITEMS).read_rows
    values = read_rows(warm.state.items, numbers, np.int32(0))
    np.testing.assert_allclose(values, np.array(expected), rtol=1e-6, atol=1e-9)
    tiny.assert_same_bits(warm.state.params, found.state.params)
    assert jax.tree.structure(warm.state) == jax.tree.structure(fresh)
    opt = found.state.opt if moments == "keep" else fresh.opt
    tiny.assert_same_bits(warm.state.opt, opt)
    assert "280 items matched, 20 new" in warm.summary
    assert "20 dropped" in warm.summary


@pytest.mark.parametrize("mode", ["rows", "dense"])
def test_rows_of_cosines_keep_lengths_and_moments(mode, tmp_path, tiny_data, train):
    """They are read as unit vectors; what is taken over is what they are made from."""
    old = tmp_path / "old"
    assert train(old, mode, **COSINE)[0] == 0
    source = trained.restore(old, None)
    _, whole_rows = update_rules.of_whole_rows(source.config)
    before = carried_over.take(whole_rows, source.state.items, source.step)
    fields = COSINE | {"init__workdir": str(old), "init__moments": "keep"}
    config = tiny.config(tiny_data, mode, **fields)
    data = run_parts.open_data(config)
    parts = run_parts.build(config, data.num_items, data.train)
    warm = warm_start.prepare(config, data, data.train, jax.jit(parts.init)())
    _, whole_rows = update_rules.of_whole_rows(config)
    after = carried_over.take(whole_rows, warm.state.items, 0)
    tiny.assert_same_bits(after, before)

    lengths = np.linalg.norm(before.values, axis=1)
    assert np.ptp(lengths) > 0.01
    numbers = np.arange(1, tiny.NUM_ITEMS + 1)
    read = source.parts.read_rows(source.state.items, numbers, np.int32(source.step))
    np.testing.assert_allclose(
        read, before.values[1:] / lengths[1:, None], rtol=1e-5, atol=1e-7
    )


def test_new_items_as_the_mean_of_their_neighbours(tiny_runs, new_data):
    warm, parts = prepared(tiny_runs("rows"), new_data, "dense", new_items="neighbours")
    before, _ = rows_of(tiny_runs("rows"))
    train = run_parts.open_data(tiny.config(new_data)).train
    is_new = np.array([False, *(raw_id not in before for raw_id in NEW_IDS)])
    table = np.zeros((len(is_new), 8), np.float32)
    table[~is_new] = [table[0], *(before[i] for i in NEW_IDS if i in before)]
    means, counts = neighbour_means(train.items, train.offsets, table, is_new)
    found = np.asarray(warm.state.items.table)[is_new]
    np.testing.assert_allclose(found[counts > 0], means[counts > 0], rtol=1e-4)
    fresh = np.asarray(jax.jit(parts.init)().items.table)[is_new]
    np.testing.assert_array_equal(found[counts == 0], fresh[counts == 0])
    assert f"20 new ({(counts > 0).sum()} as the mean of their neighb" in warm.summary


@pytest.mark.parametrize("moments", ["reset", "keep"])
@pytest.mark.parametrize(
    ("old_mode", "mode"),
    [("rows", "repeats"), ("repeats", "dense"), ("repeats", "repeats")],
)
def test_corrections_are_taken_over_begun_or_dropped(
    tiny_runs, new_data, old_mode, mode, moments
):
    warm, parts = prepared(tiny_runs(old_mode), new_data, mode, moments=moments)
    _, found = rows_of(tiny_runs(old_mode))
    fresh = jax.jit(parts.init)()
    assert jax.tree.structure(warm.state) == jax.tree.structure(fresh)
    kept = found.state if moments == "keep" else fresh
    if old_mode == mode:
        tiny.assert_same_bits(warm.state.params, found.state.params)
        tiny.assert_same_bits(warm.state.opt, kept.opt)
        assert "corrections" not in warm.summary
        return
    of_new, of_old = (warm.state.params, warm.state.opt), (found.state.params, kept.opt)
    tiny.assert_same_bits(*map(not_of_repeats, (of_new, of_old)))
    if mode == "repeats":
        tiny.assert_same_bits(warm.state.params["repeats"], repeats.init())
        of_repeats = {*names(of_new)} - {*not_of_repeats(of_new)}
        assert len(of_repeats) == 6  # two parameters, each with two moments
        assert not any(names(of_new)[name].any() for name in of_repeats)
    how = "begin at nothing" if mode == "repeats" else "are dropped"
    assert warm.summary.endswith(f"; corrections of repeats {how}")


@pytest.mark.parametrize(
    ("old_mode", "mode"), [("rows", "repeats"), ("repeats", "rows")]
)
def test_a_run_goes_on_with_corrections_or_without(
    tmp_path, tiny_runs, new_data, train, old_mode, mode
):
    old = {"init__workdir": tiny_runs(old_mode), "init__moments": "keep"}
    status, out, err = train(
        tmp_path / "run", mode, data=new_data, train__epochs=1, **old
    )
    assert (status, err) == (0, "")
    assert "; corrections of repeats " in out
    state, _ = tiny.saved(tmp_path / "run")
    assert ("repeats" in state.params) == (mode == "repeats")
    assert all(leaf.any() for leaf in jax.tree.leaves(state.params.get("repeats", {})))


@pytest.fixture
def warm_run(tmp_path, tiny_runs, new_data, train):
    """Trains with moments kept: ``(workdir, *arguments, **fields) -> status, …``."""
    shutil.copytree(tiny_runs("dense"), tmp_path / "old")

    def call(workdir, **fields):
        old = {"init__workdir": tmp_path / "old", "init__moments": "keep"}
        return train(workdir, "rows", data=new_data, **old | fields)

    return call


@pytest.fixture
def broken(tmp_path, warm_run):
    """An unbroken warm run, and one stopped at its first step; their source is gone."""
    unbroken, stopped = tmp_path / "unbroken", tmp_path / "stopped"
    assert warm_run(unbroken)[0] == 0
    with pytest.MonkeyPatch.context() as patch:
        signal_at(patch, signal.SIGTERM, 1)
        assert warm_run(stopped)[0] == 128 + signal.SIGTERM
    shutil.rmtree(tmp_path / "old")
    return unbroken, stopped


@pytest.mark.parametrize("step", [0, 1])
def test_resuming_needs_no_source_and_ends_in_the_same_bits(broken, warm_run, step):
    unbroken, stopped = broken
    assert Checkpoints(stopped / "checkpoints").steps() == [0, 1]
    if step == 0:  # as if it had been killed before the first save of training
        shutil.rmtree(stopped / "checkpoints" / "1")
    before = json.loads((stopped / "config.json").read_text())["provenance"]["init"]
    status, out, err = warm_run(stopped)
    assert (status, err) == (0, "")
    assert f"resuming at step {step} " in out
    assert "warm start" not in out
    tiny.assert_same_run(stopped, unbroken)
    after = json.loads((stopped / "config.json").read_text())["provenance"]["init"]
    assert before == after


def test_what_is_said_and_written_down(tmp_path, tiny_runs, warm_run):
    workdir = tmp_path / "run"
    status, out, err = warm_run(workdir, init__step="25", train__epochs=1)
    assert (status, err) == (0, "")
    line = "warm start from step 25 (asked for by init.step): 280 items matched, "
    assert line + "20 new (20 as the initialiser draws them), 20 dropped" in out
    config, made_with = workdirs.read_config(workdir)
    assert config.init.workdir == str(tmp_path / "old")
    _, of_source = workdirs.read_config(tiny_runs("dense"))
    origin = made_with["init"]
    assert origin["fingerprint"] == of_source["fingerprint"]
    assert origin["step"] == 25
    assert len(origin["provenance"]) == 64
    assert [origin[k] for k in ("matched", "new", "dropped")] == [280, 20, 20]
    workdirs.write_published(tmp_path / "kept.json", config, made_with)
    kept = (tmp_path / "kept.json").read_text()
    assert json.loads(kept)["init"]["workdir"] == "old"
    assert str(tmp_path) not in kept


def test_the_count_goes_on_in_a_third_run(tmp_path, warm_run, new_data):
    """Updates of three runs: 50 of the first, then 25 and 25."""
    assert warm_run(tmp_path / "second", train__epochs=1)[0] == 0
    third = {"init__workdir": tmp_path / "second", "optimizer__item_table": "dense"}
    assert warm_run(tmp_path / "third", train__epochs=1, **third)[0] == 0
    state, _ = tiny.saved(tmp_path / "third", 25)
    adam, _ = state.items.state.opt
    assert (int(state.step), int(state.items.before), int(adam.count)) == (25, 75, 100)
    assert int(state.opt[0].count) == 100


def test_what_is_evaluated_is_what_was_trained(tmp_path, warm_run, evaluate):
    """``evaluate`` reads sleeping rows by the optimizer's own count too."""
    workdir = tmp_path / "run"
    assert warm_run(workdir, train__epochs=1)[0] == 0
    assert evaluate(workdir)[0] == 0
    lines = json.loads((workdir / "evaluation.json").read_text())
    figures = {line["protocol"]: line["recall@20"] for line in lines}
    log = metrics_writer.read(workdir / "metrics.jsonl")
    trained_to = {x["protocol"]: x["recall@20"] for x in log if "protocol" in x}
    assert figures["exact"] == trained_to["exact"]


def test_gru4rec_goes_on_by_adagrad_from_no_session_under_way(
    tmp_path, new_data, tiny_data, train
):
    one = SLOTS | {"train__epochs": 1}
    assert train(tmp_path / "old", data=tiny_data, **one)[0] == 0
    source = {"init__workdir": tmp_path / "old", "init__moments": "keep"}
    fields = one | source | {"checkpoint__keep_last": 99}
    assert train(tmp_path / "run", data=new_data, **fields)[0] == 0
    (old, _), (state, _) = tiny.saved(tmp_path / "old"), tiny.saved(tmp_path / "run", 0)
    squares, velocity = state.items.state.memory
    assert int(state.opt.step) == int(state.items.before) == int(old.step) > 0
    assert not state.carry.any()
    number = NEW_IDS.index(100) + 1
    np.testing.assert_array_equal(squares[number], old.items.memory[0][100])
    np.testing.assert_array_equal(velocity[number], old.items.memory[1][100])
    assert squares[number].any()


REFUSED = {
    "missing": ({"init__workdir": "nowhere"}, ["init.workdir=", "config.json"]),
    "no such step": ({"init__step": "24"}, ["init.workdir=", "no checkpoint of step"]),
    "not a step": ({"init__step": "last"}, ["init.step=last", "best, latest or a"]),
    "width": ({"model__hidden_size": 16}, ["model.hidden_size=8, not 16"]),
    "encoder": ({"model__num_layers": 2}, ["model.num_layers=1, not 2"]),
    "positions": ({"model__position": "from_end"}, ["model.position=from_start"]),
    "decay": ({"optimizer__b1": 0.8}, ["optimizer.b1=0.9", "init.moments=reset"]),
    "rule": ({"optimizer__name": "adagrad"}, ["optimizer.name=adam, not adagrad"]),
    "new items": ({"init__new_items": "mean"}, ["init.new_items", "neighbours"]),
    "moments": ({"init__moments": "half"}, ["init.moments", "reset, keep"]),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_mistake_is_one_line_and_writes_nothing(tmp_path, warm_run, case):
    fields, words = REFUSED[case]
    tiny.assert_refused(warm_run(tmp_path / "run", **fields), *words)
    assert not (tmp_path / "run").exists()


def lose_items(old):
    (old / "items.parquet").unlink()


def lose_checkpoints(old):
    shutil.rmtree(old / "checkpoints")


def spoil(old):
    state, info = tiny.saved(old)
    table = state.items.table.at[5].set(np.nan)
    spoilt = state._replace(items=state.items._replace(table=table))
    with Checkpoints(old / "checkpoints") as checkpoints:
        checkpoints.save(51, spoilt, info, wait=True)


SPOILT = {
    lose_items: ["init.workdir=", "has no items.parquet"],
    lose_checkpoints: ["init.workdir=", "no checkpoint in"],
    spoil: ["init.workdir=", "the state of step 51 is not finite"],
}


@pytest.mark.parametrize("damage", SPOILT, ids=lambda damage: damage.__name__)
def test_a_source_that_is_not_whole(tmp_path, warm_run, damage):
    damage(tmp_path / "old")
    tiny.assert_refused(warm_run(tmp_path / "run"), *SPOILT[damage])
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("raw_ids", "words"),
    [
        ([f"item {n}" for n in range(tiny.NUM_ITEMS)], ["of type int64", "string"]),
        (range(10_000, 10_000 + tiny.NUM_ITEMS), ["none of the 300 items", "10000"]),
    ],
)
def test_items_of_another_log(tmp_path, tiny_runs, train, raw_ids, words):
    data = tiny.write_data(tmp_path / "data", raw_ids=raw_ids)
    source = {"init__workdir": tiny_runs("rows")}
    tiny.assert_refused(train(tmp_path / "run", data=data, **source), *words)
    assert not (tmp_path / "run").exists()


def test_how_to_start_warm_says_nothing_without_a_source(tmp_path, train):
    outcome = train(tmp_path / "run", init__moments="keep")
    tiny.assert_refused(outcome, "init.moments is keep without init.workdir")


def test_a_run_that_started_cold_does_not_start_warm(tmp_path, tiny_runs, train):
    workdir = tmp_path / "run"
    shutil.copytree(tiny_runs("dense"), workdir)
    outcome = train(workdir, "dense", init__workdir=tiny_runs("rows"))
    tiny.assert_refused(outcome, "was trained with init.workdir=None")
