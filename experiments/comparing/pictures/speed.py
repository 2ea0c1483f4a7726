"""Speed against accuracy, a point a setting."""

from __future__ import annotations

from typing import Any

from experiments.comparing.comparison import Comparison, Setting
from experiments.comparing.pictures import axes as shared
from experiments.comparing.pictures import inks
from experiments.comparing.pictures.picture import Picture


def against_accuracy(comparison: Comparison) -> list[Picture]:
    """Returns the picture where two settings or more have a speed."""
    points = {
        s.name: (speed, recall) for s in comparison.settings for speed, recall in _of(s)
    }
    if len(points) < 2:
        return []
    ranked = sorted(points, key=lambda name: -points[name][1])
    told = ", ".join(
        f"{name} {points[name][1]:.4f} at {points[name][0]:,.0f}" for name in ranked
    )
    left_out = len(comparison.settings) - len(points)
    caption = "Means over the runs, exact protocol; right and up is better."
    if left_out:
        caption += f" {left_out} without a known speed left out."
    return [
        Picture(
            name="speed_and_recall",
            heading="Speed against Recall@20",
            caption=caption,
            alt=f"Recall@20 against sessions a second in training: {told}.",
            height=2.6 + shared.legend_height(ranked),
            draw=lambda figure: _draw(
                figure, comparison, {name: points[name] for name in ranked}
            ),
        )
    ]


def _of(setting: Setting) -> list[tuple[float, float]]:
    recall = setting.figures.get("exact", {}).get("recall@20")
    if recall is None or setting.sessions_per_s is None:
        return []
    return [(setting.sessions_per_s.mean, recall.mean)]


def _draw(
    figure: Any, comparison: Comparison, points: dict[str, tuple[float, float]]
) -> None:
    axes = figure.subplots()
    styles = inks.styles(comparison)
    entries = []
    for name, point in points.items():
        colour, marker, _ = styles[name]
        drawn = axes.plot(
            *point, marker, color=colour, ms=7, markeredgewidth=0, linestyle=""
        )
        entries.append((drawn[0], name))
    speeds = [speed for speed, _ in points.values()]
    if min(speeds) > 0 and max(speeds) >= 10 * min(speeds):
        axes.set_xscale("log")
    shared.finish(axes, x="sessions/s in training", y="Recall@20")
    axes.margins(0.08)
    shared.legend(figure, entries)
