"""The page and the picture of ``experiments.benchmarks.warm_start``."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from experiments.comparing.pictures.inks import nth
from tron_jax.files import replacing
from tron_jax.reporting import plots

Report = dict[str, Any]
MINUS = "\N{MINUS SIGN}"
PARTS = {"all": "all test clicks", "new": "test clicks on new items"}
# What a line is drawn over, and its unit in that of the report.
ACROSS = {
    "seconds": ("minutes of training", 60),
    "sessions": ("thousands of sessions trained on", 1000),
}


def write(out: Path, report: Report) -> None:
    """Writes warm_start.md, and warm_start.png where matplotlib is installed.

    Args:
      out: an existing folder.
      report: what was found, as in warm_start.json.
    """
    with replacing(out / "warm_start.md") as new:
        new.write_text("\n".join(_lines(report)) + "\n")
    plots.save(out / "warm_start.png", lambda figure: _draw(figure, report), (9, 7))


def _lines(report: Report) -> Iterator[str]:
    counts = report["labels"]
    yield "# Warm start\n"
    yield (
        f"Recall@20 (`exact`) of {counts['all']:,} test clicks and of the "
        f"{counts['new']:,} on new items, with 95 % intervals of a bootstrap over "
        f"{report['sessions']:,} sessions; they do not cover the noise of training. "
        "Time is that of training as logged, on a machine that did other work too.\n"
    )
    yield "![Recall@20 against time and work](warm_start.png)\n"
    (best,) = (point for point in report["points"] if point["baseline"])
    yield (
        "| run | step | sessions trained on | seconds | all | new items | all, to "
        f"{best['run']} | new items, to {best['run']} |"
    )
    yield "|---|---|---|---|---|---|---|---|"
    for point in report["points"]:
        cells = [
            point["run"],
            f"{point['step']:,}",
            f"{point['sessions']:,}",
            f"{point['seconds']:,.0f}",
            *(_plain(point[part]) for part in PARTS),
            *(_signed(point[f"{part}_difference"]) for part in PARTS),
        ]
        yield f"| {' | '.join(cells)} |"
    yield f"\nDifferences are to `{best['run']}` at step {best['step']:,}. The runs:\n"
    for name, made_with in report["runs"].items():
        data, command = made_with["fingerprint"][:12], _command(made_with)
        yield f"- `{name}`, on data `{data}`: `{command}`"


def _plain(figures: Sequence[float]) -> str:
    value, low, high = figures
    return f"{value:.4f} [{low:.4f}, {high:.4f}]"


def _signed(figures: Sequence[float]) -> str:
    value, low, high = figures
    return f"{value:+.4f} [{low:+.4f}, {high:+.4f}]".replace("-", MINUS)


def _command(made_with: dict[str, Any]) -> str:
    return f"python -m {shlex.join(made_with['argv'])}"


def _draw(figure: Any, report: Report) -> None:
    """Both parts of the clicks, over the time and over the work of training."""
    panels = figure.subplots(len(PARTS), len(ACROSS), sharey="row", sharex="col")
    handles = {}
    for row, (part, heading) in zip(panels, PARTS.items(), strict=True):
        for axes, (across, (label, unit)) in zip(row, ACROSS.items(), strict=True):
            for n, name in enumerate(report["runs"]):
                points = [p for p in report["points"] if p["run"] == name]
                style = nth(n)
                handles[name] = axes.errorbar(
                    [point[across] / unit for point in points],
                    [point[part][0] for point in points],
                    [[p[part][0] - p[part][1] for p in points]] * 2,
                    color=style.colour,
                    marker=style.marker,
                    ls=style.line,
                    ms=4.5,
                    lw=1.4,
                    capsize=2,
                )
            _spread(axes, [point[across] / unit for point in report["points"]])
            axes.grid(axis="y", color="0.9")
            axes.spines[["top", "right"]].set_visible(False)
            if part == list(PARTS)[-1]:
                axes.set_xlabel(label)
        row[0].set_title(f"Recall@20 of {heading}", loc="left")
    figure.legend(
        list(handles.values()), list(handles), loc="outside lower left", ncols=3
    )


def _spread(axes: Any, found: Sequence[float]) -> None:
    """Spreads points by their logarithm, and keeps those at 0, before any training."""
    above = [x for x in found if x > 0]
    first, last = min(above, default=1), max(above, default=1)
    ticks = [step * 10.0**power for power in range(-1, 7) for step in (1, 2, 5)]
    shown = [x for x in ticks if first <= x <= last]
    axes.set_xscale("symlog", linthresh=first)
    axes.set_xticks([0, *shown], ["0", *(f"{x:,.4g}" for x in shown)])
    axes.minorticks_off()
    axes.set_xlim(left=-first / 20)
