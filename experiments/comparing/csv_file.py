"""A comparison as CSV files, one observation a line, numbers in full precision."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from experiments.comparing import wording
from experiments.comparing.comparison import Comparison, Difference, Setting, SliceValue

COSTS = ("sessions_per_s", "seconds_to_best", "peak_memory_gb")


def figures(comparison: Comparison) -> str:
    """A line for each setting, protocol and key; what has no protocol has "" there.

    Steps, epochs and seeds of several runs are divided by spaces.
    """
    fields = list(dict.fromkeys(f for s in comparison.settings for f in s.fields))
    head = ["setting", *fields, "seeds", "protocol", "key", "mean", "deviation", "runs"]
    head += ["steps", "epochs", "chosen_by"]
    lines = (
        [setting.name, *(setting.fields.get(field, "") for field in fields), *line]
        for setting in comparison.settings
        for line in _of_setting(setting)
    )
    return _text(head, lines)


def _of_setting(setting: Setting) -> Iterator[list[Any]]:
    seeds = _spaced(setting.seeds)
    for protocol, by_key in setting.figures.items():
        choice = setting.chosen.get(protocol)
        chosen = ["", "", ""]
        if choice:
            chosen = [_spaced(choice.steps), _spaced(choice.epochs), choice.rule]
        for key, figure in by_key.items():
            yield [seeds, protocol, key, *figure, *chosen]
    for key, value in setting.published.items():
        yield ["", "published", key, value, "", "", "", "", ""]
    for name in COSTS:
        if (figure := getattr(setting, name)) is not None:
            yield [seeds, "", name, *figure, "", "", ""]
    if setting.parameters is not None:
        runs = len(setting.seeds)
        yield [seeds, "", "parameters", setting.parameters, "", runs, "", "", ""]


def differences(comparison: Comparison) -> str:
    """A line for each difference, with the fields of ``Difference``."""
    return _text(Difference._fields, comparison.differences)


def claims(comparison: Comparison) -> str:
    """A line for each claim and metric: it, its outcome, and the difference found."""
    head = ["text", "higher", "lower", "key", "published", "outcome"]
    head += ["value", "low", "high", "p_holm"]
    lines = (
        [*claim[:5], wording.claim_outcome(claim), *_found(claim.difference)]
        for claim in comparison.claims
    )
    return _text(head, lines)


def _found(difference: Difference | None) -> list[Any]:
    if difference is None:
        return ["", "", "", ""]
    return [difference.value, difference.low, difference.high, difference.p_holm]


def slices(comparison: Comparison) -> str:
    """A line for each slice and setting."""
    head = ["by", "name", "predictions", "key", *SliceValue._fields]
    lines = (
        [*part[:-1], *value] for part in comparison.slices for value in part.values
    )
    return _text(head, lines)


def _spaced(values: Sequence[float]) -> str:
    return " ".join(format(value, ".10g") for value in values)


def _text(head: Sequence[str], lines: Iterable[Sequence[Any]]) -> str:
    held = io.StringIO()
    writer = csv.writer(held, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(lines)
    return held.getvalue()
