import math

import made_up_comparison as made_up
import numpy as np
import pytest

from experiments.comparing import wording
from experiments.comparing.comparison import Curve
from experiments.comparing.pictures import (
    curves,
    forest,
    gallery,
    inks,
    pooling,
    rendering,
    slices,
    speed,
    swept,
)

FIGURE = pytest.importorskip("matplotlib.figure")


def drawn(picture):
    """Draws a picture, and returns its axes."""
    figure = FIGURE.Figure()
    picture.draw(figure)
    (axes,) = figure.axes
    return axes


def legend_of(axes):
    return [text.get_text().strip() for text in axes.figure.legends[0].get_texts()]


def curve(epochs, recall, *, seed=0, scale=1.0):
    seconds = tuple(scale * epoch for epoch in epochs)
    return Curve(seed, tuple(epochs), seconds, tuple(recall), (), ())


def test_pools_the_epochs_that_all_runs_have():
    runs = [curve([1, 2, 3], [0.1, 0.2, 0.3]), curve([1, 2], [0.3, 0.4], scale=3)]
    (line,) = pooling.recall(runs, by_time=True)
    assert line.x == [2.0, 4.0]
    np.testing.assert_allclose(line.y, [0.2, 0.3])
    assert (line.low, line.high) == ([0.1, 0.2], [0.3, 0.4])


def test_runs_that_share_no_epoch_are_lines_of_their_own():
    runs = [curve([1, 2], [0.1, 0.2]), curve([1.5], [0.3])]
    lines = pooling.recall(runs, by_time=False)
    assert [line.x for line in lines] == [[1, 2], [1.5]]


def test_many_windows_are_averaged_without_moving_the_mean():
    at = tuple(n / 100 for n in range(1, 1001))
    losses = tuple(5 + math.sin(n) for n in range(1000))
    (line,) = pooling.losses([Curve(0, (), (), (), at, losses)])
    assert len(line.x) == pooling.MOST_POINTS
    np.testing.assert_allclose(np.mean(line.y), np.mean(losses))
    np.testing.assert_allclose(line.x[0], np.mean(at[:10]))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([10, 100, 500], True),
        ([0, 10, 100, 500], True),
        ([1, 2, 4, 8], True),
        ([1, 2, 3, 4], False),
        ([0, 100], False),
        ([2, 3], False),
        ([1, 100], True),
        ([-1, 1, 10, 100], False),
        ([0.0001, 0.001, 0.01], True),
        ([256, 512, 768], False),
    ],
)
def test_tells_geometric_values(values, expected):
    assert swept.geometric([float(value) for value in values]) == expected


def test_zero_stands_before_a_logarithmic_axis():
    at = swept.places([0.0, 10.0, 100.0, 1000.0])
    np.testing.assert_allclose(list(at.values()), [0, 1, 2, 3])
    assert swept.places([0.0, 1.0, 2.0]) == {0: 0, 1: 1, 2: 2}


def test_a_line_for_each_other_value_of_the_rest():
    comparison = made_up.comparison(topks=(500, 0, 10))
    (picture,) = swept.fields(comparison)
    axes = drawn(picture)
    assert set(legend_of(axes)) == {f"drawn_per={scope}" for scope in made_up.SCOPES}
    lines = [line for line in axes.lines if line.get_marker() not in ("", "None")]
    assert len(lines) == 3
    for scope, line in zip(made_up.SCOPES, lines, strict=True):
        expected = [
            next(
                s.figures["exact"]["recall@20"].mean
                for s in comparison.settings
                if s.fields["loss.topk"] == str(k)
                and s.fields["negatives.drawn_per"] == scope
            )
            for k in (0, 10, 500)
        ]
        np.testing.assert_allclose(line.get_ydata(), expected)
    assert [t.get_text() for t in axes.get_xticklabels()] == ["0", "10", "500"]


def test_settings_without_the_field_are_no_point_of_it():
    comparison = made_up.comparison(scopes=("event",), topks=(0, 10))
    first, second = comparison.settings
    without = second._replace(fields={**second.fields, "loss.topk": ""})
    assert swept.fields(comparison._replace(settings=(first, without))) == []


def test_only_a_difference_that_was_shown_is_filled():
    comparison = made_up.comparison()
    for picture in forest.differences(comparison):
        found = [d for d in comparison.differences if d.key == picture.about]
        assert any(map(wording.differs, found))
        points = [line for line in drawn(picture).lines if line.get_marker() == "o"]
        by_value = {float(line.get_xdata()[0]): line for line in points}
        assert len(points) == len(found)
        for d in found:
            face = by_value[d.value].get_markerfacecolor()
            assert (face != inks.LIGHT["ground"]) == wording.differs(d)
    hollow = [d for d in comparison.differences if wording.adjusted(d) is not None]
    assert not all(map(wording.differs, hollow))


def test_what_covers_sessions_alone_is_drawn_thinner():
    widths = {}
    for seeds in (1, 2):
        picture = forest.differences(made_up.comparison(seeds=seeds))[0]
        widths[seeds] = drawn(picture).lines[1].get_linewidth()
        assert ("sessions only" in picture.alt) == (seeds == 1)
        assert ("sessions only" in picture.caption) == (seeds == 1)
    assert widths[1] < widths[2]


