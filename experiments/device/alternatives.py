"""Other ways to do what a step does, side by side with what it does."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

from experiments.assembly.ways import Ways
from experiments.device import (
    compiling,
    processes,
    scatters,
    selections,
    step_times,
    workloads,
)
from experiments.device.report import Report, Setting
from experiments.device.tables import number, spread, table

LIMIT = 150.0  # seconds


class Variant(NamedTuple):
    """A run whose step is timed beside that of others.

    Attributes:
      config: its name.
      fields: of the config that are set.
      ways: to compute; None = the best of the backend.
    """

    config: str
    fields: dict[str, Any] = {}  # noqa: RUF012  (never altered)
    ways: Ways | None = None


VARIANTS = {
    "tron_xl as it is": Variant("tron_xl"),
    "tron_xl, item_table=rows": Variant("tron_xl", {"optimizer.item_table": "rows"}),
    "tron_xl, compute_dtype=bfloat16": Variant(
        "tron_xl", {"model.compute_dtype": "bfloat16"}
    ),
    "tron_xl, gradient by gather and scatter": Variant(
        "tron_xl", ways=Ways(by_matmul=False, fixed=True)
    ),
    "tron_xl, number of steps as a value": Variant(
        "tron_xl", ways=Ways(by_matmul=True, fixed=False)
    ),
    "gru4rec as it is": Variant("gru4rec"),
}
FLAGGED = ("tron_xl", "gru4rec")
# What XLA puts into command buffers (CUDA graphs) besides its default: loops too, or
# nothing at all.
COMMAND_BUFFERS = {
    "with loops": f"{processes.COMMAND_BUFFERS}+WHILE,+CONDITIONAL",
    "none": processes.COMMAND_BUFFERS,
}


def run(setting: Setting, report: Report) -> None:
    """Measures in processes of their own, since XLA reads its flags at the start."""
    compiling.run(setting, report)
    with report.attempt("selections, scatters, variants"):
        try:
            report.add(**processes.measure_apart("alternatives_here", setting, LIMIT))
        except processes.MeasurementError as error:
            report.add(**error.figures)
            raise
    for name, flag in COMMAND_BUFFERS.items():
        with report.attempt(f"command buffers: {name}"):
            figures = processes.measure_apart(
                "steps_with_flags",
                setting,
                LIMIT,
                label=f"flags_{name.replace(' ', '_')}",
                environment=processes.with_flag(flag),
            )
            for row in figures["steps"]:
                report.append("command_buffers", row | {"flags": name})


def measure_here(setting: Setting, report: Report) -> None:
    """What needs no flags, in this process."""
    tiny = setting.rehearse
    with report.attempt("selections"):
        selections.measure(selections.TINY if tiny else selections.FULL, report)
    with report.attempt("scatters"):
        scatters.measure(scatters.TINY if tiny else scatters.FULL, report)
    _time_steps(
        "variants",
        {
            name: workloads.make(
                variant.config,
                "diginetica",
                tiny=tiny,
                fields=variant.fields,
                ways=variant.ways,
            )
            for name, variant in VARIANTS.items()
        },
        setting,
        report,
    )


def steps_with_flags(setting: Setting, report: Report) -> None:
    """Steps of two systems under the XLA flags of this process."""
    report.add(xla_flags=os.environ.get("XLA_FLAGS", ""))
    made = {
        name: workloads.make(name, "diginetica", tiny=setting.rehearse)
        for name in FLAGGED
    }
    _time_steps("steps", made, setting, report)


def _time_steps(
    figure: str, made: dict[str, Any], setting: Setting, report: Report
) -> None:
    rounds = step_times.rounds_of(setting)
    for name, run_ in step_times.compile_together(made).items():
        with report.attempt(f"step of {name}"):
            if isinstance(run_, Exception):
                raise run_
            report.append(figure, {"name": name} | step_times.measure(run_, rounds))


def report_table(figures: dict[str, Any]) -> str:
    """The figures of ``run``."""
    return "\n\n".join(
        [
            compiling.report_table(figures),
            _selections(figures.get("selection", [])),
            _scatters(figures.get("scatter", [])),
            _steps(figures.get("variants", []), figures.get("command_buffers", [])),
        ]
    )


def _selections(rows: list[dict[str, Any]]) -> str:
    sizes = sorted({row["events"] for row in rows})
    by_way: dict[tuple[str, str], dict[int, Any]] = {}
    for row in rows:
        by_way.setdefault((row["way"], row["dtype"]), {})[row["events"]] = row
    lines = []
    for (way, dtype), of_way in by_way.items():
        found = [_ms(of_way.get(size)) for size in sizes]
        done = [row for row in of_way.values() if "right" in row]
        lowest = all(row["lowest_first"] for row in done)
        lines.append([way, dtype, *found, all(row["right"] for row in done), lowest])
    headers = ["selection, ms at events", "scores", *(f"{size:,}" for size in sizes)]
    return table([*headers, "values of a sort", "of equals the lowest"], lines)


def _scatters(rows: list[dict[str, Any]]) -> str:
    sizes = sorted({row["added"] for row in rows})
    lines = []
    for way in dict.fromkeys(row["way"] for row in rows):
        of_way = {row["added"]: row for row in rows if row["way"] == way}
        same = all(row["same_bits_twice"] for row in of_way.values())
        lines.append([way, *(_ms(of_way.get(size)) for size in sizes), same])
    headers = ["sum by row, ms at rows added", *(f"{size:,}" for size in sizes)]
    return table([*headers, "same bits twice"], lines)


def _ms(row: dict[str, Any] | None) -> str | None:
    return number(1e3 * row["seconds"]["median"]) if row and "seconds" in row else None


def _steps(variants: list[dict[str, Any]], flagged: list[dict[str, Any]]) -> str:
    lines = [
        [
            row["name"],
            row.get("flags", "default"),
            row["steps_a_dispatch"],
            spread(row["device_s"]),
            spread(row["host_s"]),
        ]
        for row in [*variants, *flagged]
    ]
    headers = ["step of", "command buffers", "steps a dispatch"]
    return table([*headers, "device ms a step", "host ms a step"], lines)
