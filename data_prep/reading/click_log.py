"""A raw log as its readers offer it, whatever its format."""

import contextlib
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

from data_prep.clicks.batches import ClickBatch
from data_prep.reading.bad_rows import BadRows

_T = TypeVar("_T")


class ReadSizes(NamedTuple):
    """How much of a log is read at once: bytes of text, or rows of Parquet."""

    text_bytes: int = 1 << 25
    parquet_rows: int = 1 << 20


class TextIdsError(Exception):
    """Ids were read as whole numbers, and some are not."""


class ClickLog(Protocol):
    """A raw log that is read batch by batch.

    path: the file or folder; rows: how many it has, rather too many than too few;
    id_bytes: what the id of a session takes, about; text_items: whether the ids of
    items are text, not whole numbers, as far as the beginning of the log shows.
    """

    path: Path
    rows: int
    id_bytes: int
    text_items: bool

    def batches(self, text: bool, bad: BadRows) -> Generator[ClickBatch]:
        """Yields the log's clicks in raw order; each call begins anew.

        Args:
          text: whether to read the ids of items as text even where they are numbers.
          bad: what to do with malformed rows.

        Raises:
          UserError: where the log is malformed.
          TextIdsError: where ids turn out to be text that were taken for numbers.
        """
        ...

    def progress(self) -> tuple[str, int, int]:
        """Returns what is counted (plural), how many were read, and of how many."""
        ...

    def describe(self) -> list[dict[str, object]]:
        """Returns name, size and hash of each file, once they were read."""
        ...


def read_ahead(source: Generator[_T]) -> Generator[_T]:
    """Yields what ``source`` does, while a thread already makes the next one.

    However this ends, ``source`` is closed in the end. A generator with a thread of
    its own must not be left to the garbage collector, which may run while Python holds
    the lock that the end of a thread waits for.
    """
    with contextlib.closing(source), ThreadPoolExecutor(1) as pool:
        pending = pool.submit(next, source, None)
        while (ready := pending.result()) is not None:
            pending = pool.submit(next, source, None)
            yield ready
