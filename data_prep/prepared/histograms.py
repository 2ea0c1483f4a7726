"""Small histograms, as text for a terminal and as a picture."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from tron_jax.errors import UserError

_WIDTH = 40  # characters of the longest bar
_EIGHTHS = " ▏▎▍▌▋▊▉"
_LENGTHS = (2, 3, 4, 5, 6, 8, 11, 16, 26, 51, 101, 201)
_CLICKS = (0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000)


class Histogram(NamedTuple):
    """Shares of a whole in named bins; ``others`` is told beside each, if any."""

    title: str
    labels: list[str]
    shares: np.ndarray
    others: tuple[str, np.ndarray] | None = None


def session_lengths(lengths: np.ndarray, name: str) -> Histogram:
    """Sessions by how many events they have, and the share of events in them."""
    edges = np.array(_LENGTHS)
    bins = np.searchsorted(edges, lengths, side="right") - 1
    sessions = np.bincount(bins, minlength=len(edges))
    events = np.bincount(bins, lengths, len(edges))
    middle, mean = np.median(lengths), lengths.mean()
    title = (
        f"{name} sessions by length: mean {mean:.2f}, median {middle:.0f}, longest "
        f"{lengths.max():,}"
    )
    return _trimmed(title, edges, sessions, ("of events", events))


def item_popularity(train_events: np.ndarray) -> Histogram:
    """Items by how often train clicks them, and the share of clicks that they get."""
    edges = np.array(_CLICKS)
    bins = np.searchsorted(edges, train_events, side="right") - 1
    items = np.bincount(bins, minlength=len(edges))
    clicks = np.bincount(bins, train_events, len(edges))
    ranked = np.sort(train_events)[::-1]
    top = ranked[: max(1, len(ranked) // 100)].sum() / max(ranked.sum(), 1)
    title = (
        f"items by clicks in train: median {np.median(train_events):.0f}, most "
        f"{ranked[0]:,}; the top 1 % get {top:.0%} of clicks"
    )
    return _trimmed(title, edges, items, ("of clicks", clicks))


def _trimmed(
    title: str, edges: np.ndarray, counts: np.ndarray, others: tuple[str, np.ndarray]
) -> Histogram:
    """Turns counts into shares and leaves out empty bins at both ends."""
    used = np.flatnonzero(counts)
    first, last = int(used[0]), int(used[-1]) + 1
    labels = []
    for low, high in zip(edges, [*edges[1:], np.inf], strict=True):
        wide = f"{low:,}+" if high == np.inf else f"{low:,}-{int(high) - 1:,}"
        labels.append(f"{low:,}" if high == low + 1 else wide)
    name, values = others
    shares = values / max(values.sum(), 1)
    return Histogram(
        title,
        labels[first:last],
        (counts / counts.sum())[first:last],
        (name, shares[first:last]),
    )


def as_text(histogram: Histogram) -> str:
    """Draws bars of block characters, one line a bin."""
    wide = max(map(len, histogram.labels))
    highest = histogram.shares.max()
    lines = [histogram.title]
    for index, label in enumerate(histogram.labels):
        share = histogram.shares[index]
        eighths = round(8 * _WIDTH * share / highest)
        bar = "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()
        line = f"  {label:>{wide}} {share:6.1%} {bar:<{_WIDTH}}"
        if histogram.others is not None:
            name, values = histogram.others
            line += f" {values[index]:6.1%} {name}"
        lines.append(line.rstrip())
    return "\n".join(lines)


def as_picture(histograms: list[Histogram], path: Path) -> None:
    """Draws the histograms beneath each other into a PNG."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        what = "--plot needs matplotlib: pip install 'tron-jax[plots]'"
        raise UserError(what) from error
    figure = Figure(figsize=(8, 3 * len(histograms)), layout="constrained")
    for index, histogram in enumerate(histograms):
        axes = figure.add_subplot(len(histograms), 1, index + 1)
        places = np.arange(len(histogram.labels))
        axes.bar(places - 0.2, 100 * histogram.shares, 0.4, label="share")
        if histogram.others is not None:
            name, values = histogram.others
            axes.bar(places + 0.2, 100 * values, 0.4, label=f"share {name}")
        axes.set_xticks(places, histogram.labels, rotation=30)
        axes.set_ylabel("%")
        axes.set_title(histogram.title, fontsize=9)
        axes.legend()
    try:
        figure.savefig(path, format="png")
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}") from error
