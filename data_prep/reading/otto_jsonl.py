"""OTTO's jsonl: a session a line, of clicks, carts and orders."""

import json
from collections import Counter
from collections.abc import Generator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data_prep.clicks.batches import ClickBatch
from data_prep.reading.bad_rows import BadRows
from data_prep.reading.click_log import Kinds
from data_prep.reading.json_log import parse_json_lines
from data_prep.reading.public_log import (
    Click,
    PublicLog,
    are_plain,
    check_time,
    read_id,
    times_in_range,
)
from data_prep.reading.texts import is_unicode


class OttoLog(PublicLog):
    """``otto-recsys-train.jsonl`` or ``otto-recsys-test.jsonl``.

    Counted while it is read: other_events, by type, are those that are no clicks;
    sessions are lines; empty are those without any event; unclicked are those with
    events, none of them a click.
    """

    name = "OTTO's jsonl"
    expected = 'lines such as {"session":1,"events":[{"aid":2,"ts":3,"type":"clicks"}]}'
    header_lines = 0
    row_bytes = 46

    def _accepts(self, first: str) -> bool:
        """Judges by names only: the line may turn out malformed later."""
        return first.startswith("{") and '"session"' in first and '"events"' in first

    def batches(self, kinds: Kinds, bad: BadRows) -> Generator[ClickBatch]:
        """Yields the log's clicks and counts what is left out."""
        self.other_events: Counter[str] = Counter()
        self.sessions = self.empty = self.unclicked = 0
        yield from super().batches(kinds, bad)

    def _read_table(self, data: bytes, id_type: pa.DataType) -> pa.Table:
        fields = [("aid", id_type), ("ts", pa.int64()), ("type", pa.string())]
        events = pa.list_(pa.struct(fields))
        schema = pa.schema([("session", id_type), ("events", events)])
        return parse_json_lines(data, schema)

    def _to_clicks(self, table: pa.Table) -> ClickBatch | None:
        lists = table["events"].combine_chunks()
        sessions = table["session"].combine_chunks()
        aid, ts, kind = lists.flatten().flatten()
        if any(column.null_count for column in (sessions, lists, aid, ts, kind)):
            return None
        if not (are_plain(sessions) and are_plain(aid)):
            return None
        ms = ts.to_numpy()
        if not times_in_range(ms, unit=1000):
            return None
        clicked = pc.call_function("equal", [kind, pa.scalar("clicks")])
        is_click = clicked.to_numpy(zero_copy_only=False)
        lengths = np.diff(lists.offsets.to_numpy())
        lines = np.repeat(np.arange(len(lengths)), lengths)[is_click]
        others = kind.filter(pa.array(~is_click))
        for entry in others.value_counts().to_pylist():
            self.other_events[entry["values"]] += entry["counts"]
        with_clicks = np.count_nonzero(np.diff(lines, prepend=-1))
        self._count(len(lengths), int((lengths == 0).sum()), int(with_clicks))
        return ClickBatch(
            sessions.take(pa.array(lines)), aid.filter(clicked), ms[is_click] * 1000
        )

    def _count(self, sessions: int, empty: int, with_clicks: int) -> None:
        self.sessions += sessions
        self.empty += empty
        self.unclicked += sessions - empty - with_clicks

    def _parse_line(self, line: str) -> list[Click]:
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
        self.other_events.update(kind for *_, kind in found if kind != "clicks")
        self._count(1, not events, bool(clicks))
        return clicks


def _id(record: dict[str, Any], name: str) -> str:
    value = record.get(name)
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError(f"{name} {value!r} is no id")
    if not is_unicode(str(value)):
        raise ValueError(f"{name} {value!r} is no Unicode text")
    return read_id(str(value))


def _event(event: Any) -> tuple[str, int, str]:
    if not isinstance(event, dict):
        raise ValueError("an event that is no JSON object")
    ts, kind = event.get("ts"), event.get("type")
    if isinstance(ts, bool) or not isinstance(ts, int):
        raise ValueError(f"ts {ts!r} is no number of milliseconds")
    if not isinstance(kind, str):
        raise ValueError(f"type {kind!r} is no text")
    return _id(event, "aid"), ts, kind
