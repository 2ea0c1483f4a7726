"""Sessions of a log as a model knows them, a few at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from data_prep.programs.raw_sessions import RawSessions
from tron_jax.recommending.exclusions import Ragged


class Clicks(NamedTuple):
    """Clicks of some sessions, without those on items that the model does not know.

    Attributes:
      ids: [sessions] raw ids of the sessions.
      lengths: [sessions] clicks that each has in the log.
      known: [known sessions] which of them have a click that the model knows.
      items: [clicks] int32 the model's numbers, of the known sessions one by one.
      offsets: [known sessions + 1] where each of those begins.
      event: [clicks] int32 which click of its session each is, counted from 1.
    """

    ids: pa.Array
    lengths: np.ndarray
    known: np.ndarray
    items: np.ndarray
    offsets: np.ndarray
    event: np.ndarray


def slices(sessions: RawSessions, numbers: np.ndarray, most: int) -> Iterator[Clicks]:
    """Divides sessions of a log into parts of about equally many clicks.

    Args:
      sessions: of the log.
      numbers: [items of the log] int32 the model's numbers; 0 = not known.
      most: clicks of a part, unless one session has more.
    """
    offsets, first = sessions.offsets, 0
    while first < len(offsets) - 1:
        last = int(np.searchsorted(offsets, offsets[first] + most, "right")) - 1
        last = max(last, first + 1)
        yield _of(sessions, numbers, first, last)
        first = last


def _of(sessions: RawSessions, numbers: np.ndarray, first: int, last: int) -> Clicks:
    bounds = sessions.offsets[first : last + 1]
    lengths = np.diff(bounds)
    items = numbers[sessions.items[bounds[0] : bounds[-1]]]
    session = np.repeat(np.arange(len(lengths)), lengths)
    event = np.arange(len(items)) - (bounds[:-1] - bounds[0])[session] + 1
    kept = items > 0
    counts = np.bincount(session[kept], minlength=len(lengths))
    known = np.flatnonzero(counts)
    return Clicks(
        ids=sessions.ids.slice(first, last - first),
        lengths=lengths,
        known=known,
        items=items[kept],
        offsets=np.concatenate([[0], np.cumsum(counts[known])]),
        event=event[kept].astype(np.int32),
    )


def seen(clicks: Clicks, *, every_event: bool) -> Ragged:
    """The items that a session has clicked, before each prediction.

    Args:
      clicks: of sessions.
      every_event: after each click; else after the last one of each session.
    """
    counts = np.diff(clicks.offsets)
    session = np.repeat(np.arange(len(counts)), counts)
    pairs = np.stack([session, clicks.items], axis=1)
    _, at = np.unique(pairs, axis=0, return_index=True)
    is_new = np.zeros(len(clicks.items), bool)
    is_new[at] = True
    # Distinct ones in the order of their first clicks, so that those before any click
    # are the first of its session.
    end = np.cumsum(is_new)
    begins = np.concatenate([[0], end])[clicks.offsets[:-1]]
    starts = begins[session] if every_event else begins
    ends = end if every_event else end[clicks.offsets[1:] - 1]
    return Ragged(clicks.items[is_new], starts, ends)
