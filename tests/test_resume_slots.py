"""GRU4Rec through the programs: stopped and resumed amid many steps a dispatch."""

import signal

import numpy as np
import pytest
import tiny
from conftest import signal_at, without_plot

from tron_jax.reporting import metrics_writer
from tron_jax.storage.checkpoints import Checkpoints

SLOTS = {
    "model__name": "gru4rec",
    "model__num_layers": 1,
    "model__dropout": 0.2,
    "model__max_session_length": 3,
    "negatives__num_popularity": 8,
    "loss__logq": "by_source",
    "optimizer__name": "adagrad",
    "optimizer__learning_rate": 0.05,
    "optimizer__momentum": 0.2,
    "train__order": "chronological",
    "train__steps_per_call": 8,
    "train__log_every_steps": 10,
    "checkpoint__every_steps": 25,
}


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory, tiny_data, compilations):
    from experiments import train

    workdir = tmp_path_factory.mktemp("slots") / "run"
    with tiny.compiled_once(compilations), pytest.MonkeyPatch.context() as patch:
        without_plot(patch)
        assert train.main(tiny.command(workdir, tiny_data, **SLOTS)) == 0
    return workdir


def test_learns_and_is_evaluated_in_both_protocols(unbroken, evaluate):
    lines = metrics_writer.read(unbroken / "metrics.jsonl")
    losses = [line["loss"] for line in lines if "loss" in line]
    assert losses[-1] < losses[0]
    status, out, err = evaluate(unbroken)
    assert (status, err) == (0, "")
    last = [line for line in lines if line.get("protocol") == "exact"][-1]
    assert f"{last['recall@20']:.4f}" in out
    assert "positions reveal" not in out


@pytest.mark.parametrize(
    "changes",
    [pytest.param({}, marks=pytest.mark.device), {"train__log_every_steps": 7}],
)
def test_stopped_within_a_dispatch_s_worth_of_steps(tmp_path, unbroken, train, changes):
    """Stopped at 16 of 8, 16, 24, 25, between the lines of steps 10 and 20."""
    workdir = tmp_path / "stopped"
    with pytest.MonkeyPatch.context() as patch:
        signal_at(patch, signal.SIGTERM, 16)
        status, out, _ = train(workdir, **SLOTS)
    assert status == 128 + signal.SIGTERM
    assert "stopped at step 16" in out
    assert Checkpoints(workdir / "checkpoints").latest_step() == 16
    status, out, err = train(workdir, **{**SLOTS, **changes})
    assert (status, err) == (0, "")
    assert "resuming at step 16" in out
    tiny.assert_same_bits(tiny.saved(workdir)[0], tiny.saved(unbroken)[0])
    if not changes:
        tiny.assert_same_run(workdir, unbroken)


def test_the_state_of_the_sessions_under_way_is_saved(unbroken):
    checkpoints = Checkpoints(unbroken / "checkpoints")
    state, _ = tiny.saved(unbroken, checkpoints.steps()[0])
    assert state.carry.shape == (12, 8)
    assert np.any(np.asarray(state.carry) != 0)
