"""A raw log as its readers offer it, whatever its format."""

import contextlib
from collections.abc import Generator, Mapping
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


class Kinds(NamedTuple):
    """What the columns of a log hold, which decides how all of their values are kept.

    text_sessions, text_items: some ids are no int64, so all are text; wide_order: some
    values of the order are no int64, so all are float64; exact_order: and some are no
    float64 either, so all are pairs of them.
    """

    text_sessions: bool = False
    text_items: bool = False
    wide_order: bool = False
    exact_order: bool = False

    def __or__(self, other: "Kinds") -> "Kinds":
        """What two logs, or two parts of one, hold together."""
        return Kinds(*(a or b for a, b in zip(self, other, strict=True)))


class WiderKindsError(Exception):
    """Values turned up that are kept otherwise than those read so far."""

    def __init__(self, kinds: Kinds) -> None:
        """Knows what they are."""
        super().__init__(kinds)
        self.kinds = kinds


class ClickLog(Protocol):
    """A raw log that is read batch by batch.

    path: the file or folder; rows: how many it has, rather too many than too few;
    id_bytes: what the id of a session takes, about; kinds: of its columns, as far as
    the beginning of the log shows; ordered_by_time: whether the order is one of times,
    None where nothing shows; types: of the needed columns, in words, as its first file
    has them.
    """

    path: Path
    rows: int
    id_bytes: int
    kinds: Kinds
    ordered_by_time: bool | None
    types: Mapping[str, str]

    def batches(self, kinds: Kinds, bad: BadRows) -> Generator[ClickBatch]:
        """Yields the log's clicks in raw order; each call begins anew.

        Args:
          kinds: how to keep the values of each column.
          bad: what to do with malformed rows.

        Raises:
          UserError: where the log is malformed.
          WiderKindsError: where values cannot be kept so.
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
