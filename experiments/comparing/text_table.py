"""A comparison for the terminal."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from unicodedata import east_asian_width

from experiments.comparing import difference_tables, settings_tables, wording
from experiments.comparing.comparison import Comparison
from experiments.comparing.table import Cell, Column, Table, beside
from tron_jax.evaluation.metrics import title

GAP = "  "


def format_comparison(comparison: Comparison, width: int | None = None) -> str:
    """Lays out a comparison as lines of text.

    Args:
      comparison: to be shown.
      width: of a line, in characters; that of the terminal where None. A table that is
        wider goes on below, its settings named again.

    Returns:
      What holds of the whole, the settings with all metrics where they fit and else
      those at 20, the rules that chose their steps, and the differences.
    """
    comparison = wording.cleaned(comparison)
    width = width or shutil.get_terminal_size((100, 24)).columns
    parts = [
        [line for line in (comparison.title, comparison.data) if line],
        [f"warning: {line}" for line in comparison.warnings],
        _settings(comparison, width),
        wording.rules(comparison) + wording.remarks(comparison) + _fields(comparison),
        *_differences(comparison, width),
        _claims(comparison, width),
    ]
    return "\n\n".join("\n".join(part) for part in parts if part)


def _settings(comparison: Comparison, width: int) -> list[str]:
    """The table with as much in it as fits, or what matters most, folded."""
    fields = not _names_say_all(comparison)
    costs = settings_tables.costs(comparison)
    for keys in (list(comparison.keys), settings_tables.at_20(comparison)):
        metrics = settings_tables.settings(comparison, keys, fields=fields)
        lines = _folded(beside(metrics, costs), width)
        if len(lines) <= len(comparison.settings) + 2:
            break
    return lines


def _fields(comparison: Comparison) -> list[str]:
    """Says in which fields settings differ, where these have no columns."""
    many = settings_tables.many_fields(comparison)
    return [f"they differ in {len(many)} fields: {', '.join(many)}"] if many else []


def _names_say_all(comparison: Comparison) -> bool:
    """Whether each setting's name spells its fields, so that columns only repeat."""
    fields = list({field for s in comparison.settings for field in s.fields})
    names = wording.shortened(fields)
    return all(
        f"{names[field]}={value}" in setting.name
        for setting in comparison.settings
        for field, value in setting.fields.items()
    )


def _differences(comparison: Comparison, width: int) -> Iterator[list[str]]:
    """A part for each of the main metrics."""
    for key in wording.main_keys(comparison):
        table = difference_tables.differences(comparison, key)
        said = {row[-1].text for row in table.rows}
        protocol = wording.protocol_title(comparison.protocol)
        heading = f"{title(key)}, {protocol}, {wording.compared(comparison)}"
        if said == {wording.SESSIONS_ONLY}:  # once for all
            heading += f" ({wording.SESSIONS_ONLY})"
            table = Table(table.columns[:-1], [row[:-1] for row in table.rows])
        yield [f"{heading}:", *_folded(table, width)]


def _claims(comparison: Comparison, width: int) -> list[str]:
    """Says what others found, and whether it holds."""
    if not comparison.claims:
        return []
    lines = _folded(difference_tables.claims(comparison), width)
    return ["what others found:", *lines]


def _folded(table: Table, width: int) -> list[str]:
    """Lays out a table in as many blocks as it takes, the first column in each."""
    if not table.rows:
        return []
    widths = [
        max(
            _width(cell)
            for cell in (column.heading, *(row[n].text for row in table.rows))
        )
        for n, column in enumerate(table.columns)
    ]
    lines: list[str] = []
    for block in _blocks(widths, width):
        if lines:
            lines.append("")
        lines += _laid_out(table, [0, *block], widths)
    return lines


def _blocks(widths: list[int], width: int) -> list[list[int]]:
    """Divides all columns but the first among lines of a width."""
    blocks: list[list[int]] = [[]]
    room = width - widths[0]
    left = room
    for n, needed in enumerate(widths[1:], start=1):
        if blocks[-1] and left < needed + len(GAP):
            blocks.append([])
            left = room
        blocks[-1].append(n)
        left -= needed + len(GAP)
    return blocks


def _laid_out(table: Table, chosen: list[int], widths: list[int]) -> list[str]:
    columns = [table.columns[n] for n in chosen]
    sizes = [widths[n] for n in chosen]
    lines = [_groups(columns, sizes)] if any(c.group for c in columns) else []
    rows = [[Cell(column.heading) for column in columns]]
    rows += [[row[n] for n in chosen] for row in table.rows]
    for row in rows:
        cells = [
            _padded(cell.text, size, right=column.number)
            for cell, column, size in zip(row, columns, sizes, strict=True)
        ]
        lines.append(GAP.join(cells).rstrip())
    return lines


def _groups(columns: list[Column], sizes: list[int]) -> str:
    """Names each group above the first of its columns."""
    line, at, before = "", 0, ""
    for column, size in zip(columns, sizes, strict=True):
        if column.group != before:
            name = _padded(
                column.group, size, right=column.number and len(column.group) < size
            )
            line = f"{line:<{at}}" + name
            before = column.group
        at += size + len(GAP)
    return line.rstrip()


def _width(text: str) -> int:
    return sum(2 if east_asian_width(c) in "WF" else 1 for c in text)


def _padded(text: str, size: int, *, right: bool) -> str:
    spaces = " " * (size - _width(text))
    return spaces + text if right else text + spaces
