"""Charts of reports: the parts of a step, and how steps scale."""

from __future__ import annotations

from typing import Any

import numpy as np

from experiments.benchmarks.breakdown import HOST
from experiments.benchmarks.ops import PARTS

Report = dict[str, Any]

# Okabe and Ito's colours, which stay apart for colour-blind eyes, then their tints.
COLOURS = (
    *("#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#F0E442"),
    *("#7FB8D8", "#F2CF80", "#80CEB9", "#EAAF80", "#000000"),
)
REST, REST_COLOUR = "unaccounted", "#BFBFBF"


def draw_breakdown(figure: Any, report: Report) -> None:
    """One stacked bar, the parts of a step; a part has the same colour in any chart."""
    axes = figure.subplots()
    colours = dict(zip((HOST, *PARTS), COLOURS, strict=True))
    left = 0.0
    for part, seconds in (*report["parts"].items(), (REST, report["unaccounted"])):
        width = 1e3 * max(0.0, seconds)
        label = f"{part}  {1e3 * seconds:.1f} ms"
        colour = colours.get(part, REST_COLOUR)
        axes.barh([0], [width], left=left, color=colour, label=label)
        left += width
    axes.set_title(f"{report['what']}: {1e3 * report['seconds']:.1f} ms", loc="left")
    axes.set_xlabel("milliseconds")
    axes.set_xlim(0, left)
    axes.set_yticks([])
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.legend(
        frameon=False, ncols=3, fontsize=8, loc="upper left", bbox_to_anchor=(0, -0.3)
    )


def draw_scaling(figure: Any, report: Report) -> None:
    """Time and memory against each axis, the axes side by side.

    Times are ratios to the first point, with which each point took turns.
    """
    series = report["series"]
    panels = figure.subplots(2, len(series), squeeze=False)
    for column, (axis, points) in enumerate(series.items()):
        found = [point for point in points if "error" not in point]
        sizes = [point[axis] for point in found]
        ratios = np.array([point["ratio"] for point in found])
        intervals = np.array([point["ratio_interval"] for point in found]).T
        time, memory = panels[0][column], panels[1][column]
        around = np.abs(intervals - ratios)
        time.errorbar(sizes, ratios, around, fmt="o-", color=COLOURS[0], capsize=3)
        first = f"1 = {1e3 * found[0]['seconds']:.0f} ms"
        time.set_title(f"a step, by {axis.replace('_', ' ')} ({first})", loc="left")
        for name, colour in zip(MEMORY, COLOURS, strict=False):
            values = [point[name] / 1e9 for point in found]
            memory.plot(sizes, values, "o-", color=colour, label=MEMORY[name])
        memory.set_title("memory (GB)", loc="left")
        memory.legend(frameon=False, fontsize=8)
        memory.set_xlabel(axis.replace("_", " "))
        for axes in (time, memory):
            axes.set_xscale("log")
            axes.set_ylim(bottom=0)
            axes.set_xticks(sizes, [_short(size) for size in sizes])
            axes.minorticks_off()
            axes.grid(axis="y", color="0.9")
            axes.spines[["top", "right"]].set_visible(False)


def _short(size: int) -> str:
    """43000 -> 43k."""
    for unit, letter in ((1_000_000, "M"), (1000, "k")):
        if size >= unit:
            return f"{size / unit:.3g}{letter}"
    return str(size)


MEMORY = {
    "peak_bytes": "peak of the process",
    "state_bytes": "table, moments and encoder",
    "temporary_bytes": "temporaries of a step",
    "init_temporary_bytes": "temporaries of the first state",
}
