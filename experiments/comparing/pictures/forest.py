"""Differences and their intervals, one picture a metric."""

from __future__ import annotations

from typing import Any

from experiments.comparing import wording
from experiments.comparing.comparison import Comparison, Difference
from experiments.comparing.pictures.inks import LIGHT
from experiments.comparing.pictures.picture import DIFFERENCES, Picture
from tron_jax.evaluation.metrics import title

MOST = 24  # rows that a picture holds


def differences(comparison: Comparison) -> list[Picture]:
    """Returns a forest plot for each of the main metrics."""
    return [
        _picture(comparison, key, [d for d in comparison.differences if d.key == key])
        for key in wording.main_keys(comparison)
    ]


def _picture(comparison: Comparison, key: str, found: list[Difference]) -> Picture:
    shown = found
    if len(found) > MOST:
        shown = sorted(found, key=lambda d: -abs(d.value))[:MOST]
    told = ", ".join(
        f"{wording.contrast(comparison, d)} {wording.number(d.value, '+.4f')} "
        f"{wording.interval(d)} ({wording.verdict(d)})"
        for d in shown
    )
    return Picture(
        name=f"difference_{key.replace('@', '_')}",
        heading=f"{title(key)}: {wording.compared(comparison)}",
        caption=_caption(found, shown),
        alt=f"Differences in {title(key)} with 95 % intervals: {told}.",
        height=0.6 + 0.32 * len(shown),
        draw=lambda figure: _draw(figure, comparison, shown),
        section=DIFFERENCES,
        about=key,
    )


def _caption(found: list[Difference], shown: list[Difference]) -> str:
    marks = []
    if any(map(wording.differs, shown)):
        marks.append("Filled: a difference after Holm.")
    if any(wording.adjusted(d) is not None and not wording.differs(d) for d in shown):
        marks.append("Hollow: no difference shown.")
    if any(not d.covers_seeds for d in shown):
        marks.append("Thin and grey: sessions only, training noise not covered.")
    if len(shown) < len(found):
        marks.append(f"The {MOST} largest of {len(found)} differences.")
    return " ".join(marks)


def _draw(figure: Any, comparison: Comparison, shown: list[Difference]) -> None:
    axes = figure.subplots()
    axes.axvline(0, color=LIGHT["soft"], lw=1)
    for row, d in enumerate(reversed(shown)):
        _draw_row(axes, row, d)
        axes.text(
            0,
            row + 0.27,
            wording.cut(wording.contrast(comparison, d), 64),
            transform=axes.get_yaxis_transform(),
            va="bottom",
            color=LIGHT["ink"],
            bbox={"facecolor": LIGHT["ground"], "lw": 0, "pad": 0.6},
        )
    axes.set_ylim(-0.5, len(shown) - 0.1)
    axes.set_yticks([])
    axes.grid(axis="x", color=LIGHT["faint"], lw=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.margins(x=0.06)


def _draw_row(axes: Any, row: int, d: Difference) -> None:
    """Draws an interval and its difference, by what may be concluded from it."""
    colour = LIGHT["blue"] if d.covers_seeds else LIGHT["soft"]
    width = 2.2 if d.covers_seeds else 1
    axes.plot(
        [d.low, d.high], [row, row], color=colour, lw=width, solid_capstyle="butt"
    )
    filled = wording.differs(d) or not d.covers_seeds
    face = colour if filled else LIGHT["ground"]
    size = 6.5 if d.covers_seeds else 4
    axes.plot(d.value, row, "o", ms=size, mfc=face, mec=colour, mew=1.4)
