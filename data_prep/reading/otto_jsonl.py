"""OTTO's jsonl: a session a line, of clicks, carts and orders."""

import json
from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_prep.clicks.batches import ClickBatch
from data_prep.reading.json_lines import parse_json_lines
from data_prep.reading.public_logs import Click, check_time, plain_id, times_in_range
from data_prep.reading.text_files import Block

_TYPES = ("clicks", "carts", "orders")
_LATEST_MS = 2**53  # milliseconds, beyond any time: keeps products in int64


class Otto:
    """``otto-recsys-train.jsonl`` or ``otto-recsys-test.jsonl``; counts what it meets.

    others: events by type that are no clicks; sessions: lines read; empty: those
    without any event; unclicked: those of events, none of them a click.
    """

    name = "OTTO's jsonl"
    expected = 'lines such as {"session":1,"events":[{"aid":2,"ts":3,"type":"clicks"}]}'

    def __init__(self) -> None:
        """Has met nothing yet."""
        self.others: Counter[str] = Counter()
        self.sessions = self.empty = self.unclicked = 0

    @property
    def unknown(self) -> dict[str, int]:
        """Events of types that OTTO does not have."""
        return {t: n for t, n in self.others.items() if t not in _TYPES}

    def header_lines(self, first: str) -> int | None:
        """Judges by the first line: any JSON may turn out malformed later."""
        like = first.startswith("{") and '"session"' in first and '"events"' in first
        return 0 if like else None

    def parse(self, block: Block, text: bool) -> ClickBatch | None:
        """Parses whole lines at once."""
        table = _read(block, pa.string() if text else pa.int64())
        if table is None:
            return None
        lists = table["events"].combine_chunks()
        sessions = table["session"].combine_chunks()
        events = lists.flatten()
        aid, ts, kind = events.flatten()
        if any(column.null_count for column in (sessions, lists, aid, ts, kind)):
            return None
        times = ts.to_numpy()
        if len(times) and (abs(times) > _LATEST_MS).any():
            return None
        times = times * 1000
        clicked = pc.call_function("equal", [kind, pa.scalar("clicks")])
        chosen = clicked.to_numpy(zero_copy_only=False)
        times = times[chosen]
        if not times_in_range(times):
            return None
        lengths = np.diff(lists.offsets.to_numpy())
        parents = np.repeat(np.arange(len(lengths)), lengths)[chosen]
        unlike = kind.filter(pa.array(~chosen))
        for entry in unlike.value_counts().to_pylist():
            self.others[entry["values"]] += entry["counts"]
        distinct = np.count_nonzero(np.diff(parents, prepend=-1))
        self._count(len(lengths), int(np.count_nonzero(lengths == 0)), int(distinct))
        return ClickBatch(sessions.take(pa.array(parents)), aid.filter(clicked), times)

    def _count(self, sessions: int, empty: int, clicked: int) -> None:
        self.sessions += sessions
        self.empty += empty
        self.unclicked += sessions - empty - clicked

    def parse_line(self, line: str) -> list[Click]:
        """Parses one line."""
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"not JSON: {error}") from error
        if not isinstance(record, dict):
            raise ValueError("expected a JSON object")
        session = _id(record, "session")
        events = record.get("events")
        if not isinstance(events, list):
            raise ValueError("a session without a list of events")
        found = [_event(event) for event in events]
        clicks: list[Click] = [
            (session, aid, check_time(ts * 1000))
            for aid, ts, kind in found
            if kind == "clicks"
        ]
        self.others.update(kind for *_, kind in found if kind != "clicks")
        self._count(1, not events, bool(clicks))
        return clicks


def _read(block: Block, ids: pa.DataType) -> pa.Table | None:
    """Reads lines; None where any is not as it should be."""
    event = pa.struct([("aid", ids), ("ts", pa.int64()), ("type", pa.string())])
    schema = pa.schema([("session", ids), ("events", pa.list_(event))])
    try:
        table = parse_json_lines(block.data, schema)
    except pa.ArrowInvalid:
        return None
    return table if table.num_rows == block.num_lines else None


def _id(record: dict[str, Any], name: str) -> str:
    value = record.get(name)
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError(f"{name} {value!r} is no id")
    return plain_id(str(value))


def _event(event: Any) -> tuple[str, int, str]:
    if not isinstance(event, dict):
        raise ValueError("an event that is no JSON object")
    ts, kind = event.get("ts"), event.get("type")
    if isinstance(ts, bool) or not isinstance(ts, int):
        raise ValueError(f"ts {ts!r} is no number of milliseconds")
    if not isinstance(kind, str):
        raise ValueError(f"type {kind!r} is no text")
    return _id(event, "aid"), ts, kind
