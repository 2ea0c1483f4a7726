"""Parts of ``experiments.device`` at tiny sizes, and the runs that they train."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from test_device_figures import PEAKS

from experiments.device import (
    accuracy,
    compiling,
    evaluation,
    floors,
    parts,
    processes,
    scatters,
    selections,
    step_times,
    step_trace,
    steps,
    training,
)
from experiments.device.report import Report, Setting


@pytest.fixture
def setting(tmp_path):
    return Setting(tmp_path, rehearse=True, ceilings=PEAKS)


def logged(step, rate):
    return {
        "step": step,
        "epoch": step / 100,
        "sessions_per_s": 80.0 * rate,
        "epochs_per_hour": 36.0 * rate,
    }


def test_speed_of_the_last_epoch():
    lines = [logged(50, 0.1), logged(100, 9), {"step": 100, "protocol": "exact"}]
    lines += [logged(150, 1), logged(200, 2)]
    # 50 steps at 1 a second, 50 at 2
    found = training.speed(lines)
    assert found["ms_a_step"] == pytest.approx(750)
    assert found["epochs_per_hour"] == pytest.approx(48)
    assert found["sessions_per_s"] == pytest.approx((50 * 80 + 25 * 160) / 75)
    one_epoch = training.speed([logged(50, 0.1), logged(75, 1), logged(100, 1)])
    assert one_epoch["ms_a_step"] == pytest.approx(1000)  # not while it warmed up


def test_last_evaluation():
    lines = [
        {"step": 1, "loss": 2.0},
        {"step": 9, "protocol": "exact", "split": "test", "recall@20": 0.1},
        {"step": 9, "protocol": "exact", "split": "validation", "recall@20": 0.9},
        {"step": 9, "protocol": "paper", "split": "test", "recall@20": 0.3},
    ]
    assert training.last_evaluation(lines, "exact")["recall@20"] == 0.1


def test_a_run_that_is_cut(tmp_path, tiny_data, compilations):
    workdir = tmp_path / "run"
    _, *arguments = tiny.command(workdir, tiny_data)
    command = [*training.command("smoke", workdir, {})[:3], *arguments]
    with tiny.compiled_once(compilations):
        stopped = training.train_and_stop(
            command, tmp_path / "cut", workdir / "metrics.jsonl", 120
        )
    assert 0 < stopped < 2 * tiny.STEPS_PER_EPOCH
    assert training.last_step(workdir) == stopped


def test_differences_of_checkpoints(tiny_runs, monkeypatch):
    workdir, step = tiny_runs("rows"), 2 * tiny.STEPS_PER_EPOCH
    assert training.last_step(workdir) == step
    found = training.difference(workdir, workdir, step)
    assert found["arrays"] > 5
    assert (found["same_bits"], found["arrays_that_differ"]) == (True, 0)
    a, b = np.float32([1, -4, 0]), np.int32([3])
    arrays = {"one": [a, b], "other": [a + np.float32([0, 0, 1]), b]}
    monkeypatch.setattr(training, "_arrays", lambda name, step: arrays[name])
    assert training.difference("one", "other", 7) == {
        "step": 7,
        "same_bits": False,
        "arrays_that_differ": 1,
        "arrays": 2,
        "largest_difference": 0.25,
    }
    arrays["other"] = [np.float32([1, -4, -0.0]), b]  # equal, of other bits
    assert not training.difference("one", "other", 7)["same_bits"]


def test_a_run_that_fails(tmp_path, tiny_data):
    _, *arguments = tiny.command(tmp_path / "run", tiny_data, model__num_heads=3)
    command = [*training.command("smoke", tmp_path / "run", {})[:3], *arguments]
    with pytest.raises(RuntimeError, match="num_heads"):
        training.train(command, tmp_path / "output", 120)
    with pytest.raises(RuntimeError, match=r"not stopped.*num_heads"):
        training.train_and_stop(command, tmp_path / "cut", tmp_path / "none", 120)


@pytest.mark.parametrize(("recall", "ok"), [(0.5445, True), (0.55, False)])
def test_accuracy_is_compared(tmp_path, monkeypatch, tiny_data, recall, ok):
    def train(arguments, folder, limit, **environment):
        [workdir] = (a[10:] for a in arguments if a.startswith("--workdir="))
        figures = {"protocol": "exact", "split": "test", "step": 300}
        lines = [logged(100, 1), logged(200, 1), logged(300, 1)]
        lines.append(figures | {"recall@20": recall, "mrr@20": 0.186})
        path = accuracy.Path(workdir)
        path.mkdir()
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (path / "metrics.jsonl").write_text(text)

    same = {"same_bits": True, "step": 100, "stopped_at": 7}
    fingerprint = json.loads((tiny_data / "stats.json").read_text())["fingerprint"]
    monkeypatch.setattr(accuracy, "FINGERPRINT", fingerprint)
    monkeypatch.setattr(training, "train", train)
    monkeypatch.setattr(training, "device_of", lambda workdir: "NVIDIA Y")
    monkeypatch.setattr(accuracy, "_resumed", lambda *_: same)
    report = Report(tmp_path)
    data = str(tiny_data)
    accuracy.run(Setting(tmp_path, False, data, device="NVIDIA Y"), report)
    assert report.figures["float32"]["recall@20"] == recall
    assert report.figures["bfloat16"]["within"] == ok
    assert [error[:7] for error in report.errors] == ([] if ok else ["float32"])
    table = accuracy.report_table(report.figures)
    assert f"{recall:.4f}" in table
    assert "cut at step 7, same bits at step 100" in table


def test_a_run_on_another_device_does_not_count(tmp_path, monkeypatch, tiny_data):
    monkeypatch.setattr(training, "train", lambda *_, **__: None)
    monkeypatch.setattr(training, "device_of", lambda workdir: "cpu")
    monkeypatch.setattr(training, "train_and_stop", lambda *_, **__: 7)
    report = Report(tmp_path)
    accuracy.run(Setting(tmp_path, False, str(tiny_data), device="NVIDIA Y"), report)
    assert "trained on cpu, not NVIDIA Y" in report.errors[0]
    assert "float32" not in report.figures


def test_selections_are_those_of_a_sort(tmp_path):
    scores = jnp.array([[1.0, 3.0, -2.0, 3.0, 0.0, -0.5], [0, 0, 0, 0, 0, -1]])
    values, columns = selections.by_bisection(scores, 3)
    np.testing.assert_array_equal(values, [[3, 3, 1], [0, 0, 0]])
    np.testing.assert_array_equal(columns, [[1, 3, 0], [0, 1, 2]])
    wrong = selections.check(
        lambda x: (x[:, :3], jnp.tile(jnp.arange(3), (2, 1))), scores, 3
    )
    assert wrong == {"right": False, "lowest_first": False}
    report = Report(tmp_path)
    selections.measure(selections.Sizes((4,), 300, 5, 1), report)
    assert report.errors == []
    rows = report.figures["selection"]
    assert len(rows) == 2 * len(selections.ways())
    assert all(row["right"] and row["seconds"]["median"] > 0 for row in rows)


def test_scatters_agree():
    ids = scatters.contended(4000, 50)
    assert (ids.min(), ids.max()) == (0, 49)
    counts = np.sort(np.bincount(ids, minlength=50))
    assert counts[-1] > 5 * counts[0] > 0
    values = np.random.default_rng(0).normal(size=(4000, 3)).astype(np.float32)
    expected = np.zeros((50, 3))
    np.add.at(expected, ids, values)
    for way in scatters.WAYS.values():
        found = way(50, jnp.asarray(ids), jnp.asarray(values))
        np.testing.assert_allclose(found, expected, atol=1e-4)


def test_steps(setting, monkeypatch, compilations):
    cases = [
        steps.Case("tron_xl", "diginetica", {steps.STEPS_A_DISPATCH: 8}),
        steps.Case("gru4rec", "otto"),
    ]
    monkeypatch.setattr(steps, "cases", lambda **_: cases)
    report = Report(setting.folder)
    with tiny.compiled_once(compilations):
        steps.run(setting, report)
    assert report.errors == []
    xl, gru = report.figures["steps"]
    assert (xl["steps_a_dispatch"], gru["steps_a_dispatch"]) == (8, 8)
    for row in (xl, gru):
        assert row["compile_s"] > 0
        assert row["first_step_s"] > 0
        assert row["device_s"]["low"] <= row["device_s"]["median"]
        assert row["host_s"]["repeats"] == step_times.TINY_ROUNDS
        assert floors.least(row["floors"]) > 0
    assert "tron_xl, diginetica, steps_per_group=8" in steps.report_table(
        report.figures
    )


def test_a_step_that_does_not_fit_is_left_out(setting, monkeypatch, compilations):
    monkeypatch.setattr(step_times.memory, "free_memory", lambda: 10_000)
    case = steps.Case("gru4rec", "otto")
    monkeypatch.setattr(steps, "cases", lambda **_: [case])
    report = Report(setting.folder)
    with tiny.compiled_once(compilations):
        steps.run(setting, report)
    assert report.errors == []
    [row] = report.figures["steps"]
    assert "MB are free" in row["left_out"]
    assert "left out" in steps.report_table(report.figures)


def test_what_compiling_takes(setting, monkeypatch, compilations):
    asked = []

    def measure(name, setting, limit, *, label, environment):
        asked.append((name, label, environment))
        return found.figures

    found = Report(setting.folder)
    with tiny.compiled_once(compilations):
        compiling.compile_once(setting, found)
    assert found.figures["step"]["compile_s"] > 0
    monkeypatch.setattr(processes, "measure_apart", measure)
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    report = Report(setting.folder)
    compiling.run(setting, report)
    assert report.errors == []
    assert [name for name, *_ in asked][:2] == ["compile_once", "compile_another_seed"]
    assert len({label for _, label, _ in asked}) == len(asked)
    caches = [of["JAX_COMPILATION_CACHE_DIR"] for *_, of in asked]
    assert caches[0] == caches[1]  # another seed has the first's
    assert len(set(caches)) == len(asked) - 1
    assert [of.get("XLA_FLAGS") for *_, of in asked][:3] == [
        None,
        None,
        "--xla_gpu_autotune_level=0",
    ]
    assert "another seed" in compiling.report_table(report.figures)


def test_trace(setting, compilations):
    report = Report(setting.folder)
    with tiny.compiled_once(compilations):
        step_trace.trace_once(setting, report)
    found = report.figures
    assert found["kernels"] > 50
    assert 0 < found["busy_s"] < found["step_s"]
    assert found["parts"]["selection"] > 0
    assert len(found["longest"]) == step_trace.TOP
    assert found["known"] == 1


def test_evaluation(setting, compilations):
    report = Report(setting.folder)
    with tiny.compiled_once(compilations):
        evaluation.run(setting, report)
    assert report.errors == []
    rows = report.figures["ranks"]
    assert [row["dataset"] for row in rows] == ["diginetica"] * 2 + ["otto"] * 2
    for row in rows:
        assert row["matmul_s"] == pytest.approx(2 * 256 * row["items"] * 16 / 5e13)
        assert row["all_s"] == pytest.approx(
            row["seconds"] * row["predictions"] / row["events"]
        )
    assert report.figures["whole"]["events"] > 0
    assert "extrapolated s" in evaluation.report_table(report.figures)


@pytest.mark.parametrize("name", parts.PARTS)
def test_a_table_of_nothing_is_no_fault(name):
    """A part may end before it found anything."""
    assert isinstance(parts.PARTS[name].table({}), str)
