"""Sessions cut where nothing happens for long: a visitor's clicks become visits."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


def cut_at_gaps(table: pa.Table, gap: int) -> pa.Table:
    """Cuts sessions at pauses.

    Args:
      table: all events of some sessions, with the columns ``session``, raw ids, and
        ``time``.
      gap: microseconds; a pause that is longer begins another session.

    Returns:
      The table with other ids: those of the sessions that an id is cut into are text,
      the id, ``#`` and a number from 1, in the order of their times.
    """
    coded = table["session"].combine_chunks().dictionary_encode()
    keys = coded.indices.to_numpy()
    times = table["time"].cast(pa.int64()).to_numpy()
    order = np.lexsort((times, keys))
    keys, times = keys[order], times[order]
    new_key = np.diff(keys, prepend=-1) != 0
    begins = new_key | (np.diff(times, prepend=times[:1]) > gap)
    numbers = np.cumsum(begins)
    within = numbers - np.repeat(
        numbers[new_key] - 1, np.diff(np.append(np.flatnonzero(new_key), len(keys)))
    )
    # By their first rows, as codes of a part are.
    first = np.full(int(begins.sum()), len(keys))
    np.minimum.at(first, numbers - 1, order)
    by_row = np.argsort(first)
    rank = np.empty(len(by_row), np.int32)
    rank[by_row] = np.arange(len(by_row))
    codes = np.empty(len(keys), np.int32)
    codes[order] = rank[numbers - 1]
    texts = [
        coded.dictionary.cast(pa.string()).take(pa.array(keys[begins])),
        pa.array(within[begins]).cast(pa.string()),
        pa.scalar("#"),
    ]
    ids = pc.call_function("binary_join_element_wise", texts).take(pa.array(by_row))
    sessions = pa.DictionaryArray.from_arrays(pa.array(codes), ids)
    at = table.schema.get_field_index("session")
    return table.set_column(at, "session", sessions)
