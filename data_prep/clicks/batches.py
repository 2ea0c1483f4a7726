"""Rows of a raw log as every reader gives them."""

from typing import NamedTuple

import numpy as np
import pyarrow as pa

TIME = pa.timestamp("us", tz="UTC")
DAY = 86_400_000_000  # microseconds


class ClickBatch(NamedTuple):
    """Rows of a raw log, one an event, in raw order.

    session, item: [rows] raw ids throughout a log, int64, or string as it is or by a
    dictionary without repeats; time: [rows] int64 microseconds since 1970; order:
    [rows] int64 or float64, or [rows, 2] float64 that compare one after the other;
    the same throughout a log.
    """

    session: pa.Array
    item: pa.Array
    time: np.ndarray | None = None
    order: np.ndarray | None = None


def plain_ids(ids: pa.Array) -> pa.Array:
    """Brings text ids to int64 where all are whole numbers as they would be printed."""
    if pa.types.is_integer(ids.type):
        return ids
    try:
        numbers = ids.cast(pa.int64())
    except pa.ArrowInvalid:
        return ids
    return numbers if numbers.cast(pa.string()).equals(ids) else ids


def lengths_and_bytes(texts: pa.Array) -> tuple[np.ndarray, pa.Buffer | bytes]:
    """Returns how many bytes each string has, [ids] int32, and all of them, uncopied.

    There are no nulls among the strings.
    """
    if not len(texts):
        return np.zeros(0, np.int32), b""
    _, offset_buffer, text = texts.buffers()
    offsets = np.frombuffer(offset_buffer, np.int32, len(texts) + 1, 4 * texts.offset)
    first, last = int(offsets[0]), int(offsets[-1])
    return np.diff(offsets), b"" if text is None else text[first:last]
