"""How runs went: Recall@20 over epochs and over time, and the loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from experiments.comparing.comparison import Comparison
from experiments.comparing.pictures import axes as shared
from experiments.comparing.pictures import inks, pooling
from experiments.comparing.pictures.picture import Picture
from experiments.comparing.pictures.pooling import Line

Lines = Mapping[str, list[Line]]
UNITS = (("hours", 3600.0), ("minutes", 60.0), ("seconds", 1.0))


def by_epoch(comparison: Comparison) -> list[Picture]:
    lines = _of_settings(comparison, lambda s: pooling.recall(s.curves, by_time=False))
    if not lines:
        return []
    ends = _told(lines, lambda line: f"{line.y[-1]:.4f} at epoch {line.x[-1]:.4g}")
    return [
        _picture(
            comparison,
            lines,
            name="recall_by_epoch",
            heading="Recall@20 against epochs",
            caption=f"Exact protocol.{_band(comparison)}",
            alt=f"Lines of Recall@20 over epochs of training; at their ends: {ends}.",
            labels=("epochs of training", "Recall@20"),
        )
    ]


def by_time(comparison: Comparison) -> list[Picture]:
    lines = _of_settings(comparison, lambda s: pooling.recall(s.curves, by_time=True))
    longest = max((line.x[-1] for found in lines.values() for line in found), default=0)
    if not longest:
        return []
    fitting = [unit for unit in UNITS if longest >= 2 * unit[1]]
    unit, size = (fitting or [UNITS[-1]])[0]
    lines = {
        name: [line._replace(x=[x / size for x in line.x]) for line in found]
        for name, found in lines.items()
    }
    ends = _told(lines, lambda line: f"{line.y[-1]:.4f} at {line.x[-1]:.3g} {unit}")
    drawn = [s for s in comparison.settings if s.name in lines]
    caption = "Training time as logged, evaluation and saving not counted."
    if any(setting.sessions_per_s is None for setting in drawn):
        caption += (
            " The machine may have been busy with other work in runs whose speed the "
            "table leaves out: their times prove nothing about speed."
        )
    return [
        _picture(
            comparison,
            lines,
            name="recall_by_time",
            heading="Recall@20 against training time",
            caption=caption + _band(comparison),
            alt=f"Lines of Recall@20 over training time; at their ends: {ends}.",
            labels=(f"training time ({unit})", "Recall@20"),
        )
    ]


def loss(comparison: Comparison) -> list[Picture]:
    lines = _of_settings(comparison, lambda s: pooling.losses(s.curves))
    if not lines:
        return []
    ends = _told(lines, lambda line: f"{line.y[0]:.3g} to {line.y[-1]:.3g}")
    return [
        _picture(
            comparison,
            lines,
            name="loss",
            heading="Training loss",
            caption="Mean over runs, of each log window. Only losses of the same kind, "
            "over as many negatives, compare.",
            alt=f"Lines of the training loss over epochs, first to last: {ends}.",
            labels=("epochs of training", "loss"),
            measured=False,
        )
    ]


def _of_settings(comparison: Comparison, of: Any) -> dict[str, list[Line]]:
    """Returns the lines of each setting that has some, highest end first."""
    found = {s.name: lines for s in comparison.settings if (lines := of(s))}
    ends = {name: max(line.y[-1] for line in lines) for name, lines in found.items()}
    return {name: found[name] for name in sorted(found, key=lambda n: -ends[n])}


def _told(lines: Lines, words: Any) -> str:
    return ", ".join(
        f"{name} {' and '.join(map(words, found))}" for name, found in lines.items()
    )


def _band(comparison: Comparison) -> str:
    pooled = any(len(s.curves) > 1 for s in comparison.settings)
    return " Line: mean of the runs; band: lowest to highest." if pooled else ""


def _picture(
    comparison: Comparison,
    lines: Lines,
    *,
    labels: tuple[str, str],
    measured: bool = True,
    **words: str,
) -> Picture:
    styles = inks.styles(comparison)

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        entries = []
        for name, found in lines.items():
            style = styles[name]
            for line in found:
                if measured and line.low != line.high:
                    axes.fill_between(
                        line.x,
                        line.low,
                        line.high,
                        color=style.colour,
                        alpha=0.16,
                        lw=0,
                    )
            drawn = [
                shared.line(axes, line.x, line.y, style, markers=measured)
                for line in found
            ]
            entries.append((drawn[0], name))
        shared.finish(axes, x=labels[0], y=labels[1])
        axes.set_xlim(left=0)
        shared.legend(figure, entries)

    height = 2.7 + shared.legend_height(list(lines))
    return Picture(**words, height=height, draw=draw)
