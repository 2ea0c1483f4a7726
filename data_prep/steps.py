"""The steps of the paper's preparation, as pure functions over Arrow tables.

A table holds one row an event in raw order: ``session`` and ``item`` (int32 codes from
0, each in the order in which its ids first appear in the log), ``time`` (``TIME``)
where known, ``order`` (a number within the session) where given. Tables of one data set
share their item codes.

Source: TRON (arXiv 2307.14906) §2.1 and §3, and what its authors published.
"""

from typing import NamedTuple

import numpy as np
import pyarrow as pa

from data_prep.readers import Log

DAY = 86_400_000_000  # microseconds


class Arranged(NamedTuple):
    """Sessions in the order of a prepared set, each with its events in order.

    items: [events] int32 codes; offsets: [sessions+1] int32; sessions: [sessions] int32
    codes; start_time: [sessions] ``TIME``, null where the log has no times.
    """

    items: np.ndarray
    offsets: np.ndarray
    sessions: np.ndarray
    start_time: pa.Array


def share_items(train: Log, test: Log) -> tuple[Log, Log]:
    """Gives two logs the same item codes: train's, then those that only test has."""
    ids, others = train.item_ids, test.item_ids
    if not len(others):
        return train, test._replace(item_ids=ids)
    if ids.type != others.type:
        ids, others = ids.cast(pa.string()), others.cast(pa.string())
    both = pa.chunked_array([ids, others]).dictionary_encode()
    ids = both.chunk(1).dictionary
    codes = both.chunk(1).indices.take(test.events["item"])
    position = test.events.schema.get_field_index("item")
    events = test.events.set_column(position, "item", codes)
    return train._replace(item_ids=ids), Log(events, test.session_ids, ids)


def keep_long_sessions(events: pa.Table, min_length: int) -> pa.Table:
    """Drops the sessions of fewer than ``min_length`` events."""
    sessions = events["session"].to_numpy()
    return events.filter(pa.array(np.bincount(sessions)[sessions] >= min_length))


def keep_supported_items(
    train: pa.Table, test: pa.Table, min_support: int
) -> tuple[pa.Table, pa.Table]:
    """Drops events of items with too few events in train and test together, once."""
    items = [part["item"].to_numpy() for part in (train, test)]
    support = np.bincount(np.concatenate(items))
    masks = [pa.array(support[codes] >= min_support) for codes in items]
    return train.filter(masks[0]), test.filter(masks[1])


def keep_items_of(train: pa.Table, test: pa.Table) -> pa.Table:
    """Drops the test events of items that train lacks."""
    support = np.bincount(train["item"].to_numpy())
    items = test["item"].to_numpy()
    known = items < len(support)
    known[known] = support[items[known]] > 0
    return test.filter(pa.array(known))


def split_last_days(events: pa.Table, days: float) -> tuple[pa.Table, pa.Table]:
    """Splits off the sessions whose last event lies in the log's last days.

    Returns:
      train, and test: the sessions whose last event is at or after the latest event of
      the log minus ``days`` · 86,400 s.
    """
    if not events.num_rows:
        return events, events
    sessions = events["session"].to_numpy()
    times = events["time"].cast(pa.int64()).to_numpy()
    last = np.zeros(sessions.max() + 1, np.int64)
    np.maximum.at(last, sessions, times)
    late = (last >= times.max() - round(days * DAY))[sessions]
    return events.filter(pa.array(~late)), events.filter(pa.array(late))


def arrange(events: pa.Table) -> Arranged:
    """Orders sessions by start time and events within them, by stable sorts.

    A session starts at its earliest event. Sessions that start together stay in raw
    order, that of their first row in the log, filtered or not; so do all sessions where
    there are no times. Events are ordered by ``order``, else by ``time``, and in raw
    order where those are equal or absent.
    """
    sessions = events["session"].to_numpy()
    codes, lengths = np.unique(sessions, return_counts=True)
    start = pa.nulls(len(codes), pa.timestamp("us", tz="UTC"))
    by_start = np.arange(len(codes))
    rank = np.zeros(codes.max(initial=-1) + 1, np.int32)
    if "time" in events.column_names:
        times = events["time"].cast(pa.int64()).to_numpy()
        earliest = np.full(len(rank), np.iinfo(np.int64).max)
        np.minimum.at(earliest, sessions, times)
        by_start = np.argsort(earliest[codes], kind="stable")
        start = pa.array(earliest[codes[by_start]]).cast(start.type)
    codes = codes[by_start]
    rank[codes] = np.arange(len(codes))
    names = [name for name in ("order", "time") if name in events.column_names]
    keys = [rank[sessions]]
    if names:
        within = events[names[0]]
        if names[0] == "time":
            within = within.cast(pa.int64())
        keys.insert(0, within.to_numpy())
    order = np.lexsort(keys)
    offsets = np.zeros(len(codes) + 1, np.int32)
    np.cumsum(lengths[by_start], out=offsets[1:])
    return Arranged(events["item"].to_numpy()[order], offsets, codes, start)


def number_items(
    train: Arranged, test: Arranged
) -> tuple[Arranged, Arranged, pa.Array]:
    """Numbers items from 1 by first appearance in the arranged train sessions.

    Args:
      train: arranged sessions.
      test: arranged sessions, of items that occur in train.

    Returns:
      train and test with the new numbers, and [num_items] the code that item 1, 2, …
      had before.
    """
    old = pa.array(train.items).unique()
    codes = old.to_numpy()
    number = np.zeros(codes.max(initial=-1) + 1, np.int32)
    number[codes] = np.arange(1, len(codes) + 1)
    renumbered = [part._replace(items=number[part.items]) for part in (train, test)]
    return renumbered[0], renumbered[1], old
