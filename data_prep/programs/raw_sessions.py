"""The sessions of a raw log, put together and in order, and nothing left out."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from data_prep.clicks.batches import plain_ids
from data_prep.pipeline.disk import disk_bytes, require_space
from data_prep.pipeline.steps import arrange
from data_prep.programs.log_program import LOG_SIZES, LogSizes, read_logs
from data_prep.reading.bad_rows import BadRows
from data_prep.reading.click_log import ClickLog
from tron_jax.console.stages import Stages


class RawSessions(NamedTuple):
    """Some sessions of a log.

    ids: [sessions] raw ids; items: [events] int32 indices into the log's items, session
    after session, each in its own order; offsets: [sessions + 1] int64.
    """

    ids: pa.Array
    items: np.ndarray
    offsets: np.ndarray


class SessionLog(NamedTuple):
    """A log that was read once.

    items: [items of the log] raw ids, in the order of their first click; sessions:
    how many there are is known when all were read, part by part.
    """

    items: pa.Array
    events: int
    sessions: Iterator[RawSessions]


def read_sessions(
    log: ClickLog,
    folder: Path,
    bad: BadRows,
    stages: Stages,
    sizes: LogSizes = LOG_SIZES,
    gap: int | None = None,
) -> SessionLog:
    """Reads a log, and then its sessions part by part.

    A log of up to four million clicks is one part; a larger one is cut by session, so
    that memory is bounded by the largest part.

    Args:
      log: to read.
      folder: that exists, for temporary files.
      bad: what to do with malformed rows.
      stages: shows what is being done.
      sizes: how much to work on at once.
      gap: microseconds; a longer pause within a session cuts it; None cuts none.

    Returns:
      The log. The sessions of a part are in the order of their starts, or where there
      are no times, of their first rows.

    Raises:
      UserError: where the log is malformed or has no rows, or the disk is too small.
    """
    plan = sizes.plan(log.rows)
    if plan.on_disk:
        require_space(folder, disk_bytes(log.rows, log.id_bytes))
    parts = read_logs({"train": log}, folder / "parts", plan, bad, stages, gap)
    assert parts.items.ids is not None
    return SessionLog(
        plain_ids(parts.items.ids), parts.train.rows, _sessions(parts.train.read())
    )


def _sessions(parts: Iterator) -> Iterator[RawSessions]:
    for part in parts:
        arranged = arrange(part.events)
        offsets = np.concatenate([[0], np.cumsum(arranged.lengths, dtype=np.int64)])
        ids = part.session_ids.take(pa.array(arranged.sessions))
        yield RawSessions(ids, arranged.items, offsets)
