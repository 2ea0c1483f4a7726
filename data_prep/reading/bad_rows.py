"""Rows that cannot be parsed together, told apart from those that can."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa

from data_prep.clicks.batches import ClickBatch
from data_prep.reading.public_logs import BadRows
from tron_jax.errors import UserError

Rows = list[bytes] | pa.Table  # lines, or rows of a table
Parse = Callable[[Rows, int], ClickBatch]  # of rows and the number of the first


def good_rows(parse: Parse, rows: Rows, first: int, bad: BadRows) -> ClickBatch | None:
    """Parses rows without those that cannot be parsed even by themselves.

    Args:
      parse: raises UserError where any row is malformed.
      rows: what cannot be parsed as a whole.
      first: the number of the first row, for messages.
      bad: is told of malformed rows, and raises if none is to be left out.

    Returns:
      The good rows; None where there are none.
    """
    good = list(_halved(parse, rows, first, bad))
    if not good:
        return None
    if isinstance(rows, pa.Table):
        return parse(pa.concat_tables(good), first)
    return parse([line for lines in good for line in lines], first)


def _halved(parse: Parse, rows: Rows, first: int, bad: BadRows) -> Iterator[Rows]:
    """Halves rows until what is malformed is alone; yields the rest in order."""
    try:
        parse(rows, first)
    except UserError as error:
        if len(rows) == 1:
            bad.add(str(error))
            return
        middle = len(rows) // 2
        yield from _halved(parse, rows[:middle], first, bad)
        yield from _halved(parse, rows[middle:], first + middle, bad)
    else:
        yield rows


def ahead(batches: Iterator[ClickBatch]) -> Iterator[ClickBatch]:
    """Yields batches, the next one being made in a thread meanwhile."""
    with ThreadPoolExecutor(1) as pool:
        pending = pool.submit(next, batches, None)
        while (batch := pending.result()) is not None:
            pending = pool.submit(next, batches, None)
            yield batch
