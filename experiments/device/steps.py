"""Times of train steps: all systems at Diginetica's size, three at OTTO's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from data_prep.made_up.profiles import PROFILES
from experiments.benchmarks.workload import Workload, dispatch_at
from experiments.device import floors, step_times, workloads
from experiments.device.report import Report, Setting
from experiments.device.tables import number, share, spread, table

MILLIONS, TINY_MILLIONS = 20_000_000, 5_000
BATCH_SIZE = 128  # sessions, of all but GRU4Rec
TOGETHER = 3  # cases; what was measured before the part's time is up stays
STEPS_A_DISPATCH = "train.steps_per_group"


class Case(NamedTuple):
    """A run to time.

    Attributes:
      config: its name.
      dataset: whose lengths its sessions have.
      fields: of the config that are set.
      num_items: if not the data set's.
    """

    config: str
    dataset: str
    fields: dict[str, Any] = {}  # noqa: RUF012  (never altered)
    num_items: int | None = None

    @property
    def name(self) -> str:
        """For a table."""
        items = f", {self.num_items:,} items" if self.num_items else ""
        fields = "".join(f", {k.split('.')[1]}={v}" for k, v in self.fields.items())
        return f"{self.config}, {self.dataset}{items}{fields}"


def cases(*, tiny: bool) -> list[Case]:
    """What is timed, in order of worth."""
    millions = TINY_MILLIONS if tiny else MILLIONS
    first, *others = workloads.CONFIGS
    return [
        Case(first, "diginetica", {STEPS_A_DISPATCH: 8}),
        Case(first, "otto"),
        *(Case(name, "diginetica") for name in others[:2]),
        Case(first, "diginetica", {STEPS_A_DISPATCH: 1}),
        *(Case(name, "diginetica") for name in others[2:]),
        *(Case(name, "otto") for name in workloads.AT_OTTO if name != first),
        Case(first, "otto", num_items=millions),
    ]


def run(setting: Setting, report: Report) -> None:
    """Measures the first case alone, the others a few at a time.

    Those few are compiled side by side, and nothing is compiled while steps are timed.
    """
    todo = cases(tiny=setting.rehearse)
    first, *others = todo
    with report.attempt(first.name):
        workload = _workload(first, setting)
        compiled = step_times.compile_run(workload)
        cached = step_times.from_cache()
        report.add(first_from_cache=cached, from_cache=cached, programs=2)
        _measure(first, compiled, setting, report)
        del compiled, workload
    for begin in range(0, len(others), TOGETHER):
        _measure_together(others[begin : begin + TOGETHER], setting, report)


def _measure_together(cases: Sequence[Case], setting: Setting, report: Report) -> None:
    made: dict[str, Workload] = {}
    by_name = {case.name: case for case in cases}
    for name, case in by_name.items():
        with report.attempt(f"sessions of {name}", quiet=True):
            made[name] = _workload(case, setting)
    with report.attempt(f"compiling {len(made)} steps, then timing them"):
        found = step_times.compile_together(made)
        programs = report.figures.get("programs", 0) + 2 * len(found)
        report.add(from_cache=step_times.from_cache(), programs=programs)
        for name, compiled in found.items():
            with report.attempt(name):
                if isinstance(compiled, Exception):
                    raise compiled
                _measure(by_name[name], compiled, setting, report)


def _workload(case: Case, setting: Setting) -> Workload:
    return workloads.make(
        case.config,
        case.dataset,
        tiny=setting.rehearse,
        num_items=case.num_items,
        fields=case.fields,
    )


def _measure(
    case: Case, run: step_times.CompiledRun, setting: Setting, report: Report
) -> None:
    row: dict[str, Any] = {"case": case.name, "items": run.workload.num_items}
    rounds = step_times.rounds_of(setting)
    try:
        times = step_times.measure(run, rounds)
    except MemoryError as error:
        report.append("steps", row | {"left_out": str(error)})
        return
    floor: dict[str, Any] = floors.UNKNOWN
    with report.attempt(f"floors of {case.name}", quiet=True):
        dispatch = dispatch_at(run.workload.parts, run.starts[0])
        needs = floors.needs(run.workload, *dispatch)
        row["real_inputs"] = floors.real_inputs(floors.inputs_of(*dispatch))
        floor = floors.seconds(needs, setting.ceilings, "float32_default")
    report.append("steps", row | times | {"floors": floor})


HEADERS = (
    "config, lengths",
    "items",
    "inputs",
    "with padding",
    "steps a dispatch",
    "compile s",
    "first step s",
    "device ms a step",
    "host ms a step",
    "bytes: least ms",
    "operations: least ms",
    "device / larger least",
)


def report_table(figures: dict[str, Any]) -> str:
    """The figures of ``run``."""
    rows = [_row(row) for row in figures.get("steps", [])]
    cached, programs = figures.get("from_cache"), figures.get("programs")
    note = (
        "Median (5..95 %) of 20 rounds of 5 dispatches. Device: batches are there "
        "before, dispatches queued. Host: building a batch and dispatching it, until "
        "control returns. First step: once compiled, the state's making included. "
        "Least: experiments/device/floors.py, at the ceilings above. "
        f"Compiled: the first alone, the others {TOGETHER} at a time, so slower each; "
        f"of {programs} programs {cached} came from the cache "
        f"({figures.get('first_from_cache')} of the first two)."
    )
    return "\n\n".join([table(HEADERS, rows), note, *_epochs(figures)])


def _epochs(figures: dict[str, Any]) -> list[str]:
    """What an epoch of the first system takes at its quickest steps, from these."""
    lines = []
    for dataset, items in workloads.ITEMS.items():
        taken = [
            max(row["device_s"]["median"], row["host_s"]["median"])
            for row in figures.get("steps", [])
            if row["case"].startswith(f"{workloads.CONFIGS[0]}, {dataset}")
            and row["items"] == items
            and "device_s" in row
        ]
        if not taken:
            continue
        steps = -(-PROFILES[dataset].num_sessions // BATCH_SIZE)
        epoch = min(taken) * steps
        lines.append(
            f"- {workloads.CONFIGS[0]} at {dataset}'s size, {steps:,} steps an epoch: "
            f"{number(epoch)} s, {number(3600 / epoch)} epochs an hour, without "
            "evaluation (extrapolated from the commonest length of batch)"
        )
    return ["\n".join(lines)] if lines else []


def _row(row: dict[str, Any]) -> list[Any]:
    if "left_out" in row:
        left_out = [f"{row['case']}: left out, {row['left_out']}", row["items"]]
        return left_out + [None] * (len(HEADERS) - 2)
    floor = row["floors"]
    return [
        row["case"],
        row["items"],
        row.get("real_inputs"),
        row["inputs"],
        row["steps_a_dispatch"],
        row["compile_s"],
        row["first_step_s"],
        spread(row["device_s"]),
        spread(row["host_s"]),
        _ms(floor["bytes_s"]),
        _ms(floor["operations_s"]),
        share(row["device_s"]["median"], floors.least(floor)),
    ]


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else 1e3 * seconds
