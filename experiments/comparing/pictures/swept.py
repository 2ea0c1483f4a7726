"""Recall@20 against the values of a field."""

from __future__ import annotations

import itertools
import math
from typing import Any, NamedTuple

from experiments.comparing import wording
from experiments.comparing.comparison import Comparison, Figure
from experiments.comparing.pictures import axes as shared
from experiments.comparing.pictures import inks
from experiments.comparing.pictures.picture import Picture
from tron_jax.evaluation.metrics import title

MOST = 8  # lines that can be told apart


class Point(NamedTuple):
    value: float
    figure: Figure


def fields(comparison: Comparison) -> list[Picture]:
    """Returns a picture for each field that was swept over numbers."""
    pictures = [_picture(comparison, field) for field in comparison.swept]
    return [picture for picture in pictures if picture]


def _picture(comparison: Comparison, field: str) -> Picture | None:
    lines = _lines(comparison, field)
    if not lines:
        return None
    key = _key(comparison)
    names = [name for name in lines if name]
    told = "; ".join(
        (f"{name}: " if name else "")
        + ", ".join(f"{p.figure.mean:.4f} at {p.value:g}" for p in points)
        for name, points in lines.items()
    )
    values = sorted({p.value for points in lines.values() for p in points})
    caption = ["Exact protocol."]
    if any(p.figure.deviation for points in lines.values() for p in points):
        caption.append("Bars: standard deviation of one run.")
    if geometric(values):
        zero = ", with 0 beside it" if 0 in values else ""
        caption.append(f"The axis is logarithmic{zero}.")
    return Picture(
        name=f"swept_{''.join(c if c.isalnum() else '_' for c in field)}",
        heading=f"{title(key)} against {field}",
        caption=" ".join(caption),
        alt=f"{title(key)} against {field}. {told}.",
        height=2.6 + shared.legend_height(names),
        draw=lambda figure: _draw(figure, lines, field, title(key)),
    )


def _key(comparison: Comparison) -> str:
    return "recall@20" if "recall@20" in comparison.keys else comparison.keys[0]


def _lines(comparison: Comparison, field: str) -> dict[str, list[Point]]:
    """Returns the points of settings that are alike in all other fields, by those.

    Lines of a single point are left out, and those beyond ``MOST``.
    """
    key = _key(comparison)
    found: dict[tuple, list[Point]] = {}
    for setting in comparison.settings:
        figure = setting.figures.get("exact", {}).get(key)
        value = _number(setting.fields.get(field, ""))
        if figure is not None and value is not None:
            others = {f: v for f, v in setting.fields.items() if f != field and v}
            found.setdefault(tuple(sorted(others.items())), []).append(
                Point(value, figure)
            )
    lines = [
        (dict(others), sorted(points, key=lambda p: p.value))
        for others, points in found.items()
        if len({p.value for p in points}) > 1
    ]
    names = _names([others for others, _ in lines], comparison)
    return {
        name: points for name, (_, points) in zip(names[:MOST], lines, strict=False)
    }


def _names(lines: list[dict[str, str]], comparison: Comparison) -> list[str]:
    """Names each line by the fields in which it differs from another."""
    fields = list(dict.fromkeys(f for s in comparison.settings for f in s.fields))
    short = wording.shortened(fields)
    differ = [f for f in fields if len({line.get(f, "") for line in lines}) > 1]
    return [
        ", ".join(f"{short[f]}={line[f]}" for f in differ if f in line)
        for line in lines
    ]


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def geometric(values: list[float]) -> bool:
    """Whether values, 0 aside, are spaced more evenly as logarithms.

    Args:
      values: ascending, distinct.
    """
    positive = [value for value in values if value > 0]
    if values[0] < 0 or len(positive) < 2:
        return False
    if len(positive) == 2:
        return positive[1] >= 10 * positive[0]
    logs = [math.log(value) for value in positive]
    return _unevenness(logs) < 0.8 * _unevenness(positive)


def _unevenness(values: list[float]) -> float:
    gaps = [high - low for low, high in itertools.pairwise(values)]
    return max(gaps) / min(gaps)


def places(values: list[float]) -> dict[float, float]:
    """Returns where each value stands on the axis; 0 goes before a logarithmic one."""
    if not geometric(values):
        return {value: value for value in values}
    logs = {value: math.log10(value) for value in values if value > 0}
    ordered = list(logs.values())
    gap = max(0.3, (ordered[-1] - ordered[0]) / max(1, len(ordered) - 1))
    return {value: logs.get(value, ordered[0] - gap) for value in values}


def _draw(figure: Any, lines: dict[str, list[Point]], field: str, metric: str) -> None:
    axes = figure.subplots()
    at = places(sorted({p.value for points in lines.values() for p in points}))
    entries = []
    for n, (name, points) in enumerate(lines.items()):
        style = inks.nth(n)
        x = [at[point.value] for point in points]
        for place, point in zip(x, points, strict=True):
            mean, spread = point.figure.mean, point.figure.deviation or 0.0
            ends = [mean - spread, mean + spread]
            axes.plot([place, place], ends, color=style.colour, lw=1.3)
        drawn = shared.line(axes, x, [p.figure.mean for p in points], style)
        entries += [(drawn, name)] if name else []
    shared.finish(axes, x=field, y=metric)
    shown = _apart(at)
    axes.set_xticks([at[value] for value in shown], [f"{value:g}" for value in shown])
    axes.margins(x=0.06)
    shared.legend(figure, entries)


def _apart(at: dict[float, float]) -> list[float]:
    """Returns the values whose names have room on the axis."""
    room = (max(at.values()) - min(at.values())) / 12
    shown: list[float] = []
    for value, place in at.items():
        if not shown or place - at[shown[-1]] >= room:
            shown.append(value)
    return shown
