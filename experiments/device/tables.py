"""Tables of figures in Markdown, for a person."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

NONE = "-"
SMALLEST = 1e-9  # below, a number is shown as 0


def table(headers: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Lays out rows in aligned columns; numbers are to the right.

    Args:
      headers: of the columns.
      rows: text, numbers, or None for what is not known.

    Returns:
      The lines.
    """
    cells = [[_text(value) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(headers, *cells, strict=True)]
    right = [
        any(
            isinstance(row[i], int | float) and not isinstance(row[i], bool)
            for row in rows
        )
        for i in range(len(headers))
    ]

    def line(values: Sequence[str]) -> str:
        laid = [
            value.rjust(width) if number else value.ljust(width)
            for value, width, number in zip(values, widths, right, strict=True)
        ]
        return f"| {' | '.join(laid)} |"

    rule = [
        "-" * (width - 1) + ":" if number else "-" * width
        for width, number in zip(widths, right, strict=True)
    ]
    return "\n".join([line(list(headers)), line(rule), *map(line, cells)])


def _text(value: Any) -> str:
    if value is None:
        return NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return number(value)
    if isinstance(value, int):
        return f"{value:,}"
    return str(value)


def number(value: float) -> str:
    """Three significant digits, without an exponent."""
    if abs(value) < SMALLEST:
        return "0"
    rounded = float(f"{value:.3g}") if abs(value) < 1000 else value
    return f"{rounded:,.{max(0, 2 - math.floor(math.log10(abs(rounded))))}f}"


def spread(figures: dict[str, float] | None, scale: float = 1e3) -> str | None:
    """A median with its 5th and 95th percentile, in ms unless scaled otherwise."""
    if figures is None:
        return None
    low, mid, high = (scale * figures[name] for name in ("low", "median", "high"))
    return f"{number(mid)} ({number(low)}..{number(high)})"


def share(value: float | None, of: float | None) -> float | None:
    """A ratio, None where one of the two is not known or 0."""
    return value / of if value is not None and of else None
