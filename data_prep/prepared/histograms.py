"""Small histograms, as text for a terminal and as a picture."""

import itertools
from typing import Any, NamedTuple

import numpy as np

_WIDTH = 40  # characters of the longest bar
_EIGHTHS = " ▏▎▍▌▋▊▉"
_LENGTHS = (2, 3, 4, 5, 6, 8, 11, 16, 26, 51, 101, 201)
_CLICKS = (0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000)


class Histogram(NamedTuple):
    """Things in bins by a number that each has.

    shares: [bins] of all things; sum_shares: [bins] of the sum of their numbers;
    summed: what such a sum counts, such as "clicks".
    """

    title: str
    labels: list[str]
    shares: np.ndarray
    sum_shares: np.ndarray
    summed: str


def session_lengths(lengths: np.ndarray, name: str) -> Histogram:
    """Sessions by how many events they have, and the share of events in them."""
    title = (
        f"{name} sessions by length: mean {lengths.mean():.2f}, median "
        f"{np.median(lengths):.0f}, longest {lengths.max():,}"
    )
    return _histogram(title, lengths, _LENGTHS, "events")


def item_popularity(train_events: np.ndarray) -> Histogram:
    """Items by how often train clicks them, and the share of clicks that they get."""
    ranked = np.sort(train_events)[::-1]
    top = ranked[: max(1, len(ranked) // 100)].sum() / max(ranked.sum(), 1)
    title = (
        f"items by clicks in train: median {np.median(train_events):.0f}, most "
        f"{ranked[0]:,}; the top 1 % get {top:.0%} of clicks"
    )
    return _histogram(title, train_events, _CLICKS, "clicks")


def _histogram(
    title: str, numbers: np.ndarray, starts: tuple[int, ...], summed: str
) -> Histogram:
    """Counts numbers in bins that begin at ``starts``; empty ones at the ends go."""
    bins = np.searchsorted(starts, numbers, side="right") - 1
    counts = np.bincount(bins, minlength=len(starts))
    sums = np.bincount(bins, numbers, len(starts))
    labels = [
        f"{low:,}-{high - 1:,}" if high > low + 1 else f"{low:,}"
        for low, high in itertools.pairwise(starts)
    ]
    labels.append(f"{starts[-1]:,}+")
    filled = np.flatnonzero(counts)
    shown = slice(filled[0], filled[-1] + 1)
    shares, sum_shares = counts / counts.sum(), sums / max(sums.sum(), 1)
    return Histogram(title, labels[shown], shares[shown], sum_shares[shown], summed)


def as_text(histogram: Histogram) -> str:
    """Draws bars of block characters, one line a bin."""
    wide = max(map(len, histogram.labels))
    highest = histogram.shares.max()
    lines = [histogram.title]
    rows = zip(histogram.labels, histogram.shares, histogram.sum_shares, strict=True)
    for label, share, sum_share in rows:
        eighths = round(8 * _WIDTH * share / highest)
        bar = "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()
        line = f"  {label:>{wide}} {share:6.1%} {bar:<{_WIDTH}}"
        lines.append(f"{line} {sum_share:6.1%} of {histogram.summed}")
    return "\n".join(lines)


def draw(figure: Any, histograms: list[Histogram]) -> None:
    """Draws histograms beneath each other into a matplotlib figure."""
    panels = figure.subplots(len(histograms), 1, squeeze=False)[:, 0]
    for axes, histogram in zip(panels, histograms, strict=True):
        bins = np.arange(len(histogram.labels))
        axes.bar(bins - 0.2, 100 * histogram.shares, 0.4, label="share")
        label = f"share of {histogram.summed}"
        axes.bar(bins + 0.2, 100 * histogram.sum_shares, 0.4, label=label)
        axes.set_xticks(bins, histogram.labels, rotation=30)
        axes.set_ylabel("%")
        axes.set_title(histogram.title, fontsize=9)
        axes.legend()
