"""The plan of a step on many devices: what is compiled, and the arithmetic on paper."""

import json
import subprocess

import pytest
import tiny

from experiments.benchmarks import plan_page, plan_rates
from experiments.benchmarks.plan_rates import H100, V5P, Step

CATALOGUES = (43_000, 10_000_000)
STEP = Step(
    devices=8,
    inputs=1000,
    drawn=4000,
    width=200,
    state=20 * 10**9,
    temporaries=10**7,
    flops=1.485e12,
    received={"all-reduce": 27 * 10**7, "all-to-all": 27 * 10**7},
    calls={"all-reduce": 3, "all-to-all": 1},
)


@pytest.fixture(scope="module")
def planned(tmp_path_factory):
    """The program's report and its page."""
    out = tmp_path_factory.mktemp("plan") / "out"
    argv = tiny.command(
        "unused", "unused", model__hidden_size=200, train__order="chronological"
    )
    argv = [flag for flag in argv if "workdir" not in flag and "data.path" not in flag]
    command = [*tiny.PYTHON, "-m", "experiments.benchmarks.plan", *argv[1:]]
    command += [f"--out={out}", "--devices=8,1"]
    command += [f"--num_items={','.join(map(str, CATALOGUES))}"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tiny.ROOT)
    assert (done.returncode, done.stderr) == (0, "")
    report = json.loads((out / "plan.json").read_text())
    return report, (out / "plan.md").read_text()


def test_what_travels_and_temporaries_are_flat_in_items(planned):
    points = planned[0]["points"]
    found = [(p["devices"], p["num_items"], p["sessions"]) for p in points]
    strong = [(devices, items, 12) for devices in (1, 8) for items in CATALOGUES]
    assert found == [*strong, (8, CATALOGUES[-1], 96)]
    for devices in (1, 8):
        same = [p for p in points if (p["devices"], p["sessions"]) == (devices, 12)]
        first, *others = same
        assert bool(first["received"]) == (devices > 1)
        for other in others:
            assert other["received"] == first["received"]
            assert other["temporaries"] == pytest.approx(first["temporaries"], rel=0.01)
            rows = -(-(other["num_items"] + 1) // devices)
            assert other["table"] == rows * 200 * 4
            assert other["moments"] == rows * (2 * 200 + 1) * 4


def test_the_page_has_every_point(planned):
    report, page = planned
    assert report["command"] in page
    assert "What travels is the same at every number of items" in page
    for point in report["points"]:
        assert f"| {point['devices']} | {point['num_items']:,} |" in page
    for kind in report["points"][3]["received"]:
        assert f"| {kind} |" in page
    assert page.count("\n| H100 SXM |") == page.count("\n| TPU v5p |") == 4


def test_what_differs_is_said(planned):
    points = planned[0]["points"]
    grown = points[2] | {"received": {"all-reduce": 1}, "num_items": 7}
    assert "differs" in plan_page.flat([points[2], grown])


def test_the_time_of_a_step():
    found = plan_rates.seconds(STEP, H100)
    assert found.matmul == pytest.approx(1.485e12 / (0.3 * 495e12))
    sent = 27e7 * (2 * 7 / 8 + 7 / 8)
    assert found.network == pytest.approx(sent / (0.6 * 450e9) + 4 * (15e-6 + 7e-6))
    # Rows; scores by what is drawn and by the batch; hidden states.
    numbers = 10 * 6000 * 200 + 5 * (1000 * 500 + 125 * 1000) + 60 * 125 * 200
    assert found.memory == pytest.approx(4 * numbers / (0.6 * 3.35e12))
    held = plan_rates.seconds(STEP._replace(temporaries=10**9), H100)
    assert held.memory == pytest.approx(2e9 / (0.6 * 3.35e12))
    assert found.all == pytest.approx(sum(found))
    network = plan_rates.seconds(STEP, V5P).network
    assert network == pytest.approx(sent / (0.6 * 200e9) + 4 * (5e-6 + 3e-6))


def test_a_tpu_pads_rows():
    assert plan_rates.needed(STEP, H100) == pytest.approx(20e9 + 1e7)
    assert plan_rates.needed(STEP, V5P) == pytest.approx(20e9 * 256 / 200 + 1e7)


@pytest.mark.parametrize("given", ["", "0", "8,x"])
def test_a_number_of_devices_is_a_number(given):
    command = [*tiny.PYTHON, "-m", "experiments.benchmarks.plan", "--config=smoke"]
    done = subprocess.run(
        [*command, "--out=unused", f"--devices={given}"],
        capture_output=True,
        text=True,
        cwd=tiny.ROOT,
    )
    tiny.assert_refused((done.returncode, done.stdout, done.stderr), "--devices=")
