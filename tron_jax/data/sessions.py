"""Prepared sessions on disk, opened by memory map and never parsed or copied.

The format is that of data_prep/FORMAT.md. This needs no JAX: data_prep opens its sets
here as well.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from tron_jax.data.catalogue import ITEMS, Catalogue, read_catalogue
from tron_jax.errors import UserError

FORMAT = "tron-prepared-sessions"
VERSION = 1

_FILES = ("stats.json", "train.arrow", "test.arrow", ITEMS)
_CHUNK = 1 << 24  # events checked together


class Sessions(NamedTuple):
    """Sessions in order of start time, laid end to end.

    Session ``s`` is ``items[offsets[s] : offsets[s + 1]]``. A range of sessions shares
    ``items`` with the whole, so its offsets need not start at 0 nor end at the last
    event. The arrays of an opened set are read-only views of the memory map.

    items: [events] int32, 1..num_items; offsets: [sessions+1] int32, rising by at least
    2; ids: [sessions] raw ids, int64 or string; start_time: [sessions] timestamp (µs,
    UTC), all null where unknown.
    """

    items: np.ndarray
    offsets: np.ndarray
    ids: pa.Array
    start_time: pa.Array

    @property
    def num_sessions(self) -> int:
        """How many sessions there are."""
        return len(self.offsets) - 1

    @property
    def num_events(self) -> int:
        """How many events these sessions have; ``items`` may hold more."""
        return int(self.offsets[-1]) - int(self.offsets[0])

    @property
    def lengths(self) -> np.ndarray:
        """Events of each session, [sessions] int32 (a new array)."""
        return self.offsets[1:] - self.offsets[:-1]


class PreparedData(NamedTuple):
    """A prepared data set; ``stats`` is the whole of stats.json."""

    path: Path
    num_items: int
    fingerprint: str
    stats: dict[str, Any]
    train: Sessions
    test: Sessions


def select(sessions: Sessions, start: int, stop: int) -> Sessions:
    """Selects the sessions ``start`` to ``stop`` - 1, without copying.

    Args:
      sessions: all of them.
      start: index of the first of them.
      stop: index after the last, at least ``start``.

    Returns:
      Their offsets, ids and start times; ``items`` is still the whole flat array.
    """
    if not 0 <= start <= stop <= sessions.num_sessions:
        raise ValueError(f"sessions {start}..{stop} of {sessions.num_sessions}")
    return Sessions(
        sessions.items,
        sessions.offsets[start : stop + 1],
        sessions.ids.slice(start, stop - start),
        sessions.start_time.slice(start, stop - start),
    )


def alone(sessions: Sessions) -> Sessions:
    """Selected sessions with no other clicks than theirs, without copying."""
    first, last = sessions.offsets[0], sessions.offsets[-1]
    return sessions._replace(
        items=sessions.items[first:last], offsets=sessions.offsets - first
    )


def hold_out(
    train: Sessions, share: float, field: str = "data.validation"
) -> tuple[Sessions, Sessions]:
    """Holds out the latest sessions, as for validation.

    Args:
      train: sessions in order of start time.
      share: of the sessions, to be held out; at least 0 and below 1.
      field: of a config, that the share is from.

    Returns:
      The sessions left to train on, and the latest ``share`` of them, rounded to whole
      sessions: none for a share of 0, else at least one, and at least one is left.

    Raises:
      UserError: where there is no session to spare, or no such share.
    """
    if not 0 <= share < 1:
        raise UserError(f"{field}={share}: expected at least 0 and below 1")
    total = train.num_sessions
    if share > 0 and total < 2:
        raise UserError(f"{field}={share}: {total} train session, none to spare")
    held = min(max(round(share * total), 1), total - 1) if share > 0 else 0
    return select(train, 0, total - held), select(train, total - held, total)


def open_prepared(path: str | Path) -> PreparedData:
    """Opens a prepared data set and checks that it is whole.

    Checked are the version, the files' sizes and columns, that they lie in the map as
    they are, the counts, and every offset, start time and item's range; not the hashes
    (``data_prep.show`` does).

    Args:
      path: the folder that a program of data_prep wrote.

    Returns:
      The sessions, as views of the maps.

    Raises:
      UserError: where it is not; the message names the file.
    """
    path = Path(path)
    if not path.is_dir():
        raise UserError(f"{path}: no such folder; expected a prepared data set")
    for name in _FILES:
        if not (path / name).is_file():
            raise UserError(f"{path}: no file {name}; expected a prepared data set")
    stats = _read_stats(path / "stats.json")
    num_items = stats["num_items"]
    if num_items < 2:
        raise UserError(
            f"{path / 'stats.json'}: num_items is {num_items}; expected at least 2"
        )
    train, test = (
        _open_split(path / f"{name}.arrow", stats[name], num_items)
        for name in ("train", "test")
    )
    return PreparedData(path, num_items, stats["fingerprint"], stats, train, test)


def catalogue_of(data: PreparedData) -> Catalogue:
    """Reads the items of a set; raises UserError if their file is damaged."""
    return read_catalogue(data.path / ITEMS, data.num_items)


def _read_stats(path: Path) -> dict[str, Any]:
    """Reads stats.json, with every field that is relied on."""
    try:
        stats = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({error})") from error
    if not isinstance(stats, dict) or stats.get("format") != FORMAT:
        raise UserError(f"{path}: format is not {FORMAT!r}; not a prepared data set")
    if stats.get("version") != VERSION:
        raise UserError(
            f"{path}: version is {stats.get('version')!r}; expected {VERSION}: prepare "
            "the data again"
        )
    _expect(path, stats, "num_items", int)
    _expect(path, stats, "fingerprint", str)
    for split in ("train", "test"):
        _expect(path, stats, split, dict)
        for field in ("sessions", "events", "file_bytes"):
            _expect(path, stats[split], field, int, f"{split}.")
    if not stats["train"]["sessions"]:
        raise UserError(f"{path}: train.sessions is 0; expected at least one")
    return stats


def _expect(path: Path, fields: dict, name: str, kind: type, prefix: str = "") -> None:
    if not isinstance(fields.get(name), kind):
        found = fields.get(name)
        raise UserError(
            f"{path}: {prefix}{name} is {found!r}; expected {kind.__name__}"
        )


def _open_split(path: Path, counts: dict[str, int], num_items: int) -> Sessions:
    """Maps one Arrow file and checks it against what stats.json says."""
    size = path.stat().st_size
    if size != counts["file_bytes"]:
        raise UserError(
            f"{path}: {size:,} bytes; stats.json says {counts['file_bytes']:,}: cut "
            "off or of another set"
        )
    try:
        whole = pa.memory_map(str(path)).read_buffer()  # the map itself, no copy
        reader = pa.ipc.open_file(whole)
        if reader.num_record_batches != 1:
            raise UserError(
                f"{path}: {reader.num_record_batches} record batches; expected 1"
            )
        batch = reader.get_batch(0)
        batch.validate()
    except (pa.ArrowException, OSError) as error:
        what = str(error).splitlines()[0]
        raise UserError(f"{path}: damaged or no Arrow file ({what})") from error
    sessions = _views(path, batch)
    if batch.num_rows:
        _check_mapped(path, sessions, whole)
    _check_counts(path, sessions, counts)
    _check_offsets(path, sessions)
    _check_items(path, sessions, num_items)
    return sessions


def _views(path: Path, batch: pa.RecordBatch) -> Sessions:
    """Returns the batch's columns, if they have the types they should."""
    expected = (
        ("session", (pa.int64(), pa.string()), "int64 or string"),
        ("items", (pa.list_(pa.int32()),), "list<int32>"),
        ("start_time", (pa.timestamp("us", tz="UTC"),), "timestamp[us, UTC]"),
    )
    for name, types, text in expected:
        found = batch.schema.get_all_field_indices(name)
        if len(found) != 1:
            raise UserError(f"{path}: {len(found)} columns {name!r}; expected one")
        kind = batch.schema.field(name).type
        if pa.types.is_list(kind):
            kind = pa.list_(kind.value_type)  # whether null is allowed does not matter
        if kind not in types:
            raise UserError(f"{path}: column {name!r} is {kind}; expected {text}")
        nulls = batch.column(name).null_count
        if nulls and (name != "start_time" or nulls < batch.num_rows):
            raise UserError(f"{path}: column {name!r} has {nulls} nulls; expected none")
    lists = batch.column("items")
    if lists.values.null_count:
        raise UserError(f"{path}: column 'items' has null items; expected none")
    items = lists.values.to_numpy(zero_copy_only=True)
    # Of no rows, Arrow may write no offsets at all.
    offsets = np.zeros(1, np.int32)
    if batch.num_rows:
        offsets = lists.offsets.to_numpy(zero_copy_only=True)
    return Sessions(items, offsets, batch.column("session"), batch.column("start_time"))


