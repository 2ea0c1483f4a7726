"""A table before it is text, Markdown or part of a page."""

from __future__ import annotations

from typing import NamedTuple

from experiments.comparing import wording
from experiments.comparing.comparison import Figure


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


def beside(left: Table, right: Table) -> Table:
    """One table of two with the same rows, named once."""
    rows = [a + b[1:] for a, b in zip(left.rows, right.rows, strict=True)]
    return Table(left.columns + right.columns[1:], rows)


def of_figure(figure: Figure | None, form: str, runs: int | None = None) -> Cell:
    """Shows a mean and what one run deviates from it.

    Args:
      figure: to be shown.
      form: of its numbers.
      runs: that it should be of; where it is of fewer, that is shown as well.
    """
    text = wording.spread(figure, form)
    if figure is not None and runs is not None and figure.runs < runs:
        text += f" ({figure.runs} of {runs} runs)"
    return Cell(text, figure.mean if figure else None)


def of_span(values: tuple) -> Cell:
    """Shows the value that all runs have, or from where to where they go."""
    return Cell(wording.span(values, ",.10g"), max(values, default=None))
