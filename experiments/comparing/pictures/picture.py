"""What a picture is, before it is drawn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple


class Picture(NamedTuple):
    """A picture of a comparison.

    Attributes:
      name: of its file, without an ending.
      heading: in a few words.
      caption: how to read it, what it leaves out; "" for none.
      alt: what it shows, with the key figures, for who cannot see it.
      height: in inches; all are ``WIDTH`` wide.
      draw: fills a matplotlib figure with it.
      section: where it belongs: ``DIFFERENCES``, ``SLICES`` or ``OTHERS``.
      about: the metric whose differences it shows, or what its slices divide by.
    """

    name: str
    heading: str
    caption: str
    alt: str
    height: float
    draw: Callable[[Any], None]
    section: str = "others"
    about: str = ""


DIFFERENCES, SLICES, OTHERS = "differences", "slices", "others"
WIDTH = 4.8  # inches: at a phone's width its text is as large as that around it
