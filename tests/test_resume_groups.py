"""Runs whose dispatches make the steps of a group: cut off within one, and resumed."""

import signal

import pytest
import tiny
from conftest import signal_at

from experiments.assembly import architectures, run_parts
from experiments.assembly.ways import Ways
from tron_jax.storage.checkpoints import Checkpoints

ACCELERATED = {"ways": Ways(by_matmul=True, fixed=True)}
# Checkpoints are due at 7, 14, 21, 25, … and lines of the log every 4 steps.
CASES = {
    # The device makes the batches; steps beyond a cut are computed in vain, or not.
    "rows in vain": ("rows", 4, ACCELERATED),
    "dense in vain": ("dense", 5, ACCELERATED),
    "rows": ("rows", 6, {}),
    # The host makes them, as where the clicks are too many for the device.
    "dense of the host": ("dense", 3, {"CLICKS": 0}),
}


@pytest.fixture(
    params=[
        # As an accelerator does.
        pytest.param("rows in vain", marks=pytest.mark.device),
        *list(CASES)[1:],
    ]
)
def case(request, monkeypatch):
    mode, group, how = CASES[request.param]
    if "CLICKS" in how:
        monkeypatch.setattr(architectures, "CLICKS", how["CLICKS"])
    if "ways" in how:
        monkeypatch.setattr(run_parts, "best", lambda platform=None: how["ways"])
    return mode, group


def test_cut_off_within_a_group(tmp_path, tiny_data, compilations, train, case):
    mode, group = case
    fields = {"train__steps_per_group": group}
    unbroken, cut = tmp_path / "unbroken", tmp_path / "cut"
    assert train(unbroken, mode, **fields)[0] == 0
    whole = tiny.lines(unbroken)
    assert [line["step"] for line in whole if "loss" in line][:5] == [4, 7, 8, 12, 14]
    # One dispatch ends at 7, the next with the group that the cut went through.
    first = 7 + group - 7 % group
    for at in (first, 25 + group):
        with pytest.MonkeyPatch.context() as patch:
            signal_at(patch, signal.SIGTERM, at)
            status, out, _ = train(cut, mode, **fields)
        assert status == 128 + signal.SIGTERM
        assert f"stopped at step {at}" in out
    # Saves at other steps cut other groups, and leave what is computed as it is.
    status, out, err = train(cut, mode, **fields)
    assert (status, err) == (0, "")
    tiny.assert_same_run(cut, unbroken)


def test_other_checkpoints_cut_other_groups(tmp_path, tiny_data, train):
    runs = []
    for every in (7, 11):
        workdir = tmp_path / str(every)
        fields = {"train__steps_per_group": 6, "checkpoint__every_steps": every}
        assert train(workdir, "rows", **fields)[0] == 0
        runs.append(tiny.saved(workdir)[0])
    tiny.assert_same_bits(*runs)


def test_a_group_computes_what_single_steps_do(tmp_path, tiny_runs, train):
    """All tiny batches have one length, so nothing but rounding may differ."""
    workdir = tmp_path / "grouped"
    assert train(workdir, "rows", train__steps_per_group=6)[0] == 0
    alone, grouped = tiny.lines(tiny_runs("rows")), tiny.lines(workdir)
    for one, other in zip(alone, grouped, strict=True):
        assert one.keys() == other.keys()
        numbers = [key for key, value in one.items() if not isinstance(value, str)]
        assert [one[key] for key in numbers] == pytest.approx(
            [other[key] for key in numbers], rel=1e-4
        )
    status, _, err = train(workdir, "rows")
    assert status == 1
    assert "train.steps_per_group=6, not 1" in err


def test_refused_for_slots(tmp_path, train):
    outcome = train(
        tmp_path / "run",
        model__name="gru4rec",
        model__num_layers=1,
        train__order="chronological",
        train__steps_per_group=4,
    )
    tiny.assert_refused(outcome, "train.steps_per_group is 4", "train.steps_per_call")
    assert not Checkpoints(tmp_path / "run" / "checkpoints").steps()
