"""Figures of ``experiments.device``: floors, traces, counts, tables."""

import jax
import numpy as np
import pytest

from experiments.benchmarks import kernels
from experiments.benchmarks.trace import Op, of_profile, with_names_of
from experiments.device import (
    device_tests,
    floors,
    processes,
    step_trace,
    steps,
    tables,
    workloads,
)
from experiments.device.report import Report, Setting
from tron_jax.data.packing import Batch, StackedBatches

PEAKS = {
    "bytes_per_s": {"copy": 2e12, "negate": 1e12},
    "flop_per_s": {"float32_default": 3e14, "float32_highest": 5e13},
}


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
    assert floors.real_inputs(floors.inputs_of(dispatch, 2)) == 7  # of 8 and of 6
    assert found.operations == 3 * 7 * 12 * d * d + 7 * d * (6 * 7 + 6)
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
            number = 2 if event == "MemoryResidency" else 1
            stat = f'stats {{ metadata_id: {number} str_value: "{op}" }}' if op else ""
            text += (
                f"events {{ metadata_id: {numbers[event]} offset_ps: {1000 * start} "
                f"duration_ps: {1000 * (end - start)} {stat} }}\n"
            )
        text += "}\n"
    for event, i in numbers.items():
        text += f'event_metadata {{ key: {i} value {{ id: {i} name: "{event}" }} }}\n'
    for i, stat in enumerate(("hlo_op", "memory_residency_details"), 1):
        text += f'stat_metadata {{ key: {i} value {{ id: {i} name: "{stat}" }} }}\n'
    return text + "}\n"


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
    held = ("MemoryResidency", 1000, 9000, "kind:device")
    marks = [("benchmark step", at, at + 900, None) for at in (1000, 2000)]
    launch = [("cuLaunchKernel", 1010, 1020, "loop_add_fusion.3")]
    return jax.profiler.ProfileData.from_text_proto(
        plane(
            "/device:GPU:0",
            {"Stream #20(Compute)": [held, *kernels_], "XLA Ops": kernels_[:1]},
            {kernel: 0 for kernel, *_ in (held, *kernels_)},
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


def test_kernels_of_a_command_buffer_are_told_apart():
    ops = [
        Op(0, 3, "command_buffer.1", "sm90_gemm"),
        Op(3, 4, "command_buffer.1", "sort"),
        Op(4, 6, "copy.2", "copy_2"),
        Op(6, 8, "copy.2", "memcpy"),
    ]
    rows = kernels.longest(ops, 2, {"copy.2": "row read"}, 2)
    assert [(row["kernel"], row["part"], row["count"]) for row in rows] == [
        ("copy_2", "row read", 1.0),
        ("sm90_gemm", None, 0.5),
    ]


@pytest.mark.parametrize(
    ("matmul", "buffers", "again"),
    [(225e-9, 0.0, False), (0, 0, True), (225e-9, 1, True)],
)
def test_traces_again_where_much_has_no_name(
    tmp_path, monkeypatch, matmul, buffers, again
):
    found = step_trace.summarise(of_profile(gpu_trace()), 1, GPU_PARTS)
    found["parts"]["candidate matmul"] = matmul
    found["in_graphs"] = buffers
    asked = []

    def measure(name, setting, limit, *, label=None, environment=None):
        asked.append(environment)
        return found

    monkeypatch.setattr(processes, "measure_apart", measure)
    monkeypatch.setenv("XLA_FLAGS", "--a=1")
    report = Report(tmp_path)
    step_trace.run(Setting(tmp_path, rehearse=False), report)
    without = {"XLA_FLAGS": "--a=1 --xla_gpu_enable_command_buffer="}
    assert asked == [None, without][: 1 + again]
    assert report.errors == []
    assert ("No command buffers" in step_trace.report_table(report.figures)) == again


def test_what_ran_without_operations():
    assert kernels.ran([]) == (0, 0.0, 0.0)
    assert kernels.in_windows([], [Op(0, 1, "w")]) == [[]]


def test_counts_of_pytest():
    lines = ["FAILED a::b", "= 2 failed, 31 passed, 4 skipped, 1 error in 62.10s ="]
    expected = {"passed": 31, "failed": 3, "skipped": 4}
    assert device_tests.counts([*lines, ""]) == expected
    assert device_tests.counts(["Killed"]) == {"passed": 0, "failed": 0, "skipped": 0}
    cut_off = [
        "tests/a.py::test_a PASSED [ 1%]",
        "tests/a.py::test_b ",
        "[gw0] [ 50%] PASSED tests/a.py::test_b ",
        "[gw1] [ 50%] FAILED tests/b.py::test_c[x] ",
    ]
    assert device_tests.counts(cut_off) == {"passed": 2, "failed": 1, "skipped": 0}
    table = device_tests.report_table(expected | {"command": "-m x", "tail": lines})
    assert "31 passed, 3 failed" in table
    assert "FAILED a::b" in table


def test_an_epoch_follows_from_steps():
    def row(case, items, device, host):
        times = {"low": device, "median": device, "high": device}
        figures = {"inputs": 512, "steps_a_dispatch": 8, "compile_s": 5.0}
        figures |= {"first_step_s": 1.0, "floors": floors.UNKNOWN, "device_s": times}
        return figures | {
            "case": case,
            "items": items,
            "host_s": dict.fromkeys(times, host),
        }

    rows = [
        row("tron_xl, diginetica, steps_per_group=8", 43_097, 0.0008, 0.0001),
        row("tron_xl, diginetica, steps_per_group=1", 43_097, 0.0006, 0.001),
        row("sasrec, diginetica", 43_097, 0.0001, 0.0001),
        {"case": "tron_xl, otto", "items": 1_855_603, "left_out": "needs 9 GB"},
    ]
    text = steps.report_table({"steps": rows})
    # 186,670 sessions by 128; the slower of device and host
    assert "1,459 steps an epoch: 1.17 s, 3,084 epochs an hour" in text
    assert "otto's size" not in text
    assert "tron_xl, otto: left out, needs 9 GB" in text
