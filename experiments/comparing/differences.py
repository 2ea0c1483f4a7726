"""Settings over the same predictions: differences, slices, and their intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from experiments.comparing import statistics
from experiments.comparing.comparison import Difference, Slice, SliceValue
from experiments.comparing.contrasts import Contrast
from experiments.comparing.ranks import Ranks
from experiments.comparing.slices import Division
from experiments.comparing.statistics import TrainingNoise
from experiments.comparing.test_parts import Shared
from tron_jax.evaluation.metrics import BEST_KEY, METRICS

# Whose differences are tested together, each by itself; others have intervals only.
FAMILIES = (BEST_KEY, "mrr@20")
# Of the many columns of slices; the width of an interval then errs by 2 %.
SLICE_REPLICATES = 2_000


class Sums(NamedTuple):
    """A run's metrics, added up over groups of sessions.

    Attributes:
      by_key: [groups, keys].
      by_slice: [groups, slices] of Recall@20.
    """

    by_key: np.ndarray
    by_slice: np.ndarray


class Sample(NamedTuple):
    """What a setting's runs add up to.

    Attributes:
      name: of the setting.
      mean: over its runs.
      key_noise: of each key, between its runs.
      slice_noise: of each slice.
    """

    name: str
    mean: Sums
    key_noise: list[TrainingNoise]
    slice_noise: list[TrainingNoise]


class Groups(NamedTuple):
    """The groups of sessions that the bootstrap draws.

    Attributes:
      of_prediction: [predictions] number of the group.
      predictions: [groups] how many.
      in_slices: [groups, slices] how many.
    """

    of_prediction: np.ndarray
    predictions: np.ndarray
    in_slices: np.ndarray


class Outcome(NamedTuple):
    """What ``compare`` finds.

    Attributes:
      differences: of each family of contrasts.
      slices: grouped by what they divide by.
    """

    differences: tuple[tuple[Difference, ...], ...]
    slices: tuple[Slice, ...]


def groups(shared: Shared, divisions: Sequence[Division]) -> Groups:
    """Groups the sessions of the predictions that all runs have in common."""
    of_session = statistics.groups_of_sessions(shared.num_sessions)
    of_prediction = of_session[shared.session]
    predictions = np.bincount(of_prediction)
    ones = np.ones(len(of_prediction))
    return Groups(
        of_prediction,
        predictions.astype(np.float64),
        _by_slice(ones, of_prediction, len(predictions), divisions),
    )


def add_up(
    ranks: Ranks,
    index: np.ndarray,
    grouped: Groups,
    keys: Sequence[str],
    divisions: Sequence[Division],
) -> Sums:
    """Adds up the metrics of a run over groups of sessions.

    Args:
      ranks: of the run.
      index: [predictions] which of them are compared.
      grouped: the groups.
      keys: of the metrics.
      divisions: of the predictions into slices.
    """
    rank, group, count = ranks.rank[index], grouped.of_prediction, len(grouped[1])
    values = {key: _values(key, rank) for key in dict.fromkeys([*keys, BEST_KEY])}
    by_key = [np.bincount(group, values[key], minlength=count) for key in keys]
    return Sums(
        np.stack(by_key, axis=1),
        _by_slice(values[BEST_KEY], group, count, divisions),
    )


def _values(key: str, rank: np.ndarray) -> np.ndarray:
    name, _, cutoff = key.partition("@")
    return METRICS[name](rank, int(cutoff))


def _by_slice(
    values: np.ndarray,
    group: np.ndarray,
    num_groups: int,
    divisions: Sequence[Division],
) -> np.ndarray:
    """[groups, slices of all divisions] sums of values."""
    columns = [np.zeros((num_groups, 0))]
    for division in divisions:
        width = len(division.names)
        cell = group * width + division.part
        sums = np.bincount(cell, values, minlength=num_groups * width)
        columns.append(sums.astype(np.float64).reshape(num_groups, width))
    return np.concatenate(columns, axis=1)


def sample(name: str, runs: Sequence[Sums], grouped: Groups) -> Sample:
    """Averages the runs of a setting, and finds how far they differ."""
    means = Sums(*(np.mean(np.stack(sums), axis=0) for sums in zip(*runs, strict=True)))
    noise = (
        _noise(np.stack([sums.by_key.sum(0) for sums in runs]), grouped.predictions),
        _noise(np.stack([sums.by_slice.sum(0) for sums in runs]), grouped.in_slices),
    )
    return Sample(name, means, *noise)


def _noise(totals: np.ndarray, predictions: np.ndarray) -> list[TrainingNoise]:
    figures = totals / np.maximum(predictions.sum(0), 1)  # a part may be empty
    variances = np.zeros(figures.shape[1])
    if len(figures) > 1:
        # By rounding the mean of equal figures may differ from them.
        alike = (figures == figures[0]).all(axis=0)
        variances = np.where(alike, 0.0, figures.var(axis=0, ddof=1))
    return [TrainingNoise(float(variance), len(figures)) for variance in variances]


def compare(
    samples: Sequence[Sample],
    families: Sequence[Sequence[Contrast]],
    keys: Sequence[str],
    grouped: Groups,
    divisions: Sequence[Division],
) -> Outcome:
    """Compares settings over the same predictions.

    Args:
      samples: of the settings.
      families: contrasts of them; p is adjusted within each.
      keys: of the metrics.
      grouped: the groups that the samples are sums over.
      divisions: of the predictions into slices.
    """
    if not samples:
        return Outcome(tuple(() for _ in families), ())
    predictions, *totals = _drawn(
        [grouped.predictions[:, None], *(one.mean.by_key for one in samples)],
        statistics.REPLICATES,
    )
    by_key = {one.name: x / predictions for one, x in zip(samples, totals, strict=True)}
    named = {one.name: one for one in samples}
    found = [
        [
            _difference(named[base], named[other], by_key, key, number, grouped)
            for base, other in contrasts
            for number, key in enumerate(keys)
        ]
        for contrasts in families
    ]
    return Outcome(
        tuple(tuple(_adjusted(differences)) for differences in found),
        tuple(_slices(samples, grouped, divisions)),
    )


def _drawn(arrays: Sequence[np.ndarray], replicates: int) -> list[np.ndarray]:
    """Replicates of the columns of several arrays, all of the same sessions."""
    ends = np.cumsum([array.shape[1] for array in arrays])[:-1]
    totals = statistics.replicate_totals(np.concatenate(arrays, axis=1), replicates)
    return np.split(totals, ends, axis=1)


def _difference(
    base: Sample,
    other: Sample,
    replicates: dict[str, np.ndarray],
    key: str,
    number: int,
    grouped: Groups,
) -> Difference:
    """Of the setting ``other`` to ``base`` in the metric of a number."""
    sums = [one.mean.by_key[:, number] for one in (other, base)]
    value = float((sums[0] - sums[1]).sum() / grouped.predictions.sum())
    spread = replicates[other.name][:, number] - replicates[base.name][:, number]
    noises = [one.key_noise[number] for one in (other, base)]
    found = statistics.estimate(value, float(np.var(spread, ddof=1)), noises)
    tested = key in FAMILIES
    return Difference(
        base.name,
        other.name,
        key,
        found.value,
        found.low,
        found.high,
        found.p if tested else None,
        None,
        found.covers_seeds,
    )


def _adjusted(differences: Sequence[Difference]) -> list[Difference]:
    """Adjusts p for the other tests in the same metric."""
    adjusted = list(differences)
    for key in FAMILIES:
        places = [n for n, one in enumerate(adjusted) if one.key == key]
        p_values = {n: p for n in places if (p := adjusted[n].p) is not None}
        for n, p in zip(
            p_values, statistics.holm(list(p_values.values())), strict=True
        ):
            adjusted[n] = adjusted[n]._replace(p_holm=p)
    return adjusted


def _slices(
    samples: Sequence[Sample], grouped: Groups, divisions: Sequence[Division]
) -> list[Slice]:
    """Each setting on each part of the predictions that has any."""
    if not divisions:
        return []
    in_slices, *totals = _drawn(
        [grouped.in_slices, *(one.mean.by_slice for one in samples)], SLICE_REPLICATES
    )
    hits = {one.name: x for one, x in zip(samples, totals, strict=True)}
    named = [(division.by, name) for division in divisions for name in division.names]
    counts = grouped.in_slices.sum(0)
    return [
        Slice(
            by,
            name,
            int(counts[n]),
            BEST_KEY,
            tuple(
                _slice_value(one, hits[one.name][:, n], in_slices[:, n], counts, n)
                for one in samples
            ),
        )
        for n, (by, name) in enumerate(named)
        if counts[n]
    ]


def _slice_value(
    one: Sample, hits: np.ndarray, drawn: np.ndarray, counts: np.ndarray, n: int
) -> SliceValue:
    value = float(one.mean.by_slice[:, n].sum() / counts[n])
    some = drawn > 0  # a draw may have none of a small slice
    ratios = hits[some] / drawn[some]
    variance = float(np.var(ratios, ddof=1)) if len(ratios) > 1 else 0.0
    found = statistics.estimate(value, variance, [one.slice_noise[n]])
    return SliceValue(one.name, value, max(found.low, 0.0), min(found.high, 1.0))