def test_of_many_pairs_the_largest_are_drawn():
    comparison = made_up.comparison(**made_up.TWELVE, contrasts="pairs")
    picture = forest.differences(comparison)[0]
    found = [d for d in comparison.differences if d.key == picture.about]
    axes = drawn(picture)
    points = [line for line in axes.lines if line.get_marker() == "o"]
    shown = {abs(float(line.get_xdata()[0])) for line in points}
    assert len(points) == forest.MOST < len(found)
    others = {abs(d.value) for d in found} - shown
    assert min(shown) >= max(others)
    assert f"of {len(found)}" in picture.caption


def test_every_setting_has_a_line_and_seeds_a_band():
    comparison = made_up.comparison(topks=(0,))
    (picture,) = curves.by_epoch(comparison)
    axes = drawn(picture)
    assert len(axes.lines) == len(axes.collections) == len(comparison.settings)
    ends = [line.get_ydata()[-1] for line in axes.lines]
    assert ends == sorted(ends, reverse=True)  # the legend reads as the lines lie
    for setting in comparison.settings:
        mean = np.mean([c.recall[-1] for c in setting.curves])
        assert f"{setting.name} {mean:.4f} at epoch 5" in picture.alt


def test_times_of_shared_machines_are_told_as_such():
    comparison = made_up.comparison(topks=(0,))
    (picture,) = curves.by_time(comparison)
    assert "busy" not in picture.caption
    first = comparison.settings[0]._replace(sessions_per_s=None)
    settings = (first, *comparison.settings[1:])
    (picture,) = curves.by_time(comparison._replace(settings=settings))
    assert "busy" in picture.caption


def test_one_known_speed_is_nothing_to_compare():
    comparison = made_up.comparison(topks=(0,))
    settings = [s._replace(sessions_per_s=None) for s in comparison.settings[1:]]
    few = comparison._replace(settings=(comparison.settings[0], *settings))
    assert speed.against_accuracy(few) == []
    (picture,) = speed.against_accuracy(comparison)
    points = {tuple(map(float, line.get_xydata()[0])) for line in drawn(picture).lines}
    assert points == {
        (s.sessions_per_s.mean, s.figures["exact"]["recall@20"].mean)
        for s in comparison.settings
    }


def test_slices_of_many_settings_show_the_baseline_and_the_highest():
    comparison = made_up.comparison(**made_up.TWELVE)
    picture = slices.by_kind(comparison)[0]
    shown = legend_of(drawn(picture))
    recall = {s.name: s.figures["exact"]["recall@20"].mean for s in comparison.settings}
    highest = sorted(recall, key=recall.get)[-slices.MOST + 1 :]
    assert set(shown) == {comparison.baseline, *highest}
    assert f"{len(shown)} of 12" in picture.caption


def test_a_legend_reads_in_lines():
    picture = curves.by_epoch(made_up.comparison(topks=(0,)))[0]
    axes = drawn(picture)
    names = [
        s.name
        for s in sorted(
            made_up.comparison(topks=(0,)).settings,
            key=lambda s: -s.figures["exact"]["recall@20"].mean,
        )
    ]
    # matplotlib lists a legend's columns; the left one has the first and the third.
    assert legend_of(axes) == [names[0], names[2], names[1]]


def test_twelve_settings_are_told_apart_without_colour():
    styles = inks.styles(made_up.comparison(**made_up.TWELVE))
    assert len({(style.marker, style.line) for style in styles.values()}) == 12
    assert len({inks.nth(n) for n in range(66)}) == 66


def luminance(colour):
    parts = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    linear = [
        p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", [0, 1])
def test_inks_stand_out_from_the_ground(scheme):
    """By WCAG 2.2: 4.5 for text (1.4.3), 3 for what a picture needs (1.4.11)."""
    ground = luminance(inks.INKS["ground"][scheme])
    for name in ("ink", "soft", *inks.SERIES):
        bright, dark = sorted(
            (luminance(inks.INKS[name][scheme]), ground), reverse=True
        )
        least = 4.5 if name in ("ink", "soft") else 3
        assert (bright + 0.05) / (dark + 0.05) >= least, name


def test_svg_has_the_inks_and_the_font_of_its_page():
    pictures = gallery.of(made_up.comparison(topks=(0,)))
    for picture in (pictures[0], pictures[2]):
        text = rendering.svg(picture)
        assert "var(--ink)" in text
        assert not any(light in text for light in inks.LIGHT.values())
        assert "font-family" not in text
        assert "<style" not in text
        assert "<metadata" not in text


def test_a_name_is_not_taken_for_mathematics():
    pytest.importorskip("matplotlib")
    whole = made_up.comparison(topks=(0,), slices=())
    settings = tuple(s._replace(name=f"$_{n}$") for n, s in enumerate(whole.settings))
    picture = curves.by_epoch(whole._replace(settings=settings, baseline="$_0$"))[0]
    assert "$_1$" in rendering.svg(picture)
