"""The paper's preparation as a whole: which step follows which."""

from typing import NamedTuple

import numpy as np
import pyarrow as pa

from data_prep import steps
from data_prep.errors import UserError


class Filters(NamedTuple):
    """What is too short or too rare to be kept."""

    min_session_length: int = 2
    min_item_support: int = 5


class Counted(NamedTuple):
    """What is left after a step."""

    step: str
    sessions: int
    events: int
    items: int


def prepare(
    train: pa.Table,
    test: pa.Table | None,
    filters: Filters,
    test_days: float | None = None,
) -> tuple[pa.Table, pa.Table, list[Counted]]:
    """Filters and splits a log as the paper does.

    Sessions of enough events; then items of enough support, one pass over train and
    test together; again sessions of enough events; the split; then test loses the items
    that train lacks, and the sessions which that makes too short.

    Args:
      train: the log, or its train part where ``test`` is given.
      test: a test part that was split off before.
      filters: what to keep.
      test_days: where ``test`` is None, splits off the last days of the filtered log;
        None leaves test empty.

    Returns:
      train and test, and what was left of both together after each step.
    """
    length = filters.min_session_length
    support = filters.min_item_support
    held = train.slice(0, 0) if test is None else test
    counts = [_count("read", train, held)]
    train = steps.keep_long_sessions(train, length)
    held = steps.keep_long_sessions(held, length)
    counts.append(_count(f"sessions of at least {length} events", train, held))
    train, held = steps.keep_supported_items(train, held, support)
    counts.append(_count(f"items of at least {support} events", train, held))
    train = steps.keep_long_sessions(train, length)
    held = steps.keep_long_sessions(held, length)
    counts.append(_count(f"sessions of at least {length} events again", train, held))
    if test is None and test_days is not None:
        train, held = steps.split_last_days(train, test_days)
    if not train.num_rows:
        story = "; ".join(f"{c.step}: {c.sessions:,} sessions" for c in counts)
        raise UserError(f"no session of {length} events is left to train on ({story})")
    held = steps.keep_items_of(train, held)
    counts.append(_count("test items that train has", train, held))
    held = steps.keep_long_sessions(held, length)
    last = f"test sessions of at least {length} events again"
    return train, held, [*counts, _count(last, train, held)]


def _count(step: str, *parts: pa.Table) -> Counted:
    """Counts what is left; the parts' sessions are apart, their items in common."""
    sessions = sum(
        np.count_nonzero(np.bincount(part["session"].to_numpy())) for part in parts
    )
    events = sum(part.num_rows for part in parts)
    items = np.bincount(np.concatenate([part["item"].to_numpy() for part in parts]))
    return Counted(step, int(sessions), events, int(np.count_nonzero(items)))
