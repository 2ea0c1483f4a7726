"""A comparison as one page that needs no network."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterable, Iterator, Mapping

from experiments.comparing import (
    difference_tables,
    settings_tables,
    slice_tables,
    wording,
)
from experiments.comparing.comparison import Comparison
from experiments.comparing.page_parts import SCRIPT, STYLE
from experiments.comparing.pictures.picture import (
    DIFFERENCES,
    OTHERS,
    SLICES,
    Picture,
)
from experiments.comparing.table import Cell, Column, Table
from tron_jax.evaluation.metrics import title

# Nothing is fetched, whatever a name in the page may hold.
POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "img-src data:; base-uri 'none'; form-action 'none'"
)


def render(
    comparison: Comparison, pictures: Mapping[Picture, str], remark: str | None
) -> str:
    """Returns the text of an HTML file.

    Args:
      comparison: to be shown; ``wording.cleaned``.
      pictures: each with its SVG element.
      remark: why there are no pictures; None where there are.
    """
    return "\n".join(
        [
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
            '<link rel="icon" href="data:,">',
            f"<title>{html.escape(comparison.title)}</title>",
            f"<style>{STYLE}</style>\n</head>\n<body>\n<main>",
            *_body(comparison, pictures, remark),
            f"</main>\n<script>{SCRIPT}</script>\n</body>\n</html>\n",
        ]
    )


def _body(
    comparison: Comparison, pictures: Mapping[Picture, str], remark: str | None
) -> Iterator[str]:
    yield _head(comparison)
    yield from _answer(comparison, pictures)
    yield from _claims(comparison)
    yield "<h2>Settings</h2>"
    content = settings_tables.settings(comparison, settings_tables.at_20(comparison))
    yield table(content, "Settings")
    notes = [wording.SPREAD, *wording.rules(comparison), *wording.remarks(comparison)]
    yield _list(notes, "notes")
    yield "<h3>Cost</h3>"
    yield table(settings_tables.costs(comparison), "Cost")
    others = [_figure(p, svg) for p, svg in pictures.items() if p.section == OTHERS]
    if others or remark:
        yield "<h2>Pictures</h2>"
    if remark:
        yield f"<p>{html.escape(remark)}</p>"
    if others:
        yield f'<div class="pictures">{"".join(others)}</div>'
    yield from _slices(comparison, pictures)
    yield from _details(comparison)
    if comparison.commands:
        yield "<h2>Repeat it</h2>"
        commands = "\n".join(map(_command, comparison.commands))
        yield f"<pre><code>{commands}</code></pre>"


def _head(comparison: Comparison) -> str:
    data = f"<p>{html.escape(comparison.data)}</p>" if comparison.data else ""
    warnings = _list(comparison.warnings, "warnings")
    return f"<header><h1>{html.escape(comparison.title)}</h1>{data}</header>{warnings}"


def _answer(comparison: Comparison, pictures: Mapping[Picture, str]) -> Iterator[str]:
    """Yields the differences, and before them what they show."""
    if not comparison.differences:
        return
    drawn = {
        p.about: _figure(p, svg, heading=False)
        for p, svg in pictures.items()
        if p.section == DIFFERENCES
    }
    yield "<h2>What the differences show</h2>"
    said = wording.conclusions(comparison)
    lines = [f"<strong>{name}</strong>: {html.escape(words)}" for name, words in said]
    yield f'<ul class="answer"><li>{"</li><li>".join(lines)}</li></ul>'
    for key in wording.main_keys(comparison):
        heading = f"{title(key)}, {wording.compared(comparison)}"
        yield f'<h3>{html.escape(heading)}</h3><div class="pair">'
        yield table(difference_tables.differences(comparison, key), heading)
        yield f"{drawn.get(key, '')}</div>"
    yield f'<p class="reading">{html.escape(wording.reading(comparison))}</p>'


def _claims(comparison: Comparison) -> Iterator[str]:
    """Yields what others found, and whether it holds."""
    if comparison.claims:
        yield "<h2>What others found</h2>"
        yield f'<p class="reading">{html.escape(wording.of_claims(comparison))}</p>'
        yield table(difference_tables.claims(comparison), "What others found")


def _slices(comparison: Comparison, pictures: Mapping[Picture, str]) -> Iterator[str]:
    """Yields the pictures of slices, what holds of all said once, and their tables."""
    if not comparison.slices:
        return
    drawn = {p: svg for p, svg in pictures.items() if p.section == SLICES}
    said = [
        wording.of_slices(comparison),
        *dict.fromkeys(picture.caption for picture in drawn),
    ]
    yield "<h2>Slices</h2>"
    yield f'<p class="reading">{html.escape(" ".join(said))}</p>'
    if drawn:
        figures = [_figure(p._replace(caption=""), svg) for p, svg in drawn.items()]
        yield f'<div class="pictures">{"".join(figures)}</div>'
    for by in slice_tables.kinds(comparison):
        heading = f"Table: {slice_tables.heading(comparison, by)}"
        yield _folded(heading, slice_tables.of_kind(comparison, by))


def _details(comparison: Comparison) -> Iterator[str]:
    """Yields what is looked up rather than read, folded."""
    yield "<h2>In full</h2>"
    if settings_tables.many_fields(comparison):
        yield _folded("Fields that differ", settings_tables.fields(comparison))
    yield _folded("All metrics", settings_tables.metrics(comparison))
    yield _folded("Runs", settings_tables.runs(comparison))
    others = difference_tables.other_differences(comparison)
    if others.rows:
        heading = f"Other metrics, {wording.compared(comparison)}"
        yield _folded(heading, others)


def _folded(heading: str, content: Table) -> str:
    summary = f"<summary>{html.escape(heading)}</summary>"
    return f"<details>{summary}{table(content, heading)}</details>"


def table(content: Table, label: str) -> str:
    """Returns a table in a box that scrolls; the script makes its heads sort it."""
    named = f'aria-label="{html.escape(label)}"'
    box = f'<div class="box" role="region" tabindex="0" {named}>'
    head = _groups(content.columns) + _row(_head_cell(c) for c in content.columns)
    body = "\n".join(_row(_cells(row, content.columns)) for row in content.rows)
    return f"{box}<table>\n<thead>{head}</thead>\n<tbody>{body}</tbody></table></div>"


def _groups(columns: list[Column]) -> str:
    """Returns a row that heads neighbouring columns together, where any are."""
    if not any(column.group for column in columns):
        return ""
    spans: list[tuple[str, int]] = []
    for column in columns:
        if spans and spans[-1][0] == column.group:
            spans[-1] = (column.group, spans[-1][1] + 1)
        else:
            spans.append((column.group, 1))
    return _row(
        f'<th class="group" colspan="{n}" scope="colgroup">{html.escape(name)}</th>'
        if name
        else f'<td colspan="{n}"></td>'
        for name, n in spans
    )


def _row(cells: Iterable[str]) -> str:
    return f"<tr>{''.join(cells)}</tr>"


def _head_cell(column: Column) -> str:
    kind = ' class="number"' if column.number else ""
    meaning = f' title="{html.escape(column.meaning)}"' if column.meaning else ""
    return f'<th scope="col"{kind}{meaning}>{html.escape(column.heading)}</th>'


def _cells(row: list[Cell], columns: list[Column]) -> Iterator[str]:
    """Yields the cells of a row, of which the first names it."""
    for n, (cell, column) in enumerate(zip(row, columns, strict=True)):
        name, scope = ("td", "") if n else ("th", ' scope="row"')
        kind = ' class="number"' if column.number else ""
        text = _shown(cell) if n else _breakable(cell.text)
        yield f"<{name}{scope}{kind}{_sorted_by(cell)}>{text}</{name}>"


def _sorted_by(cell: Cell) -> str:
    value = cell.value
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    return f' data-value="{html.escape(str(value))}"'


def _shown(cell: Cell) -> str:
    """Returns the text of a cell, with less ink for what a mean may deviate by."""
    text = html.escape(cell.text)
    if cell.strong:
        return f"<strong>{text}</strong>"
    mean, sign, deviation = text.partition(" ± ")
    soft = f' <span class="soft">± {deviation}</span>' if sign else ""
    return mean + soft


def _command(command: str) -> str:
    """Returns a command whose lines break between its words alone."""
    words = (f"<span>{html.escape(word)}</span>" for word in command.split(" "))
    return " ".join(words)


def _breakable(text: str) -> str:
    """Returns a name that may go on in a new line after each of its parts."""
    return re.sub(r"([,/ ])", r"\1<wbr>", html.escape(text))


def _figure(picture: Picture, svg: str, *, heading: bool = True) -> str:
    """Returns a picture with its words."""
    above = f"<h3>{html.escape(picture.heading)}</h3>" if heading else ""
    caption = html.escape(picture.caption)
    below = f"<figcaption>{caption}</figcaption>" if caption else ""
    return (
        f'<figure>{above}<div class="picture" role="img" '
        f'aria-label="{html.escape(picture.alt)}">{svg}</div>{below}</figure>'
    )


def _list(lines: tuple[str, ...] | list[str], kind: str) -> str:
    if not lines:
        return ""
    items = "".join(f"<li>{html.escape(line)}</li>" for line in lines)
    return f'<ul class="{kind}">{items}</ul>'
