"""The tables of slices, one for each thing that predictions were divided by."""

from __future__ import annotations

from experiments.comparing import wording
from experiments.comparing.comparison import Comparison, SliceValue
from experiments.comparing.table import Cell, Column, Table
from tron_jax.evaluation.metrics import title


def kinds(comparison: Comparison) -> list[str]:
    """Returns what predictions were divided by, in order."""
    return list(dict.fromkeys(part.by for part in comparison.slices))


def heading(comparison: Comparison, by: str) -> str:
    """Names the metric and what predictions were divided by."""
    key = next(part.key for part in comparison.slices if part.by == by)
    return f"{title(key)} by {by}"


def of_kind(comparison: Comparison, by: str) -> Table:
    """A row for each slice of one kind, a column for each setting."""
    parts = [part for part in comparison.slices if part.by == by]
    there = {value.setting for part in parts for value in part.values}
    names = [s.name for s in comparison.settings if s.name in there]
    columns = [Column(by, number=False), Column("predictions")]
    columns += [Column(name) for name in names]
    rows = []
    for order, part in enumerate(parts):
        values = {value.setting: value for value in part.values}
        row = [Cell(part.name, order), Cell(f"{part.predictions:,}", part.predictions)]
        rows.append([*row, *(_of_slice(values.get(name)) for name in names)])
    return Table(columns, rows)


def _of_slice(value: SliceValue | None) -> Cell:
    if value is None:
        return Cell(wording.UNKNOWN)
    low, high = wording.number(value.low), wording.number(value.high)
    return Cell(f"{wording.number(value.value)} [{low}, {high}]", value.value)
