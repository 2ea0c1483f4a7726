"""A comparison in the Markdown that GitHub shows, for an issue or a paper's notes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from experiments.comparing import (
    difference_tables,
    settings_tables,
    slice_tables,
    wording,
)
from experiments.comparing.comparison import Comparison
from experiments.comparing.pictures.picture import Picture
from experiments.comparing.table import Table
from tron_jax.evaluation.metrics import title


def render(
    comparison: Comparison, pictures: Mapping[str, Picture], remark: str | None
) -> str:
    """Returns the text of a Markdown file.

    Args:
      comparison: to be shown; ``wording.cleaned``.
      pictures: by the path of their file, from where the text will be.
      remark: why there are no pictures; None where there are.
    """
    return "\n\n".join(_blocks(comparison, pictures, remark)) + "\n"


def _blocks(
    comparison: Comparison, pictures: Mapping[str, Picture], remark: str | None
) -> Iterator[str]:
    yield f"# {escaped(comparison.title)}"
    yield from filter(None, [escaped(comparison.data)])
    yield from _listed([f"**{escaped(line)}**" for line in comparison.warnings])
    if comparison.differences:
        yield "## What the differences show"
        said = wording.conclusions(comparison)
        yield from _listed([f"**{name}**: {escaped(words)}" for name, words in said])
        yield wording.READING
    for key in wording.main_keys(comparison):
        yield f"### {title(key)}, {escaped(wording.compared(comparison))}"
        yield table(difference_tables.differences(comparison, key))
    yield "## Settings"
    yield table(settings_tables.settings(comparison, settings_tables.at_20(comparison)))
    yield wording.SPREAD
    notes = wording.rules(comparison) + wording.remarks(comparison)
    yield from _listed([escaped(line) for line in notes])
    yield "### Cost"
    yield table(settings_tables.costs(comparison))
    if pictures or remark:
        yield "## Pictures"
        yield from filter(None, [remark])
    for path, picture in pictures.items():
        yield f"### {escaped(picture.heading)}"
        yield f"![{_alternative(picture.alt)}]({path})"
        yield from filter(None, [escaped(picture.caption)])
    yield from _details(comparison)
    if comparison.commands:
        yield "## Repeat it"
        yield fenced("\n".join(comparison.commands))


def _details(comparison: Comparison) -> Iterator[str]:
    """Yields what is looked up rather than read."""
    if settings_tables.many_fields(comparison):
        yield "## Fields that differ"
        yield table(settings_tables.fields(comparison))
    yield "## All metrics"
    yield table(settings_tables.metrics(comparison))
    others = difference_tables.other_differences(comparison)
    if others.rows:
        yield f"### Other metrics, {escaped(wording.compared(comparison))}"
        yield table(others)
    for by in slice_tables.kinds(comparison):
        key = next(part.key for part in comparison.slices if part.by == by)
        yield f"## {title(key)} by {escaped(by)}"
        yield table(slice_tables.of_kind(comparison, by))


def _listed(lines: list[str]) -> list[str]:
    return ["\n".join(f"- {line}" for line in lines)] if lines else []


def table(content: Table) -> str:
    """Returns the lines of a table, a protocol's name before each of its columns."""
    named = [f"{c.group} {c.heading}".strip() for c in content.columns]
    lines = [
        [escaped(name) for name in named],
        ["--:" if column.number else ":--" for column in content.columns],
        *([escaped(cell.text) for cell in row] for row in content.rows),
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def escaped(text: str) -> str:
    """Returns text in which nothing is markup, neither Markdown nor HTML.

    What would be none anyway stays as it is, for who reads the file itself.
    """
    text = re.sub(r"([\\`*|~$]|\](?=[(\[]))", r"\\\1", text)
    text = re.sub(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", r"\\_", text)
    text = re.sub(r"^(?=[#>]|[+-] )", r"\\", text)
    text = re.sub(r"&(?=#?\w+;)", "&amp;", text)
    return re.sub(r"<(?=[A-Za-z/!?])", "&lt;", text)


def _alternative(text: str) -> str:
    return re.sub(r"([\[\]])", r"\\\1", escaped(text).replace("\\]", "]"))


def fenced(text: str) -> str:
    """Returns text as a block of code, by a fence that it does not hold."""
    longest = max((len(ticks) for ticks in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}\n{text}\n{fence}"
