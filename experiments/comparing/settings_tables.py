"""The tables of settings: their metrics, their costs, and the fields that differ."""

from __future__ import annotations

from collections.abc import Iterator

from experiments.comparing import wording
from experiments.comparing.comparison import Comparison, Figure, Setting
from experiments.comparing.table import Cell, Column, Table, of_figure, of_span
from tron_jax.evaluation.metrics import title

# Figures beside the metrics: field of a setting, heading, units to choose from (name,
# how many of the recorded unit), format.
_MINUTES = (("h", 3600.0), ("min", 60.0), ("s", 1.0))
_COSTS = (
    ("sessions_per_s", "sessions", (("s", 1.0),), ",.0f"),
    ("seconds_to_best", "time to best", _MINUTES, ",.1f"),
    ("peak_memory_gb", "peak memory", (("GB", 1.0),), ",.2f"),
)
MOST_FIELDS = 6  # that have columns of their own


def at_20(comparison: Comparison) -> list[str]:
    """Returns the metrics that are shown where there is no room for all."""
    keys = list(comparison.keys)
    return [key for key in keys if key.endswith("@20")] or keys[:3]


def settings(comparison: Comparison, keys: list[str], *, fields: bool = True) -> Table:
    """A row for each setting: fields, metrics, and the steps they were taken at.

    Args:
      comparison: to be shown.
      keys: metrics of ``exact``; of other protocols those of Table 2 alone.
      fields: whether the fields that differ have columns, where they are few.
    """
    columns = [(Column("setting", number=False), _name), (Column("runs"), _runs)]
    if fields and not many_fields(comparison):
        columns[1:1] = _fields(comparison)
    for protocol in wording.protocols(comparison):
        own = keys if protocol == "exact" else [k for k in keys if k in wording.MAIN]
        columns += [_metric(protocol, key) for key in own]
        columns.append(_steps(protocol))
    columns += [_published(key) for key in _published_keys(comparison)]
    return _filled(comparison, columns)


def costs(comparison: Comparison) -> Table:
    """A row for each setting: speed, time, memory and size."""
    columns = [
        (Column("setting", number=False), _name),
        *(_cost(comparison, *cost) for cost in _COSTS),
        (Column("parameters"), _parameters),
    ]
    return _filled(comparison, columns)


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


def runs(comparison: Comparison) -> Table:
    """A row for each run: where it is, how far it was trained, and by which code."""
    columns = [
        Column("run", number=False),
        Column("seed"),
        Column("step"),
        Column("epoch"),
        Column("commit", number=False),
    ]
    rows = [row for setting in comparison.settings for row in _rows_of_runs(setting)]
    return Table(columns, rows)


def _rows_of_runs(setting: Setting) -> Iterator[list[Cell]]:
    last = setting.chosen.get("exact")
    for n, (path, seed) in enumerate(zip(setting.paths, setting.seeds, strict=True)):
        commit = setting.commits[n] if setting.commits else ""
        yield [
            Cell(path, path),
            Cell(str(seed), seed),
            of_span(last.steps[n : n + 1] if last else ()),
            of_span(last.epochs[n : n + 1] if last else ()),
            Cell(commit or wording.UNKNOWN, commit or None),
        ]


def many_fields(comparison: Comparison) -> list[str]:
    """Returns the fields that differ, where they are too many for columns."""
    found = _fields_that_differ(comparison)
    return found if len(found) > MOST_FIELDS else []


def fields(comparison: Comparison) -> Table:
    """A row for each field that differs, a column for each setting."""
    columns = [Column("field", number=False)]
    columns += [Column(s.name, number=False) for s in comparison.settings]
    rows = [
        [Cell(field, field)]
        + [_value_of_field(s.fields.get(field, "")) for s in comparison.settings]
        for field in _fields_that_differ(comparison)
    ]
    return Table(columns, rows)


def _filled(comparison: Comparison, columns: list) -> Table:
    rows = [[cell(s) for _, cell in columns] for s in comparison.settings]
    return Table([column for column, _ in columns], rows)


def _name(setting: Setting) -> Cell:
    return Cell(setting.name, setting.name)


def _runs(setting: Setting) -> Cell:
    return Cell(str(len(setting.seeds)), len(setting.seeds))


def _fields_that_differ(comparison: Comparison) -> list[str]:
    return list(dict.fromkeys(f for s in comparison.settings for f in s.fields))


def _value_of_field(text: str) -> Cell:
    return Cell(text or wording.UNKNOWN, text or None)


def _fields(comparison: Comparison) -> list:
    found = _fields_that_differ(comparison)
    names = wording.shortened(found)
    return [_field(field, names[field], comparison) for field in found]


def _field(field: str, heading: str, comparison: Comparison) -> tuple:
    texts = [setting.fields.get(field, "") for setting in comparison.settings]
    numeric = all(_as_number(text) is not None for text in texts if text)

    def cell(setting: Setting) -> Cell:
        text = setting.fields.get(field, "")
        shown = _value_of_field(text)
        return shown._replace(value=_as_number(text)) if numeric else shown

    return Column(heading, number=numeric, meaning=field), cell


def _as_number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _metric(protocol: str, key: str) -> tuple:
    def cell(setting: Setting) -> Cell:
        found = setting.figures.get(protocol, {}).get(key)
        return of_figure(found, ".4f", len(setting.seeds))

    return Column(title(key), group=wording.protocol_title(protocol)), cell


def _published_keys(comparison: Comparison) -> list[str]:
    there = {key for setting in comparison.settings for key in setting.published}
    return [key for key in comparison.keys if key in there]


def _published(key: str) -> tuple:
    def cell(setting: Setting) -> Cell:
        value = setting.published.get(key)
        return Cell(wording.number(value, ".3f"), value)

    return Column(title(key), group="published"), cell


def _steps(protocol: str) -> tuple:
    def cell(setting: Setting) -> Cell:
        choice = setting.chosen.get(protocol)
        return of_span(choice.steps if choice else ())

    return Column("step", group=wording.protocol_title(protocol)), cell


def _parameters(setting: Setting) -> Cell:
    return of_span(() if setting.parameters is None else (setting.parameters,))


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
        return of_figure(Figure(figure.mean / size, deviation, figure.runs), form)

    of = f"{heading}/s" if name == "sessions_per_s" else f"{heading} ({unit})"
    return Column(of), cell


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
        *(of_figure(figures.get(key), ".4f", runs) for key in comparison.keys),
        of_span(choice.steps if choice else ()),
        of_span(choice.epochs if choice else ()),
        Cell(choice.rule, choice.rule) if choice else Cell(wording.UNKNOWN),
    ]
