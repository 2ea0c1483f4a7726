"""The runs of a setting as one line with a band, where they were measured alike."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from experiments.comparing.comparison import Curve

Values = Sequence[float]
MOST_POINTS = 100  # of a line; what a page shows of more is only its size


class Line(NamedTuple):
    """A line to draw.

    Attributes:
      x: [P] of its points, a mean over the runs.
      y: [P] likewise.
      low: [P] lowest of the runs.
      high: [P] highest.
    """

    x: list[float]
    y: list[float]
    low: list[float]
    high: list[float]


def recall(curves: Sequence[Curve], *, by_time: bool) -> list[Line]:
    """Returns Recall@20 over epochs, or over time at those epochs."""
    return _pooled(
        [
            (c.epochs, c.seconds if by_time else c.epochs, c.recall)
            for c in curves
            if (c.seconds if by_time else c.epochs)
        ]
    )


def losses(curves: Sequence[Curve]) -> list[Line]:
    """Returns the training loss over epochs, neighbouring windows averaged."""
    found = [(c.loss_epochs, c.loss_epochs, c.losses) for c in curves if c.losses]
    return [_thinned(line) for line in _pooled(found)]


def _pooled(runs: Sequence[tuple[Values, Values, Values]]) -> list[Line]:
    """Returns one line over the epochs that all runs share, or one a run if none.

    Args:
      runs: of each its epochs, x and y.
    """
    by_epoch = [
        {round(epoch, 4): (x, y) for epoch, x, y in zip(*run, strict=True)}
        for run in runs
    ]
    shared = sorted(set.intersection(*map(set, by_epoch))) if by_epoch else []
    if not shared:
        return [
            _line([[point] for _, point in sorted(run.items())]) for run in by_epoch
        ]
    return [_line([[run[epoch] for run in by_epoch] for epoch in shared])]


def _line(points: Iterable[list[tuple[float, float]]]) -> Line:
    line = Line([], [], [], [])
    for of_runs in points:
        x, y = zip(*of_runs, strict=True)
        line.x.append(sum(x) / len(x))
        line.y.append(sum(y) / len(y))
        line.low.append(min(y))
        line.high.append(max(y))
    return line


def _thinned(line: Line) -> Line:
    """Averages neighbours until the points are few enough."""
    size = -(-len(line.x) // MOST_POINTS)
    starts = range(0, len(line.x), size or 1)
    return Line(
        *(
            [sum(part) / len(part) for s in starts for part in [values[s : s + size]]]
            for values in line
        )
    )
