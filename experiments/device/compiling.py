"""How long the step of TRON XL takes to compile, and what the time buys."""

from __future__ import annotations

import os
from typing import Any

from experiments.device import processes, step_times, workloads
from experiments.device.report import Report, Setting
from experiments.device.tables import number, spread, table

LIMIT = 150.0  # seconds
# Each begins with an empty cache.
WITH = {
    "as it is": "",
    "no kernel timed": "--xla_gpu_autotune_level=0",
    "no matmul by Triton": "--xla_gpu_enable_triton_gemm=false",
    "deterministic": "--xla_gpu_deterministic_ops=true",
}
# This one has the first's, and with it the program, which is that of all seeds.
OTHER_SEED = "as it is, another seed, its cache"
ANOTHER_SEED = 7


def run(setting: Setting, report: Report) -> None:
    """Compiles in processes of their own, since XLA reads its flags at the start."""
    first, *others = WITH
    _measure(first, "compile_once", first, setting, report)
    _measure(OTHER_SEED, "compile_another_seed", first, setting, report)
    for name in others:
        _measure(name, "compile_once", name, setting, report)


def _measure(
    name: str, measurement: str, cache: str, setting: Setting, report: Report
) -> None:
    folder = setting.folder / f"cache_of_{cache.replace(' ', '_')}"
    folder.mkdir(parents=True, exist_ok=True)
    environment = {"JAX_COMPILATION_CACHE_DIR": str(folder)}
    if flag := WITH.get(name):
        environment |= processes.with_flag(flag)
    with report.attempt(name):
        found = processes.measure_apart(
            measurement,
            setting,
            LIMIT,
            label=name.replace(" ", "_"),
            environment=environment,
        )
        report.append("compiled", {"name": name} | found["step"])


def compile_once(setting: Setting, report: Report, seed: int = 0) -> None:
    """Compiles and times the step under the XLA flags of this process."""
    workload = workloads.make(
        "tron_xl", "diginetica", tiny=setting.rehearse, fields={"train.seed": seed}
    )
    rounds = step_times.rounds_of(setting)
    report.add(
        xla_flags=os.environ.get("XLA_FLAGS", ""),
        step=step_times.measure(step_times.compile_run(workload), rounds),
    )


def compile_another_seed(setting: Setting, report: Report) -> None:
    """The same of a seed that no other process of the check has."""
    compile_once(setting, report, seed=ANOTHER_SEED)


def report_table(figures: dict[str, Any]) -> str:
    """The figures of ``run``."""
    rows = [
        [
            row["name"],
            WITH.get(row["name"], ""),
            number(row["compile_s"]),
            spread(row["device_s"]),
        ]
        for row in figures.get("compiled", [])
    ]
    headers = ["TRON XL's step, one length of batch", "XLA flag", "compile s"]
    return table([*headers, "device ms a step"], rows)
