"""Whether a log's times can be meant: all in 1970, all far ahead, or far apart."""

import math
from typing import NamedTuple

import numpy as np

from data_prep.pipeline.days import DayCounts
from data_prep.reading.times import UNITS, TimeForm, likely_form

_YEAR = 365  # days
_FAR_AHEAD = 130 * _YEAR  # in 2099


class OddTimes(NamedTuple):
    """What is odd about a log's times.

    problem: in words; most_days: how many of the latest days can be split off by such
    times all the same.
    """

    problem: str
    most_days: float


def find_odd_times(counts: DayCounts, form: TimeForm) -> OddTimes | None:
    """Judges the times of a log, which are written in such a form.

    Some are far from the others where no event is in a year or more between them, and
    in more than the others take.
    """
    days, events = counts.occupied()
    if counts.first is None:
        return None
    if days[-1] < _YEAR or days[0] >= _FAR_AHEAD:
        where = "in 1970" if days[-1] < _YEAR else "far ahead"
        number = counts.first * UNITS[form.unit][0] / 10**6
        hint = likely_form(number) if form.format is None else None
        more = f"; is {number:.15g} of another kind: {hint}" if hint else ""
        # Times that begin at 0 can be split; those of another kind never rightly.
        spread = 0 if hint else float(days[-1] - days[0])
        return OddTimes(f"all times lie {where} ({_range(days)}){more}", spread)
    empty = np.diff(days)
    at = int(empty.argmax()) + 1 if len(empty) else 0
    sides = [(events[part].sum(), days[part]) for part in (slice(at), slice(at, None))]
    latest = sides[1][0] <= sides[0][0]
    (many, most), (few, others) = sides if latest else sides[::-1]
    if not at or empty[at - 1] < max(_YEAR, most[-1] - most[0]):
        return None
    return OddTimes(
        f"some times are far from the others: {few:,} ({_range(others)}) from {many:,} "
        f"({_range(most)})",
        0 if latest else math.inf,
    )


def _range(days: np.ndarray) -> str:
    first, last = (str(np.datetime64(int(day), "D")) for day in (days[0], days[-1]))
    return first if first == last else f"{first} to {last}"
