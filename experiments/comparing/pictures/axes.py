"""What the pictures' axes and legends have in common."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from experiments.comparing import wording
from experiments.comparing.pictures.inks import LIGHT, Style
from experiments.comparing.pictures.picture import WIDTH

ROW = 0.17  # inches of a legend's line
LETTER, HANDLE = 5.1, 34.0  # points of a letter, and of what stands before a name


def finish(axes: Any, *, x: str, y: str = "") -> None:
    """Names axes and removes what says nothing."""
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.grid(axis="y", color=LIGHT["faint"], lw=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def legend(figure: Any, entries: Sequence[tuple[Any, str]]) -> None:
    """Names lines below the axes.

    Args:
      figure: with its axes drawn.
      entries: a drawn thing and its name each.
    """
    if not entries:
        return
    handles = [handle for handle, _ in entries]
    names = [wording.cut(name) for _, name in entries]
    columns = _columns(names)
    # matplotlib fills columns downwards; to be read in lines, they are dealt out.
    dealt = [n for column in range(columns) for n in range(column, len(names), columns)]
    figure.legend(
        [handles[n] for n in dealt],
        [" " + names[n] for n in dealt],  # one that began with _ would be left out
        loc="outside lower left",
        ncols=columns,
        frameon=False,
        borderpad=0.2,
        handlelength=2.2,
        labelspacing=0.25,
        columnspacing=0.9,
    )


def legend_height(names: Sequence[str]) -> float:
    """Returns the inches that a legend takes."""
    shown = [wording.cut(name) for name in names]
    return ROW * math.ceil(len(shown) / _columns(shown)) if shown else 0.0


def _columns(names: Sequence[str]) -> int:
    """Returns how many columns of names fit beside each other."""

    def width(columns: int) -> float:
        longest = [max(map(len, names[n::columns])) for n in range(columns)]
        return sum(LETTER * letters + HANDLE for letters in longest)

    most = min(3, len(names))
    return next((n for n in range(most, 1, -1) if width(n) <= 72 * WIDTH), 1)


def line(
    axes: Any,
    x: Sequence[float],
    y: Sequence[float],
    style: Style,
    *,
    markers: bool = True,
) -> Any:
    """Draws a line, with a marker at each point where there are few."""
    marker = style.marker if markers and len(x) <= 25 else ""
    return axes.plot(
        x,
        y,
        linestyle=style.line,
        color=style.colour,
        marker=marker,
        ms=4.5,
        lw=1.6,
        markeredgewidth=0,
    )[0]
