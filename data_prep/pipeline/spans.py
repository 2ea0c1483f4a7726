"""How long the sessions of a log last, and how large they are, before any filter."""

from typing import NamedTuple

import numpy as np

from data_prep.clicks.batches import DAY
from data_prep.pipeline.parts import Part
from data_prep.pipeline.split import first_and_last


class Spans(NamedTuple):
    """Sums over the sessions of two events or more; ``largest`` is of any session.

    days_long: how many last more than a day; longest: microseconds of the longest;
    largest: most events of one, of the id ``largest_id``.
    """

    sessions: int = 0
    days_long: int = 0
    longest: int = 0
    events: int = 0
    largest: int = 0
    largest_id: object = None


def add_part(before: Spans, part: Part) -> Spans:
    """Adds the sessions of a part, none of which were in another."""
    if not part.events.num_rows:
        return before
    lengths = np.bincount(part.events["session"].to_numpy())
    several = lengths > 1
    spans = np.zeros(len(lengths), np.int64)
    if "time" in part.events.column_names:
        first, last = first_and_last(part.events)
        spans = np.where(several, last - first, 0)
    most = int(lengths.argmax())
    largest, largest_id = before.largest, before.largest_id
    if lengths[most] > largest:
        largest, largest_id = int(lengths[most]), part.session_ids[most].as_py()
    return Spans(
        before.sessions + int(several.sum()),
        before.days_long + int((spans > DAY).sum()),
        max(before.longest, int(spans.max())),
        before.events + part.events.num_rows,
        largest,
        largest_id,
    )
