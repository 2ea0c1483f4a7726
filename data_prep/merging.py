"""Arranged parts merged into the one order of a prepared set, events as a stream."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from data_prep.columns import TIME
from data_prep.console import Progress
from data_prep.steps import Arranged
from data_prep.writer import Split, SplitStream

_CHUNK = 1 << 18  # sessions merged together


class _Kept(NamedTuple):
    """An arranged part without its items; first_rows orders what starts together."""

    lengths: np.ndarray
    ids: pa.Array
    start_time: pa.Array
    first_rows: np.ndarray


class Merger:
    """Collects the arranged parts of train or test, their items in a flat file."""

    def __init__(self, folder: Path, name: str) -> None:
        """Opens the flat file in ``folder``, which ``close`` removes."""
        self.events = 0
        self._folder, self._name = folder, name
        self._path = folder / f"{name}.parts.flat"
        self._file = self._path.open("wb")
        self._parts: list[_Kept] = []

    def append(
        self, part: Arranged, session_ids: pa.Array, first_rows: np.ndarray
    ) -> None:
        """Adds a part; ids and first rows are those of its session codes."""
        self._file.write(np.ascontiguousarray(part.items, np.int32).data)
        self.events += len(part.items)
        ids = session_ids.take(part.sessions)
        rows = first_rows[part.sessions]
        self._parts.append(_Kept(part.lengths, ids, part.start_time, rows))

    def merge(
        self, stream: SplitStream, number: "ItemNumbers", progress: Progress
    ) -> Split:
        """Streams the sessions in order of start, then of first appearance.

        Args:
          stream: where they go.
          number: turns item codes into the final numbers, met in this order.
          progress: told after each chunk.

        Returns:
          The finished split.
        """
        self._file.close()
        order = self._order()
        ids, starts = self._take("ids", order), self._take("start_time", order)
        lengths = self._column("lengths", np.int32)
        sizes = np.array([len(part.lengths) for part in self._parts], np.int64)
        parts = np.repeat(np.arange(len(sizes), dtype=np.int16), sizes)[order]
        # What is to be read next of each part: its session, and that one's first event.
        session = np.cumsum(sizes) - sizes
        sizes = [part.lengths.sum(dtype=np.int64) for part in self._parts]
        event = np.cumsum(sizes, dtype=np.int64) - sizes
        self._parts.clear()  # a large log has many sessions: no copy more than needed
        with self._path.open("rb") as file:
            for first in range(0, len(order), _CHUNK):
                progress.count("sessions", first, len(order))
                chunk = order[first : first + _CHUNK]
                counts = np.bincount(
                    parts[first : first + _CHUNK], minlength=len(sizes)
                )
                items, places = [], np.empty(len(chunk), np.int64)
                read = []
                for p in np.flatnonzero(counts):
                    read.append(lengths[session[p] : session[p] + counts[p]])
                    size = int(read[-1].sum(dtype=np.int64))
                    file.seek(4 * int(event[p]))
                    items.append(np.fromfile(file, np.int32, size))
                    event[p] += size
                session += counts
                # Sessions are counted part by part, as they were read just now.
                ends = np.cumsum(np.concatenate(read), dtype=np.int64)
                places[np.argsort(chunk)] = ends - np.concatenate(read)
                codes = gather(np.concatenate(items), places, lengths[chunk])
                stream.append(number(codes), lengths[chunk])
        return stream.finish(ids, starts)

    def _order(self) -> np.ndarray:
        """Sorts all sessions: [sessions] places over the parts laid end to end."""
        rows = self._column("first_rows", np.int64)
        if len(self._parts) < 2:
            return np.arange(len(rows))
        if any(part.start_time.null_count for part in self._parts):
            return np.argsort(rows)
        starts = [part.start_time.cast(pa.int64()) for part in self._parts]
        return np.lexsort((rows, np.concatenate(starts)))

    def _take(self, name: str, order: np.ndarray) -> pa.Array:
        """Brings a column of all parts into order."""
        columns = [getattr(part, name) for part in self._parts]
        if not columns:
            return pa.array([], TIME if name == "start_time" else pa.int64())
        return pa.concat_arrays(columns).take(pa.array(order))

    def _column(self, name: str, dtype: type) -> np.ndarray:
        columns = [getattr(part, name) for part in self._parts]
        return np.concatenate([np.zeros(0, dtype), *columns])

    def close(self) -> None:
        """Removes the flat file."""
        self._parts.clear()
        self._file.close()
        self._path.unlink(missing_ok=True)


def gather(items: np.ndarray, places: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Lays the sessions ``items[place : place + length]`` end to end."""
    ends = np.cumsum(lengths, dtype=np.int64)
    shift = np.repeat(places - (ends - lengths), lengths)
    return items[shift + np.arange(len(shift))]


class ItemNumbers:
    """Numbers items from 1 in the order in which they are first asked for."""

    def __init__(self, num_codes: int) -> None:
        """Knows no code yet."""
        self._number = np.zeros(num_codes, np.int32)
        self._codes: list[np.ndarray] = []
        self.count = 0

    def __call__(self, codes: np.ndarray) -> np.ndarray:
        """Returns the numbers of [events] codes."""
        numbers = self._number[codes]
        new = codes[numbers == 0]
        if not len(new):
            return numbers
        new = pa.array(new).unique().to_numpy()
        self._number[new] = np.arange(self.count + 1, self.count + len(new) + 1)
        self.count += len(new)
        self._codes.append(new)
        return self._number[codes]

    def codes(self) -> np.ndarray:
        """The code of item 1, 2, … ."""
        return np.concatenate([np.zeros(0, np.int32), *self._codes])
