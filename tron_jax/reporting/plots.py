"""A picture of a run: its loss and its metrics over the epochs."""

import math
import os
from collections.abc import Callable
from typing import Any

from tron_jax.errors import UserError
from tron_jax.evaluation.metrics import BEST_CUTOFF, BEST_KEY, title
from tron_jax.files import replacing
from tron_jax.reporting import metrics_writer

Record = dict[str, Any]

# Colours that stay apart for colour-blind eyes: blue and vermilion.
COLOURS = {"paper": "#0072B2", "exact": "#D55E00"}
LINES = {"test": "-", "validation": "--"}


def plot_run(
    metrics_path: str | os.PathLike[str], png_path: str | os.PathLike[str]
) -> bool:
    """Draws a run's loss and metrics, replacing the picture that was there.

    Each metric has one panel, at the cut-off 20 where that was computed.

    Args:
      metrics_path: ``metrics.jsonl`` of the run.
      png_path: where the picture goes.

    Returns:
      False where matplotlib is not installed (``pip install tron-jax[plots]``).

    Raises:
      UserError: if the metrics cannot be read or the picture not written.
    """
    lines = metrics_writer.read(metrics_path)
    evaluations = [line for line in lines if "protocol" in line]
    keys = panel_keys(evaluations)

    def draw(figure: Any) -> None:
        loss, *panels = figure.subplots(1 + len(keys), 1, sharex=True)
        _draw_loss(loss, [line for line in lines if "loss" in line])
        for axes, key in zip(panels, keys, strict=True):
            _draw_metric(axes, evaluations, key)
        _number_epochs(panels[-1])

    return save(png_path, draw, (6.4, 2 + 2 * (1 + len(keys))))


def panel_keys(evaluations: list[Record]) -> list[str]:
    """Which keys are drawn: one of each metric, at 20 or else the largest cut-off.

    Args:
      evaluations: the lines of evaluation.

    Returns:
      The keys in the order in which metrics first occur; Recall@20 where there are
      none yet.
    """
    cutoffs: dict[str, set[int]] = {}
    for line in evaluations:
        for name, at, cutoff in (key.partition("@") for key in line):
            if at:
                cutoffs.setdefault(name, set()).add(int(cutoff))
    drawn = {
        name: BEST_CUTOFF if BEST_CUTOFF in found else max(found)
        for name, found in cutoffs.items()
    }
    return [f"{name}@{cutoff}" for name, cutoff in drawn.items()] or [BEST_KEY]


def save(
    png_path: str | os.PathLike[str],
    draw: Callable[[Any], None],
    size: tuple[float, float],
) -> bool:
    """Draws a picture, replacing the one that was there.

    Args:
      png_path: where it goes.
      draw: fills a matplotlib figure.
      size: width and height in inches.

    Returns:
      False where matplotlib is not installed (``pip install tron-jax[plots]``).

    Raises:
      UserError: if it cannot be written.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return False
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    draw(figure)
    try:
        with replacing(png_path) as new:
            figure.savefig(new, format="png", dpi=150)
    except OSError as error:
        raise UserError(f"cannot write {png_path}: {error.strerror}") from error
    return True


def _draw_loss(axes: Any, training: list[Record]) -> None:
    epochs = [line["epoch"] for line in training]
    values = [line["loss"] for line in training]
    axes.plot(epochs, values, color="0.75", lw=1, label="log window")
    starts, ends, values = epoch_means(training)
    axes.hlines(values, starts, ends, color="0.15", lw=2, label="mean of the epoch")
    _finish(axes, "Training loss")


def _number_epochs(axes: Any) -> None:
    """Labels the axis that all panels share."""
    from matplotlib.ticker import MaxNLocator

    axes.set_xlabel("Epochs of training")
    axes.set_xlim(left=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def epoch_means(
    training: list[Record],
) -> tuple[list[float], list[float], list[float]]:
    """Returns where each epoch starts and ends, and its loss.

    A log window ends with its epoch at the latest, so each belongs to one; it counts
    by its share of the epoch.

    Args:
      training: the lines of training, in order.
    """
    ends: dict[int, float] = {}
    losses: dict[int, float] = {}
    before = 0.0
    for line in training:
        number = math.ceil(line["epoch"])
        share, before = line["epoch"] - before, line["epoch"]
        losses[number] = losses.get(number, 0.0) + share * line["loss"]
        ends[number] = line["epoch"]
    starts = [float(number - 1) for number in ends]
    spans = zip(losses.values(), starts, ends.values(), strict=True)
    means = [loss / (end - start) for loss, start, end in spans]
    return starts, list(ends.values()), means


def _draw_metric(axes: Any, evaluations: list[Record], key: str) -> None:
    """Draws one curve for each split and protocol, and marks the curve's best."""
    for split, style in LINES.items():
        for protocol, colour in COLOURS.items():
            points = [
                (line["epoch"], line[key])
                for line in evaluations
                if (line["split"], line["protocol"]) == (split, protocol)
                and key in line
            ]
            if not points:
                continue
            best = max(points, key=lambda point: point[1])
            axes.plot(
                *zip(*points, strict=True),
                style,
                color=colour,
                marker="o",
                ms=3.5,
                label=f"{split}, {protocol}: best {best[1]:.4f} (epoch {best[0]:g})",
            )
            axes.plot(*best, "o", ms=9, mfc="none", color=colour)
    _finish(axes, title(key))


def _finish(axes: Any, title: str) -> None:
    """Names a panel, and removes what says nothing."""
    axes.set_title(title, loc="left", fontsize=11)
    axes.grid(axis="y", color="0.9")
    axes.spines[["top", "right"]].set_visible(False)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize=8)
    else:
        axes.set_yticks([])
        axes.text(0.5, 0.5, "no evaluation yet", ha="center", transform=axes.transAxes)
