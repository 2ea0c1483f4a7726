"""Which pictures a comparison has."""

from __future__ import annotations

from experiments.comparing.comparison import Comparison
from experiments.comparing.pictures.picture import Picture


def of(comparison: Comparison) -> list[Picture]:
    """Returns the pictures that a comparison has something to show in, in order."""
    return []
