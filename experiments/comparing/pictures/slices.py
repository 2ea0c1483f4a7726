"""Parts of the predictions: a metric of each setting on each part."""

from __future__ import annotations

from typing import Any

from experiments.comparing import slice_tables
from experiments.comparing.comparison import Comparison, Slice, SliceValue
from experiments.comparing.pictures import axes as shared
from experiments.comparing.pictures import inks
from experiments.comparing.pictures.picture import SLICES, WIDTH, Picture
from tron_jax.evaluation.metrics import title

MOST = 5  # settings whose intervals can be told apart


def by_kind(comparison: Comparison) -> list[Picture]:
    """Returns a picture for each kind of slices."""
    kinds = slice_tables.kinds(comparison)
    pictures = [
        _picture(
            comparison, n, by, [part for part in comparison.slices if part.by == by]
        )
        for n, by in enumerate(kinds, start=1)
    ]
    return [picture for picture in pictures if picture]


def _picture(
    comparison: Comparison, n: int, by: str, parts: list[Slice]
) -> Picture | None:
    there = {value.setting for part in parts for value in part.values}
    names = [s.name for s in comparison.settings if s.name in there]
    if not names:
        return None
    shown = _chosen(comparison, names)
    caption = ""
    if len(shown) < len(names):
        caption = (
            f"Pictures show {len(shown)} of {len(names)} settings, the baseline and "
            "those highest over all; tables show all."
        )
    metric = title(parts[0].key)
    told = "; ".join(_told(parts, name) for name in shown)
    names_of_parts = [part.name for part in parts]
    return Picture(
        name=f"slices_{n}",
        heading=f"{metric} by {by}",
        caption=caption,
        alt=f"{metric} by {by}, with 95 % intervals, on {len(parts)} parts. {told}.",
        height=2.5 + shared.legend_height(shown) + _room(names_of_parts),
        draw=lambda figure: _draw(figure, comparison, parts, shown),
        section=SLICES,
        about=by,
    )


def _chosen(comparison: Comparison, names: list[str]) -> list[str]:
    """Returns as many settings as can be told apart, in their order."""
    by_value = {
        s.name: figure.mean
        for s in comparison.settings
        if (figure := s.figures.get("exact", {}).get("recall@20"))
    }
    ranked = sorted(
        names,
        key=lambda name: (name != comparison.baseline, -by_value.get(name, 0.0)),
    )
    return [name for name in names if name in ranked[:MOST]]


def _told(parts: list[Slice], setting: str) -> str:
    values = {p.name: v.value for p in parts for v in p.values if v.setting == setting}
    low, high = (least(values, key=values.__getitem__) for least in (min, max))
    return f"{setting}: {values[low]:.4f} ({low}) to {values[high]:.4f} ({high})"


def _rotated(names: list[str]) -> bool:
    """Whether names are wider than what each has of the axis."""
    return max(map(len, names)) * 0.075 * len(names) > 0.85 * WIDTH


def _room(names: list[str]) -> float:
    """Returns the inches that slanting names need."""
    return 0.05 * max(map(len, names)) if _rotated(names) else 0.0


def _draw(
    figure: Any, comparison: Comparison, parts: list[Slice], shown: list[str]
) -> None:
    axes = figure.subplots()
    styles = inks.styles(comparison)
    entries = []
    for n, name in enumerate(shown):
        shift = 0.12 * (n - (len(shown) - 1) / 2)
        points = [
            (place + shift, value)
            for place, part in enumerate(parts)
            for value in part.values
            if value.setting == name
        ]
        entries.append((_draw_setting(axes, points, styles[name]), name))
    names = [part.name for part in parts]
    shared.finish(axes, x=parts[0].by, y=title(parts[0].key))
    axes.set_xticks(range(len(parts)), names)
    if _rotated(names):
        axes.tick_params("x", rotation=35)
        for label in axes.get_xticklabels():
            label.set_horizontalalignment("right")
            label.set_rotation_mode("anchor")
    axes.set_xlim(-0.5, len(parts) - 0.5)
    shared.legend(figure, entries)


def _draw_setting(
    axes: Any, points: list[tuple[float, SliceValue]], style: inks.Style
) -> Any:
    x = [place for place, _ in points]
    for place, value in points:
        axes.plot([place, place], [value.low, value.high], color=style.colour, lw=1.3)
    return axes.plot(
        x,
        [value.value for _, value in points],
        color=style.colour,
        marker=style.marker,
        ms=5.5,
        markeredgewidth=0,
        linestyle="",
    )[0]
