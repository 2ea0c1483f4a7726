"""The tables of a comparison, before they are text, Markdown or a page."""

from __future__ import annotations

from typing import NamedTuple

from experiments.comparing import wording
from experiments.comparing.comparison import (
    Comparison,
    Difference,
    Figure,
    Setting,
    SliceValue,
)
from tron_jax.evaluation.metrics import title

# Figures beside the metrics: field of a setting, heading, units to choose from (name,
# how many of the recorded unit), format.
_MINUTES = (("h", 3600.0), ("min", 60.0), ("s", 1.0))
_COSTS = (
    ("sessions_per_s", "sessions", (("s", 1.0),), ",.0f"),
    ("seconds_to_best", "time to best", _MINUTES, ",.1f"),
    ("peak_memory_gb", "peak memory", (("GB", 1.0),), ",.2f"),
)


class Cell(NamedTuple):
    """What is shown.

    Attributes:
      text: as it is read.
      value: what rows are sorted by; None sorts last.
      strong: whether it should catch the eye.
    """

    text: str
    value: float | str | None = None
    strong: bool = False


class Column(NamedTuple):
    """How a column is headed.

    Attributes:
      heading: in a few words.
      group: of neighbours that are headed together, such as a protocol; "" for none.
      number: whether its cells are numbers.
      meaning: more words about it, "" for none.
    """

    heading: str
    group: str = ""
    number: bool = True
    meaning: str = ""


class Table(NamedTuple):
    """Rows of a cell for each column."""

    columns: list[Column]
    rows: list[list[Cell]]


def at_20(comparison: Comparison) -> list[str]:
    """Returns the metrics that are shown where there is no room for all."""
    keys = list(comparison.keys)
    return [key for key in keys if key.endswith("@20")] or keys[:3]


def settings(comparison: Comparison, keys: list[str], *, fields: bool = True) -> Table:
    """A row for each setting: fields, metrics, and the steps they were taken at.

    Args:
      comparison: to be shown.
      keys: metrics of ``exact``; of other protocols those of Table 2 alone.
      fields: whether the fields that differ have columns.
    """
    columns = [(Column("setting", number=False), _name), (Column("runs"), _runs)]
    if fields:
        columns[1:1] = _fields(comparison)
    for protocol in wording.protocols(comparison):
        own = keys if protocol == "exact" else [k for k in keys if k in wording.MAIN]
        columns += [_metric(protocol, key) for key in own]
        columns.append(_steps(protocol))
    return _filled(comparison, columns)


def costs(comparison: Comparison) -> Table:
    """A row for each setting: speed, time, memory and size."""
    columns = [
        (Column("setting", number=False), _name),
        *(_cost(comparison, *cost) for cost in _COSTS),
        (Column("parameters"), _parameters),
    ]
    return _filled(comparison, columns)


def beside(left: Table, right: Table) -> Table:
    """One table of two with the same rows, named once."""
    rows = [a + b[1:] for a, b in zip(left.rows, right.rows, strict=True)]
    return Table(left.columns + right.columns[1:], rows)


def metrics(comparison: Comparison) -> Table:
    """A row for each setting and protocol with every metric, its step and its rule."""
    columns = [
        Column("setting", number=False),
        Column("protocol", number=False),
        Column("runs"),
        *(Column(title(key)) for key in comparison.keys),
        Column("step"),
        Column("epoch"),
        Column("chosen by", number=False),
    ]
    rows = [
        _row_of_metrics(comparison, setting, protocol)
        for setting in comparison.settings
        for protocol in wording.protocols(comparison)
        if protocol in setting.figures
    ]
    return Table(columns, rows)


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
    return Table(columns, [_row_of_difference(comparison, d) for d in found])


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


def slices(comparison: Comparison, by: str) -> Table:
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


def kinds_of_slices(comparison: Comparison) -> list[str]:
    return list(dict.fromkeys(part.by for part in comparison.slices))


def _filled(comparison: Comparison, columns: list) -> Table:
    rows = [[cell(s) for _, cell in columns] for s in comparison.settings]
    return Table([column for column, _ in columns], rows)


