"""Which pictures a comparison has."""

from __future__ import annotations

from experiments.comparing.comparison import Comparison
from experiments.comparing.pictures import curves, forest, slices, speed, swept
from experiments.comparing.pictures.picture import Picture

KINDS = (
    forest.differences,
    curves.by_epoch,
    curves.by_time,
    swept.fields,
    speed.against_accuracy,
    curves.loss,
    slices.by_kind,
)


def of(comparison: Comparison) -> list[Picture]:
    """Returns the pictures that a comparison has something to show in, in order."""
    return [picture for kind in KINDS for picture in kind(comparison)]
