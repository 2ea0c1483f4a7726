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
from experiments.comparing.pictures.picture import OTHERS, Picture
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
    drawn: dict[str, list[str]] = {}
    for path, picture in pictures.items():
        about = picture.about or picture.section
        drawn.setdefault(about, []).append(_image(path, picture))
    blocks = [
        *_answer(comparison, drawn),
        *_claims(comparison),
        *_settings(comparison),
        *(["## Pictures"] if drawn.get(OTHERS) or remark else []),
        *filter(None, [remark]),
        *drawn.get(OTHERS, []),
        *_slices(comparison, drawn),
        *_details(comparison),
    ]
    if comparison.commands:
        blocks += ["## Repeat it", fenced("\n".join(comparison.commands))]
    return "\n\n".join(blocks) + "\n"


def _image(path: str, picture: Picture) -> str:
    """Returns a picture, below its heading where no section has one for it."""
    heading = f"### {escaped(picture.heading)}\n\n" if picture.section == OTHERS else ""
    caption = f"\n\n{escaped(picture.caption)}" if picture.caption else ""
    return f"{heading}![{_alternative(picture.alt)}]({path}){caption}"


def _answer(comparison: Comparison, drawn: Mapping[str, list[str]]) -> Iterator[str]:
    """Yields what is compared, what the differences show, and the differences."""
    yield f"# {escaped(comparison.title)}"
    yield from filter(None, [escaped(comparison.data)])
    yield from _listed([f"**{escaped(line)}**" for line in comparison.warnings])
    if comparison.differences:
        yield "## What the differences show"
        said = wording.conclusions(comparison)
        yield from _listed([f"**{name}**: {escaped(words)}" for name, words in said])
        yield wording.reading(comparison)
    for key in wording.main_keys(comparison):
        yield f"### {title(key)}, {escaped(wording.compared(comparison))}"
        yield table(difference_tables.differences(comparison, key))
        yield from drawn.get(key, [])


def _claims(comparison: Comparison) -> Iterator[str]:
    """Yields what others found, and whether it holds."""
    if comparison.claims:
        yield "## What others found"
        yield escaped(wording.of_claims(comparison))
        yield table(difference_tables.claims(comparison))


def _settings(comparison: Comparison) -> Iterator[str]:
    yield "## Settings"
    yield table(settings_tables.settings(comparison, settings_tables.at_20(comparison)))
    yield wording.SPREAD
    notes = wording.rules(comparison) + wording.remarks(comparison)
    yield from _listed([escaped(line) for line in notes])
    yield "### Cost"
    yield table(settings_tables.costs(comparison))


def _slices(comparison: Comparison, drawn: Mapping[str, list[str]]) -> Iterator[str]:
    if comparison.slices:
        yield "## Slices"
        yield wording.of_slices(comparison)
    for by in slice_tables.kinds(comparison):
        yield f"### {escaped(slice_tables.heading(comparison, by))}"
        yield from drawn.get(by, [])
        yield table(slice_tables.of_kind(comparison, by))


def _details(comparison: Comparison) -> Iterator[str]:
    """Yields what is looked up rather than read."""
    yield "## In full"
    if settings_tables.many_fields(comparison):
        yield "### Fields that differ"
        yield table(settings_tables.fields(comparison))
    yield "### All metrics"
    yield table(settings_tables.metrics(comparison))
    yield "### Runs"
    yield table(settings_tables.runs(comparison))
    others = difference_tables.other_differences(comparison)
    if others.rows:
        yield f"### Other metrics, {escaped(wording.compared(comparison))}"
        yield table(others)


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
