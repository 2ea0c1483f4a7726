"""Pictures as files: SVG for a page that may be light or dark, PNG for elsewhere."""

from __future__ import annotations

import importlib.util

from experiments.comparing.pictures.picture import Picture

MISSING = "No pictures: matplotlib is not installed (pip install 'tron-jax[plots]')."


def available() -> bool:
    return importlib.util.find_spec("matplotlib") is not None


def svg(picture: Picture) -> str:
    raise NotImplementedError


def png(picture: Picture) -> bytes:
    raise NotImplementedError
