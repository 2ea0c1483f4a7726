"""Parts of the predictions on which settings may differ in another way than on all."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from experiments.comparing.test_parts import Shared
from tron_jax.data.sessions import PreparedData, catalogue_of

_ENDS = (2, 3, 4, 5, 7, 10, 20)  # last positions and lengths of a part
_TENTHS = 10


class Division(NamedTuple):
    """The predictions divided by something.

    Attributes:
      by: what.
      names: of the parts.
      part: [predictions] number of the part.
    """

    by: str
    names: tuple[str, ...]
    part: np.ndarray


def divide(shared: Shared, data: PreparedData, tied: np.ndarray) -> list[Division]:
    """Divides predictions in all ways that are shown.

    Args:
      shared: the predictions.
      data: the set that they are of.
      tied: [predictions] whether an item scored as high as the label, in any run.
    """
    items, offsets = data.test.items, data.test.offsets.astype(np.int64)
    session = np.searchsorted(offsets, shared.label, side="right") - 1
    position = shared.label - offsets[session] + 1
    length = np.diff(offsets)[session]
    label = items[shared.label]
    tenth = tenths(catalogue_of(data).train_events)[label - 1]
    popularity = ("1, most clicked", *map(str, range(2, _TENTHS)), "10, least clicked")
    again = clicked_before(items, offsets)[shared.label]
    same = label == items[shared.label - 1]
    return [
        Division("position of the label in the session", *_ranges(position)),
        Division("clicks in the session", *_ranges(length)),
        Division(
            "popularity of the label, by tenths of train clicks", popularity, tenth
        ),
        _either("label and the clicks before", "new", "among them", again),
        _either("label and the last click", "another item", "the same item", same),
        _either("ties with the label", "none", "in some run", tied),
    ]


def tenths(train_events: np.ndarray) -> np.ndarray:
    """Cuts items, from the most clicked on, into ten parts of equally many clicks.

    Args:
      train_events: [items] clicks of train.

    Returns:
      [items] number of the part, from 0; an item is where its first click falls.
    """
    order = np.argsort(-train_events, kind="stable")
    before = np.cumsum(train_events[order]) - train_events[order]
    part = np.empty(len(order), np.int64)
    total = max(int(train_events.sum()), 1)
    part[order] = np.minimum(before * _TENTHS // total, _TENTHS - 1)
    return part


def clicked_before(items: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Marks clicks on an item that was clicked before in the session.

    Args:
      items: [events] of all sessions.
      offsets: [sessions + 1] first event of each.

    Returns:
      [events] bool.
    """
    session = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    order = np.lexsort((items, session))  # stable: of equal ones the first comes first
    one, other = order[:-1], order[1:]
    again = np.zeros(len(items), bool)
    again[other] = (items[one] == items[other]) & (session[one] == session[other])
    return again


def _ranges(values: np.ndarray) -> tuple[tuple[str, ...], np.ndarray]:
    starts = [2, *(end + 1 for end in _ENDS[:-1])]
    names = [
        str(end) if start == end else f"{start} to {end}"
        for start, end in zip(starts, _ENDS, strict=True)
    ]
    names.append(f"{_ENDS[-1] + 1} and more")
    return tuple(names), np.searchsorted(_ENDS, values)


def _either(by: str, no: str, yes: str, is_so: np.ndarray) -> Division:
    return Division(by, (no, yes), is_so.astype(np.int64))
