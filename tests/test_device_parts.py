"""The figures of ``experiments.device``: floors, traces, runs that are cut, tables."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from experiments.benchmarks import kernels
from experiments.benchmarks.trace import Op, of_profile, with_names_of
from experiments.device import (
    accuracy,
    device_tests,
    evaluation,
    floors,
    parts,
    scatters,
    selections,
    step_times,
    step_trace,
    steps,
    tables,
    training,
    workloads,
)
from experiments.device.report import Report, Setting
from tron_jax.data.packing import Batch, StackedBatches

PEAKS = {
    "bytes_per_s": {"copy": 2e12, "negate": 1e12},
    "flop_per_s": {"float32_default": 3e14, "float32_highest": 5e13},
}


@pytest.fixture
def setting(tmp_path):
    return Setting(tmp_path, rehearse=True, ceilings=PEAKS)


def packed(items):
    column = np.zeros(len(items), np.int32)
    return Batch(np.array(items, np.int32), *[column] * 4)


def made(name="tron_xl", dataset="diginetica", **fields):
    changed = {field.replace("__", "."): value for field, value in fields.items()}
    return workloads.make(name, dataset, tiny=True, fields=changed)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (1e-12, "0"),
        (0.0000301, "0.0000301"),
        (0.99999, "1.00"),
        (1.234, "1.23"),
        (12.34, "12.3"),
        (99.96, "100"),
        (-4.5, "-4.50"),
        (1234.5, "1,234"),
        (48_123_456.0, "48,123,456"),
    ],
)
def test_numbers(value, text):
    assert tables.number(value) == text


def test_table():
    rows = [["a", 1.5, None, True], ["bcd", 20_000, "x", False]]
    assert tables.table(("name", "n", "more", "ok"), rows).splitlines() == [
        "| name |      n | more | ok  |",
        "| ---- | -----: | ---- | --- |",
        "| a    |   1.50 | -    | yes |",
        "| bcd  | 20,000 | x    | no  |",
    ]
    assert tables.table(("name",), []).splitlines() == ["| name |", "| ---- |"]


def test_floors_of_a_dense_step():
    workload = made(negatives__num_uniform=10, negatives__num_in_batch=5, loss__topk=3)
    d, layers, block, items = 16, 2, 16, 500
    found = floors.needs(workload, packed(range(1, 33)), 1)
    rows = 3 * 4 * d * (items + 1) + 2 * 4  # with both moments; two counts of steps
    state = jax.eval_shape(workload.parts.init)
    others = sum(x.size * 4 for x in jax.tree.leaves((state.params, state.opt)))
    assert found.bytes == 2 * (rows + others + 4)
    # qkv, out and two dense of 16; each query with two blocks of keys and values
    forward = layers * 32 * (2 * d * 3 * d + 2 * d * d + 4 * d * d + 4 * 2 * block * d)
    scored = 32 * (2 * 15 * d + 4 * 3 * d + 6 * d)
    assert found.operations == 3 * forward + scored
    least = floors.seconds(found, PEAKS, "float32_default")
    assert least["bytes_s"] == pytest.approx(found.bytes / 2e12)
    assert least["operations_s"] == pytest.approx(found.operations / 3e14)
    assert floors.least(least) == max(least["bytes_s"], least["operations_s"])
    assert floors.least(floors.seconds(found, {}, "float32_default")) is None


def test_floors_of_rows_and_of_slots():
    workload = made("gru4rec", negatives__num_uniform=0, negatives__num_in_batch=7)
    one, other = packed([7] * 8), packed([1, 2, 3, 4, 5, 6, 0, 0])
    both = Batch(*(np.stack(pair) for pair in zip(one, other, strict=True)))
    dispatch = StackedBatches(both, np.int32(2))
    assert floors.distinct_rows(workload, floors.inputs_of(dispatch, 2)) == 3.5
    assert floors.distinct_rows(workload, floors.inputs_of(dispatch, 1)) == 1
    d = 16
    found = floors.needs(workload, dispatch, 2)
    assert found.operations == 3 * 8 * 12 * d * d + 8 * d * (6 * 7 + 6)
    state = jax.eval_shape(workload.parts.init)
    whole = sum(x.size * 4 for x in jax.tree.leaves(state))
    table = sum(x.size * 4 for x in jax.tree.leaves(state.items))
    assert found.bytes == pytest.approx(2 * (whole - table + table * 3.5 / 501))


def test_distinct_rows_of_many_draws():
    workload = made(negatives__num_uniform=400, optimizer__item_table="rows")
    items = np.arange(1, 33)[None]
    drawn = min(400, workloads.TINY["negatives.num_uniform"])
    draw = np.random.default_rng(0).integers(1, 501, (2000, drawn))
    brute = np.mean([len({*row, *range(1, 33)}) for row in draw])
    assert floors.distinct_rows(workload, items) == pytest.approx(brute, rel=0.01)
    per_session = made("sasrec_l_negs")  # 8 sessions of 64 draws
    assert floors.distinct_rows(per_session, items) == pytest.approx(
        32 + 468 * (1 - (1 - 1 / 500) ** 512)
    )


def plane(name, lines, names):
    """A plane of a trace as text: {line: [(event, start, end, operation or None)]}."""
    numbers = {event: i + 1 for i, event in enumerate(names)}
    text = f'planes {{ name: "{name}"\n'
    for line, events in lines.items():
        text += f'lines {{ name: "{line}"\n'
        for event, start, end, op in events:
            stat = f'stats {{ metadata_id: 1 str_value: "{op}" }}' if op else ""
            text += (
                f"events {{ metadata_id: {numbers[event]} offset_ps: {1000 * start} "
                f"duration_ps: {1000 * (end - start)} {stat} }}\n"
            )
        text += "}\n"
    for event, i in numbers.items():
        text += f'event_metadata {{ key: {i} value {{ id: {i} name: "{event}" }} }}\n'
    return text + 'stat_metadata { key: 1 value { id: 1 name: "hlo_op" } }\n}\n'


def gpu_trace():
    """Two steps of three kernels; one overlaps, one has no name of an operation."""
    kernels_ = [
        (kernel, at + start, at + end, op)
        for at in (1000, 2000)
        for kernel, start, end, op in (
            ("loop_add_fusion_3", 100, 200, "loop_add_fusion.3"),
            ("sm90_gemm_tf32", 150, 400, "custom-call.1"),
            ("input_scatter_fusion", 500, 600, None),
        )
    ]
    marks = [("benchmark step", at, at + 900, None) for at in (1000, 2000)]
    launch = [("cuLaunchKernel", 1010, 1020, "loop_add_fusion.3")]
    return jax.profiler.ProfileData.from_text_proto(
        plane(
            "/device:GPU:0",
            {"Stream #20(Compute)": kernels_, "XLA Ops": kernels_[:1]},
            {kernel: 0 for kernel, *_ in kernels_},
        )
        + plane(
            "/host:CPU",
            {"main": marks, "launches": launch},
            ("benchmark step", "cuLaunchKernel"),
        )
    )


GPU_PARTS = {
    "loop_add_fusion.3": "sampling",
    "custom-call.1": "candidate matmul",
    "input_scatter_fusion": "row update",
}


def test_a_trace_of_a_gpu():
    trace = of_profile(gpu_trace())
    assert [(op.start, op.name, op.known) for op in trace.ops][:3] == [
        (1100, "loop_add_fusion.3", True),
        (1150, "custom-call.1", True),
        (1500, "input_scatter_fusion", False),
    ]
    assert len(trace.ops) == 6  # neither sums of streams nor the host's launches
    found = step_trace.summarise(trace, 1, GPU_PARTS)
    assert found["kernels"] == 3
    assert found["busy_s"] == pytest.approx(400e-9)
    assert found["gaps_s"] == pytest.approx(100e-9)
    assert found["step_s"] == pytest.approx(900e-9)
    assert found["parts"] == {
        "sampling": pytest.approx(75e-9),  # the 50 ns of two kernels are shared
        "candidate matmul": pytest.approx(225e-9),
        "row update": pytest.approx(100e-9),
    }
    assert found["known"] == pytest.approx(2 / 3)
    assert (found["one_clock"], found["in_graphs"]) == (True, 0)
    longest = found["longest"][0]
    assert (longest["op"], longest["kernel"]) == ("custom-call.1", "sm90_gemm_tf32")
    assert longest["count"] == 1
    assert longest["seconds"] == pytest.approx(250e-9)
    # of two steps a dispatch, all but the length of the trace is halved
    assert step_trace.summarise(trace, 2, GPU_PARTS)["kernels"] == 1.5
    text = step_trace.report_table({"default": found})
    for word in ("kernels a step: 3.00", "candidate matmul", "sm90_gemm_tf32", "45.0%"):
        assert word in text


def test_clocks_that_differ():
    trace = of_profile(gpu_trace())
    late = [op._replace(start=op.start + 1e6, end=op.end + 1e6) for op in trace.ops]
    found = step_trace.summarise(trace._replace(ops=late), 1, GPU_PARTS)
    assert not found["one_clock"]
    assert found["kernels"] == 3
    assert found["busy_s"] == pytest.approx(400e-9)
    assert "clocks differ" in step_trace.report_table({"default": found})


def test_kernels_are_named_after_operations():
    ops = [
        Op(0, 1, "loop_fusion_3", "loop_fusion_3", known=False),
        Op(1, 2, "copy.2", "copy_2_kernel"),
        Op(2, 3, "who", "who", known=False),
    ]
    program = {"loop_fusion.3": "sampling", "copy.2": "row read"}
    names = [op.name for op in with_names_of(ops, program)]
    assert names == ["loop_fusion.3", "copy.2", "who"]


def test_what_ran_without_operations():
    assert kernels.ran([]) == (0, 0.0, 0.0)
    assert kernels.in_windows([], [Op(0, 1, "w")]) == [[]]


def test_counts_of_pytest():
    lines = ["FAILED a::b", "= 2 failed, 31 passed, 4 skipped, 1 error in 62.10s ="]
    expected = {"passed": 31, "failed": 3, "skipped": 4}
    assert device_tests.counts([*lines, ""]) == expected
    assert device_tests.counts(["Killed"]) == {"passed": 0, "failed": 0, "skipped": 0}
    table = device_tests.report_table(expected | {"command": "-m x", "tail": lines})
    assert "31 passed, 3 failed" in table
    assert "FAILED a::b" in table


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
    monkeypatch.setattr(training, "train", train)
    monkeypatch.setattr(accuracy, "_resumed", lambda *_: same)
    report = Report(tmp_path)
    accuracy.run(Setting(tmp_path, rehearse=False, data=str(tiny_data)), report)
    assert report.figures["float32"]["recall@20"] == recall
    assert report.figures["bfloat16"]["within"] == ok
    assert [error[:7] for error in report.errors] == ([] if ok else ["float32"])
    table = accuracy.report_table(report.figures)
    assert f"{recall:.4f}" in table
    assert "cut at step 7, same bits at step 100" in table


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
