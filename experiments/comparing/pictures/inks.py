"""Colours that stay apart for colour-blind eyes, on light and on dark ground.

Pictures are drawn in the light ones; a page replaces each by a variable of its style.
Settings are told apart by marker and dashes too.
"""

from __future__ import annotations

from typing import NamedTuple

from experiments.comparing.comparison import Comparison

# name: light, dark
INKS = {
    "ink": ("#1f2328", "#e8e8e6"),
    "soft": ("#63676d", "#a0a4a8"),
    "faint": ("#dcdcd8", "#3a3c3f"),
    "ground": ("#fffffe", "#17191b"),
    "blue": ("#0072b2", "#5cb3ea"),
    "red": ("#c8500a", "#f58b4c"),
    "green": ("#008563", "#35c79c"),
    "purple": ("#a8447f", "#e58fc0"),
    "brown": ("#8a6b00", "#e2b73f"),
    "cyan": ("#2a8fa8", "#8ad8e6"),
}
LIGHT = {name: light for name, (light, _) in INKS.items()}
SERIES = ("blue", "red", "green", "purple", "brown", "cyan")
MARKERS = ("s", "^", "D", "v", "P", "X", "<", ">", "p", "h", "*")
DASHES = ("-", (0, (4, 1.5)), (0, (1.2, 1.2)))


class Style(NamedTuple):
    """How a setting is drawn in every picture."""

    colour: str
    marker: str
    line: str | tuple


def nth(n: int) -> Style:
    """The n-th of styles; the first 66 differ."""
    colour = LIGHT[SERIES[n % len(SERIES)]]
    dashes = DASHES[n // len(SERIES) % len(DASHES)]
    return Style(colour, MARKERS[n % len(MARKERS)], dashes)


def styles(comparison: Comparison) -> dict[str, Style]:
    """Returns the style of each setting; the baseline's is the ink of the text."""
    others = [s.name for s in comparison.settings if s.name != comparison.baseline]
    found = {name: nth(n) for n, name in enumerate(others)}
    if comparison.baseline is not None:
        found[comparison.baseline] = Style(LIGHT["ink"], "o", "-")
    return found
