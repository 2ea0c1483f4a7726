"""The latest sessions of a set. Needs no JAX."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from tron_jax.data.sessions import Sessions, select
from tron_jax.errors import UserError

DAY = 86_400_000_000  # microseconds


def last_days(sessions: Sessions, days: int) -> Sessions:
    """Selects the sessions that start on the last days, without copying.

    Args:
      sessions: in order of start time.
      days: how many days of UTC, the last of which is that of the last session.

    Raises:
      UserError: if it is not known when sessions start.
    """
    if sessions.start_time.null_count or not sessions.num_sessions:
        raise UserError(
            f"data.last_days={days}: the data do not say when sessions start; expected "
            "0, or a set prepared from a log with times"
        )
    times = sessions.start_time.cast(pa.int64()).to_numpy(zero_copy_only=True)
    first_day = times[-1] // DAY - (days - 1)
    first = int(np.searchsorted(times, first_day * DAY))
    return select(sessions, first, sessions.num_sessions)
