"""The steps of the paper's preparation, as pure functions over Arrow tables.

A table holds one row an event in raw order: ``session`` (int32 code from 0, in the
order in which its ids first appear), ``item`` (int32 code), ``time`` (``TIME``) where
known, ``order`` (a number within the session, or its first half, with ``order_rest``)
where given. Tables of one data set share their item codes; all events of a session are
in one table.

Source: TRON (arXiv 2307.14906) §2.1 and §3, and what its authors published.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from data_prep.clicks.batches import TIME
from data_prep.pipeline.parts import ORDER_COLUMNS
from data_prep.pipeline.split import first_and_last


class Arranged(NamedTuple):
    """Sessions in the order of a prepared set, each with its events in order.

    items: [events] int32 codes; lengths: [sessions] int32; sessions: [sessions] int32
    codes; start_time: [sessions] ``TIME``, null where the log has no times.
    """

    items: np.ndarray
    lengths: np.ndarray
    sessions: np.ndarray
    start_time: pa.Array


def count_items(events: pa.Table, num_items: int) -> np.ndarray:
    """Counts the events of each item code, [num_items] int64."""
    return np.bincount(events["item"].to_numpy(), minlength=num_items)


def keep_long_sessions(events: pa.Table, min_length: int) -> pa.Table:
    """Drops the sessions of fewer than ``min_length`` events."""
    sessions = events["session"].to_numpy()
    return _keep(events, (np.bincount(sessions) >= min_length)[sessions])


def keep_items(events: pa.Table, kept: np.ndarray) -> pa.Table:
    """Drops the events of items whose code is not marked in ``kept``."""
    return _keep(events, kept[events["item"].to_numpy()])


def _keep(events: pa.Table, kept: np.ndarray) -> pa.Table:
    return events if kept.all() else events.filter(pa.array(kept))


def arrange(events: pa.Table) -> Arranged:
    """Orders sessions by start time and events within them, by stable sorts.

    A session starts at its earliest event. Sessions that start together stay in raw
    order, that of their codes; so do all sessions where there are no times. Events are
    ordered by ``order``, else by ``time``, and in raw order where those are equal or
    absent.
    """
    sessions = events["session"].to_numpy()
    lengths = np.bincount(sessions)
    codes = np.flatnonzero(lengths)
    start = pa.nulls(len(codes), TIME)
    if "time" in events.column_names:
        earliest = first_and_last(events)[0][codes]
        by_start = np.argsort(earliest, kind="stable")
        start = pa.array(earliest[by_start]).cast(TIME)
        codes = codes[by_start]
    rank = np.zeros(len(lengths), np.int64)
    rank[codes] = np.arange(len(codes))
    within = [
        events[name].to_numpy() for name in ORDER_COLUMNS if name in events.column_names
    ]
    if not within and "time" in events.column_names:
        within = [events["time"].cast(pa.int64()).to_numpy()]
    order = _sort(rank[sessions], within)
    items = events["item"].to_numpy()[order]
    lengths = lengths[codes].astype(np.int32)
    return Arranged(items, lengths, codes.astype(np.int32), start)


def _sort(rank: np.ndarray, within: Sequence[np.ndarray]) -> np.ndarray:
    """Returns the stable order by ``rank``, then by each of ``within``.

    Sorting plain int64 is many times faster than a stable sort of indices, so a row's
    index is made part of the number that is sorted.
    """
    order = _stable_order(rank)
    if not within or not len(rank):
        return order
    rank, (first, *others) = rank[order], [values[order] for values in within]
    if others or not np.issubdtype(first.dtype, np.integer):
        return order[np.lexsort((*others[::-1], first, rank))]
    if not ((first[1:] < first[:-1]) & (rank[1:] == rank[:-1])).any():
        return order
    starts = np.flatnonzero(np.diff(rank, prepend=-1))
    lowest = np.repeat(
        np.minimum.reduceat(first, starts), np.diff(starts, append=len(rank))
    )
    # What int64 cannot hold of a difference, uint64 can: nothing overflows.
    above = first.view(np.uint64) - lowest.view(np.uint64)
    bits = int(above.max()).bit_length()
    if int(rank[-1]).bit_length() + bits > 63:
        return order[np.lexsort((first, rank))]
    keys = (rank << bits) | above.view(np.int64)
    sorted_order = np.argsort(keys)  # equal ones in any order, set right below
    keys = keys[sorted_order]
    tied = np.cumsum(np.diff(keys, prepend=keys[0]) != 0)
    return order[_packed_sort(tied, sorted_order)]


def _stable_order(rank: np.ndarray) -> np.ndarray:
    """Like ``np.argsort(rank, kind="stable")``, for ranks below 2³¹."""
    if not (rank[1:] < rank[:-1]).any():
        return np.arange(len(rank))
    return _packed_sort(rank, np.arange(len(rank)))


def _packed_sort(keys: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """Sorts indices (below 2³²) by key (below 2³¹), then by themselves."""
    return np.sort((keys << 32) | indices) & 0xFFFFFFFF
