"""Some sessions at a time, in the order of a prepared set."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from tron_jax.data.sessions import Sessions, select

_SESSIONS = 1 << 18  # of an opened set, looked at together


class SessionChunk(NamedTuple):
    """Some sessions of train or test.

    items: [events] int32, the sessions laid end to end; lengths: [sessions] their
    events; ids: [sessions] int64 or string, the same type in every chunk; start_time:
    [sessions] ``TIME``, all null in every chunk or none in any.
    """

    items: np.ndarray
    lengths: np.ndarray
    ids: pa.Array
    start_time: pa.Array


def chunks_of(sessions: Sessions) -> Iterator[SessionChunk]:
    """Yields the sessions of an opened set."""
    for start in range(0, sessions.num_sessions, _SESSIONS):
        part = select(sessions, start, min(start + _SESSIONS, sessions.num_sessions))
        items = part.items[part.offsets[0] : part.offsets[-1]]
        yield SessionChunk(items, part.lengths, part.ids, part.start_time)
