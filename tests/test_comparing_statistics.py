"""The statistics of a comparison against scipy, slow loops, and simulated runs."""

import itertools
import math

import numpy as np
import pytest
import scipy.stats

from experiments.comparing import differences, statistics
from experiments.comparing.differences import Groups, Sums
from experiments.comparing.statistics import TrainingNoise, estimate, holm
from experiments.comparing.student_t import critical_value, two_sided_p

DEGREES = (
    1,
    1.3,
    2,
    3.7,
    10,
    33.3,
    500,
    19_999,
    20_001,
    1e6,
    1e12,
    1e16,
    1e56,
    math.inf,
)


@pytest.mark.portable
@pytest.mark.parametrize("degrees", DEGREES)
def test_tails_and_critical_values_are_those_of_scipy(degrees):
    t = scipy.stats.norm if math.isinf(degrees) else scipy.stats.t(degrees)
    for value in (0.0, 0.1, 0.5, 1.0, 1.96, 3.0, 8.0, 40.0):
        expected = 2 * t.sf(value)
        assert two_sided_p(value, degrees) == pytest.approx(expected, abs=1e-10)
        assert two_sided_p(-value, degrees) == two_sided_p(value, degrees)
    for level in (0.5, 0.9, 0.95, 0.999):
        expected = t.ppf((1 + level) / 2)
        assert critical_value(degrees, level) == pytest.approx(expected, rel=1e-10)
    assert two_sided_p(math.inf, degrees) == 0


def test_holm_is_the_slow_definition():
    draw = np.random.default_rng(0)
    for size in range(7):
        p = draw.choice([0.001, 0.01, 0.02, 0.4, 1.0], size)
        expected = []
        for own in p:
            # Rejected at a level as soon as all smaller ones are.
            steps = [(size - np.sum(p < other)) * other for other in p if other <= own]
            expected.append(min(1.0, max(steps)))
        np.testing.assert_allclose(holm(list(p)), expected)


def test_totals_are_those_of_sessions_drawn_one_by_one():
    columns = np.random.default_rng(1).random((7, 3))
    replicates = 450  # more than two blocks
    totals = statistics.replicate_totals(columns, replicates, seed=5)
    draw = np.random.default_rng(5)
    for row in totals:
        drawn = [columns[group] for group in draw.integers(7, size=7)]
        np.testing.assert_allclose(row, np.sum(drawn, axis=0))


@pytest.mark.portable
def test_equal_columns_have_equal_totals():
    columns = np.random.default_rng(2).random((501, 37))
    columns[:, [3, 36]] = columns[:, [17]]
    totals = statistics.replicate_totals(columns, 300)
    assert totals[:, 3].tobytes() == totals[:, 17].tobytes() == totals[:, 36].tobytes()


def test_the_spread_of_a_ratio_is_that_of_scipy():
    draw = np.random.default_rng(3)
    counts = draw.integers(1, 6, 400)
    hits = draw.binomial(counts, 0.4)
    totals = statistics.replicate_totals(np.stack([hits, counts], axis=1))
    found = np.std(totals[:, 0] / totals[:, 1], ddof=1)

    def ratio(hits, counts, axis=-1):
        return hits.sum(axis) / counts.sum(axis)

    expected = scipy.stats.bootstrap(
        (hits, counts), ratio, paired=True, n_resamples=4000, method="basic", rng=0
    ).standard_error
    assert found == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize(("sessions", "most"), [(1, 5), (5, 5), (6, 5), (103, 20)])
def test_groups_are_of_even_size(sessions, most):
    sizes = np.bincount(statistics.groups_of_sessions(sessions, most))
    assert sizes.sum() == sessions
    assert len(sizes) == min(sessions, most)
    assert sizes.max() - sizes.min() <= 1


def test_grouping_leaves_the_variance_of_a_ratio():
    draw = np.random.default_rng(4)
    counts = draw.integers(1, 6, 3000)
    columns = np.stack([draw.binomial(counts, 0.3), counts], axis=1).astype(float)
    spreads = []
    for most in (3000, 500):
        group = statistics.groups_of_sessions(3000, most)
        sums = np.stack([np.bincount(group, c) for c in columns.T], axis=1)
        totals = statistics.replicate_totals(sums, 2000)
        spreads.append(np.std(totals[:, 0] / totals[:, 1]))
    # A spread that is estimated from 500 groups errs by 3 %.
    assert spreads[0] == pytest.approx(spreads[1], rel=0.1)


