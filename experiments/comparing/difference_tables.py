"""The tables of differences between settings."""

from __future__ import annotations

from experiments.comparing import wording
from experiments.comparing.comparison import Claim, Comparison, Difference
from experiments.comparing.table import Cell, Column, Table
from tron_jax.evaluation.metrics import title


def differences(comparison: Comparison, key: str) -> Table:
    """A row for each difference in one metric, with what can be said of it."""
    found = [d for d in comparison.differences if d.key == key]
    columns = [
        Column("setting", number=False),
        Column("difference"),
        Column("95 % interval"),
        Column("p after Holm"),
        Column("what can be said", number=False),
    ]
    rows = [_row_of_difference(comparison, d) for d in found]
    if all(wording.adjusted(d) is None for d in found):
        del columns[3]
        rows = [[*row[:3], *row[4:]] for row in rows]
    return Table(columns, rows)


def other_differences(comparison: Comparison) -> Table:
    """A row for each contrast, with the intervals of the metrics not tested."""
    main = wording.main_keys(comparison)
    there = {d.key for d in comparison.differences}
    keys = [key for key in comparison.keys if key in there and key not in main]
    by_contrast: dict[str, dict[str, Difference]] = {}
    for d in comparison.differences:
        by_contrast.setdefault(wording.contrast(comparison, d), {})[d.key] = d
    rows = [
        [Cell(name, name), *(_with_interval(found.get(key)) for key in keys)]
        for name, found in by_contrast.items()
    ]
    columns = [Column("setting", number=False), *(Column(title(key)) for key in keys)]
    return Table(columns, rows if keys else [])


def claims(comparison: Comparison) -> Table:
    """A row for each claim and metric, with whether it holds."""
    columns = [
        Column("claim", number=False),
        Column("so it", number=False),
        Column("published"),
        Column("here"),
        Column("95 % interval"),
        Column("p after Holm"),
        Column("of", number=False, meaning="the settings whose difference it is"),
    ]
    return Table(columns, [_row_of_claim(claim) for claim in comparison.claims])


def _row_of_claim(claim: Claim) -> list[Cell]:
    said = wording.claim_outcome(claim)
    strong = said in (wording.HOLDS, wording.HOLDS_NOT)
    higher, lower = claim.higher, claim.lower
    if claim.difference is not None:
        higher, lower = claim.difference.setting, claim.difference.baseline
    settings = f"{higher} {wording.MINUS} {lower}"
    name = f"{claim.text}, {title(claim.key)}"
    return [
        Cell(name, name),
        Cell(said, said, strong=strong),
        Cell(wording.number(claim.published, "+.3f"), claim.published),
        *_found(claim.difference),
        Cell(settings, settings),
    ]


def _found(d: Difference | None) -> list[Cell]:
    """A difference, its interval and its p, as far as there are any."""
    if d is None:
        return [Cell(wording.UNKNOWN)] * 3
    p = wording.adjusted(d)
    return [
        Cell(wording.number(d.value, "+.4f"), d.value),
        Cell(wording.interval(d), d.low),
        Cell(wording.p_value(p), p),
    ]


def _row_of_difference(comparison: Comparison, d: Difference) -> list[Cell]:
    name, said = wording.contrast(comparison, d), wording.outcome(d)
    return [
        Cell(name, name),
        *_found(d),
        Cell(said, said, strong=wording.differs(d)),
    ]


def _with_interval(d: Difference | None) -> Cell:
    if d is None:
        return Cell(wording.UNKNOWN)
    return Cell(f"{wording.number(d.value, '+.4f')} {wording.interval(d)}", d.value)