def _name(setting: Setting) -> Cell:
    return Cell(setting.name, setting.name)


def _runs(setting: Setting) -> Cell:
    return Cell(str(len(setting.seeds)), len(setting.seeds))


def _fields(comparison: Comparison) -> list:
    fields = list(dict.fromkeys(f for s in comparison.settings for f in s.fields))
    names = wording.shortened(fields)
    return [_field(field, names[field], comparison) for field in fields]


def _field(field: str, heading: str, comparison: Comparison) -> tuple:
    texts = [setting.fields.get(field, "") for setting in comparison.settings]
    numeric = all(_as_number(text) is not None for text in texts if text)

    def cell(setting: Setting) -> Cell:
        text = setting.fields.get(field, "")
        value = _as_number(text) if numeric else text or None
        return Cell(text or wording.UNKNOWN, value)

    return Column(heading, number=numeric, meaning=field), cell


def _as_number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _metric(protocol: str, key: str) -> tuple:
    def cell(setting: Setting) -> Cell:
        return _of_figure(setting.figures.get(protocol, {}).get(key), ".4f")

    return Column(title(key), group=wording.protocol_title(protocol)), cell


def _steps(protocol: str) -> tuple:
    def cell(setting: Setting) -> Cell:
        choice = setting.chosen.get(protocol)
        return _of_span(choice.steps if choice else ())

    return Column("step", group=wording.protocol_title(protocol)), cell


def _parameters(setting: Setting) -> Cell:
    return _of_span(() if setting.parameters is None else (setting.parameters,))


def _cost(
    comparison: Comparison, name: str, heading: str, units: tuple, form: str
) -> tuple:
    known = [f.mean for s in comparison.settings if (f := getattr(s, name)) is not None]
    fitting = [unit for unit in units if max(known, default=0.0) >= 2 * unit[1]]
    unit, size = (fitting or [units[-1]])[0]

    def cell(setting: Setting) -> Cell:
        figure = getattr(setting, name)
        if figure is None:
            return Cell(wording.UNKNOWN)
        deviation = None if figure.deviation is None else figure.deviation / size
        return _of_figure(Figure(figure.mean / size, deviation, figure.runs), form)

    of = f"{heading}/s" if name == "sessions_per_s" else f"{heading} ({unit})"
    return Column(of), cell


def _of_figure(figure: Figure | None, form: str) -> Cell:
    return Cell(wording.spread(figure, form), figure.mean if figure else None)


def _of_span(values: tuple) -> Cell:
    return Cell(wording.span(values, ",.10g"), max(values, default=None))


def _row_of_metrics(
    comparison: Comparison, setting: Setting, protocol: str
) -> list[Cell]:
    figures = setting.figures[protocol]
    choice = setting.chosen.get(protocol)
    runs = max((figure.runs for figure in figures.values()), default=0)
    shown = wording.protocol_title(protocol)
    return [
        _name(setting),
        Cell(shown, shown),
        Cell(str(runs), runs),
        *(_of_figure(figures.get(key), ".4f") for key in comparison.keys),
        _of_span(choice.steps if choice else ()),
        _of_span(choice.epochs if choice else ()),
        Cell(choice.rule, choice.rule) if choice else Cell(wording.UNKNOWN),
    ]


def _row_of_difference(comparison: Comparison, d: Difference) -> list[Cell]:
    name, said = wording.contrast(comparison, d), wording.outcome(d)
    p = wording.adjusted(d)
    return [
        Cell(name, name),
        Cell(wording.number(d.value, "+.4f"), d.value),
        Cell(wording.interval(d), d.low),
        Cell(wording.p_value(p), p),
        Cell(said, said, strong=wording.differs(d)),
    ]


def _with_interval(d: Difference | None) -> Cell:
    if d is None:
        return Cell(wording.UNKNOWN)
    return Cell(f"{wording.number(d.value, '+.4f')} {wording.interval(d)}", d.value)


def _of_slice(value: SliceValue | None) -> Cell:
    if value is None:
        return Cell(wording.UNKNOWN)
    low, high = wording.number(value.low), wording.number(value.high)
    return Cell(f"{wording.number(value.value)} [{low}, {high}]", value.value)