def test_interval_without_session_noise_is_welchs_t_test():
    left, right = [0.41, 0.43, 0.42], [0.45, 0.49]
    noises = [TrainingNoise(np.var(x, ddof=1), len(x)) for x in (left, right)]
    found = estimate(np.mean(right) - np.mean(left), 0.0, noises)
    test = scipy.stats.ttest_ind(right, left, equal_var=False)
    low, high = test.confidence_interval(0.95)
    assert found.p == pytest.approx(test.pvalue, rel=1e-9)
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-9)
    assert found.covers_seeds


@pytest.mark.portable
def test_interval_of_equal_runs_is_that_of_the_sessions():
    found = estimate(0.3, 0.01, [TrainingNoise(0.0, 2), TrainingNoise(0.0, 3)])
    half = scipy.stats.norm.ppf(0.975) * 0.1
    assert found[1:3] == pytest.approx((0.3 - half, 0.3 + half))
    assert found.p == pytest.approx(2 * scipy.stats.norm.sf(3))


def test_a_single_run_gets_no_verdict():
    found = estimate(0.3, 0.01, [TrainingNoise(0.0, 1), TrainingNoise(9.0, 3)])
    half = scipy.stats.norm.ppf(0.975) * 0.1
    assert found[1:3] == pytest.approx((0.3 - half, 0.3 + half))
    assert found.p is None
    assert not found.covers_seeds


def test_no_difference_is_certain_where_nothing_varies():
    same = [TrainingNoise(0.0, 2)] * 2
    assert estimate(0.0, 0.0, same) == (0, 0, 0, 1, True)
    assert estimate(0.1, 0.0, same) == (0.1, 0.1, 0.1, 0, True)


# How often what is not there is found: as a comparison says it where it is most often.
SIMULATED = [
    *(
        (runs, noise, noise, 0.05)
        for runs, noise in itertools.product((2, 3), (0.5, 1))
    ),
    (2, 2, 2, 0.065),
    (3, 2, 2, 0.052),
    (2, 6, 0, 0.128),
    (3, 6, 0, 0.077),
    (4, 6, 0, 0.065),
]


@pytest.mark.parametrize(("runs", "noise", "others", "share"), SIMULATED)
def test_how_often_a_difference_is_found_where_there_is_none(
    runs, noise, others, share
):
    """Training noise is given in standard errors of the sessions' draw."""
    draw = np.random.default_rng(6)
    times = 1000
    sessions = draw.normal(size=times)
    left, right = draw.normal(size=(2, times, runs))
    left, right = left * noise, right * others
    found = 0
    for offset, a, b in zip(sessions, left, right, strict=True):
        noises = [TrainingNoise(np.var(x, ddof=1), runs) for x in (a, b)]
        p = estimate(offset + b.mean() - a.mean(), 1.0, noises).p
        found += p < 0.05
    # The shares are of 200,000 simulated.
    low, high = scipy.stats.binom.interval(0.99, times, share)
    assert low <= found <= high


def test_one_in_twenty_of_whole_comparisons_of_equal_settings(monkeypatch):
    """Sessions differ in how well each setting does on them, and seeds differ."""
    monkeypatch.setattr(statistics, "REPLICATES", 300)
    draw = np.random.default_rng(7)
    times, num_sessions, runs = 300, 100, 3
    found = 0
    for _ in range(times):
        counts = draw.integers(1, 6, num_sessions).astype(float)
        error = np.sqrt(2 * np.sum(counts**2)) / counts.sum()
        grouped = Groups(np.zeros(0), counts, np.zeros((num_sessions, 0)))
        easy = draw.normal(size=num_sessions)  # for both, so without effect

        samples = []
        for name in ("a", "b"):
            liked = draw.normal(size=num_sessions)
            seeds = draw.normal(size=runs) * error
            sums = [counts * (easy + liked + seed) for seed in seeds]
            none = np.zeros((num_sessions, 0))
            by_run = [Sums(of_run[:, None], none) for of_run in sums]
            samples.append(differences.sample(name, by_run, grouped))
        pairs = [[("a", "b")]]
        outcome = differences.compare(samples, pairs, ["mrr@20"], grouped, [])
        ((difference,),) = outcome.differences
        found += difference.p < 0.05
    low, high = scipy.stats.binom.interval(0.99, times, 0.05)
    assert low <= found <= high


@pytest.mark.parametrize("runs", [3, 5, 6, 7, 9, 10])
def test_runs_of_equal_figures_have_no_noise(runs):
    """The variance of equal floats is not always 0."""
    hits = np.arange(1.0, 200.0)
    predictions = np.full((1, hits.size), 7919.0)
    totals = np.repeat(hits[None], runs, axis=0)
    noises = differences._noise(totals, predictions)
    assert noises == [TrainingNoise(0.0, runs)] * hits.size