def _check_mapped(path: Path, sessions: Sessions, whole: pa.Buffer) -> None:
    """Refuses buffers that had to be unpacked into memory."""
    for array in (sessions.items, sessions.offsets):
        position = array.__array_interface__["data"][0] - whole.address
        if array.size and not 0 <= position < whole.size:
            raise UserError(f"{path}: compressed; expected uncompressed buffers")


def _check_counts(path: Path, sessions: Sessions, counts: dict[str, int]) -> None:
    """Compares with stats.json."""
    found = {"sessions": sessions.num_sessions, "events": len(sessions.items)}
    for name, count in found.items():
        if count != counts[name]:
            raise UserError(
                f"{path}: {count:,} {name}; stats.json says {counts[name]:,}"
            )


def _check_offsets(path: Path, sessions: Sessions) -> None:
    """Checks that sessions cover the events, two or more each, and rise in time."""
    offsets = sessions.offsets
    # Compared as they are: a difference of bad offsets may not fit int32.
    short = offsets[1:] <= offsets[:-1]
    if short.any():
        row = int(short.argmax())
        raise UserError(f"{path}: items of session row {row}: offsets do not rise")
    if offsets[0] != 0 or offsets[-1] != len(sessions.items):
        raise UserError(
            f"{path}: items: offsets run from {offsets[0]} to {offsets[-1]}; expected "
            f"0 to {len(sessions.items)}"
        )
    short = sessions.lengths < 2
    if short.any():
        row = int(short.argmax())
        raise UserError(f"{path}: session row {row} has 1 event; expected at least 2")
    if not sessions.start_time.null_count:
        times = sessions.start_time.cast(pa.int64()).to_numpy(zero_copy_only=True)
        falls = times[1:] < times[:-1]
        if falls.any():
            row = int(falls.argmax()) + 1
            raise UserError(
                f"{path}: start_time of session row {row} is before the last"
            )


def _check_items(path: Path, sessions: Sessions, num_items: int) -> None:
    """Checks that every item is in the catalogue, a chunk at a time."""
    for start in range(0, len(sessions.items), _CHUNK):
        chunk = sessions.items[start : start + _CHUNK]
        if chunk.min() < 1 or chunk.max() > num_items:
            bad = (chunk < 1) | (chunk > num_items)
            event = start + int(bad.argmax())
            raise UserError(
                f"{path}: items: event {event} is item {sessions.items[event]}; "
                f"expected 1 to {num_items}"
            )
