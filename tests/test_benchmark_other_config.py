"""``experiments.benchmark train --beside``: two configs in turn."""

import json

import pytest
import tiny

from experiments import benchmark
from experiments.benchmarks import other_config, step_timer
from experiments.benchmarks.workload import open_workload

SMOKE = tiny.ROOT / "experiments" / "configs" / "smoke.py"


def test_speeds_are_in_sessions(tiny_data, compilations, monkeypatch):
    """Batches of 12 and batches of 6, a step of either taking a second."""

    def timed(function):
        return 1.0, function()

    monkeypatch.setattr(step_timer, "timed", timed)
    with tiny.compiled_once(compilations):
        workload = open_workload(tiny.config(tiny_data))
        other = open_workload(tiny.config(tiny_data, train__batch_size=6))
        report = other_config.measure(workload, other, 4)
    assert report["sessions_per_s"] == 12
    assert report["other_sessions_per_s"] == 6
    assert report["ratio"] == 2
    assert "12 sessions/s" in other_config.table(report, "other.py")


def test_beside_another_config_file(tmp_path, tiny_data, compilations, capfd):
    other = tmp_path / "other.py"
    fields = {**tiny.FIELDS, **tiny.MODES["dense"]}
    lines = [f"    c.{name} = {value!r}" for name, value in fields.items()]
    other.write_text(
        "from experiments.configs import defaults as fields\n"
        "def get_config():\n    c = fields.default_config()\n"
        + "\n".join(lines)
        + "\n    return c\n"
    )
    figures = tmp_path / "figures.json"
    _, *arguments = tiny.command("unused", tiny_data)
    arguments = [a for a in arguments if not a.startswith("--workdir")]
    argv = ["benchmark", "train", *arguments, f"--beside={other}", "--repeats=3"]
    with tiny.compiled_once(compilations):
        assert benchmark.main([*argv, f"--json={figures}"]) == 0
    found = json.loads(figures.read_text())
    assert found["ratio"] == pytest.approx(
        found["sessions_per_s"] / found["other_sessions_per_s"]
    )


def test_refuses_a_config_that_is_not_there(tiny_data, capfd):
    argv = ["train", f"--config={SMOKE}", f"--config.data.path={tiny_data}"]
    status = benchmark.main(["benchmark", *argv, "--beside=nowhere.py"])
    tiny.assert_refused((status, *capfd.readouterr()), "nowhere.py")
