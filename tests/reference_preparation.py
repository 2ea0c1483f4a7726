"""The paper's preparation in plain Python, written for being read."""

import gzip
import json
from collections import Counter
from datetime import UTC, datetime

DAY = 86_400


def late_by_last_event(days):
    """Sessions whose last event is in the last days of the log."""

    def late(times):
        latest = max(max(t) for t in times.values())
        return {s for s, t in times.items() if max(t) >= latest - days * DAY}

    return late


def late_as_diginetica(times):
    """First event at or after the latest session's first midnight minus 7 days."""
    latest = max(min(t) for t in times.values())
    midnight = latest - latest % DAY
    return {s for s, t in times.items() if min(t) >= midnight - 7 * DAY}


def late_as_yoochoose(times):
    """Last event at or after the latest session start minus a day."""
    latest = max(min(t) for t in times.values())
    return {s for s, t in times.items() if max(t) >= latest - DAY}


def prepare_diginetica(path):
    """Prepares a file in Diginetica's format."""
    header, *lines = _lines(path)
    names = [name.replace("_", "").lower() for name in header.split(";")]
    rows = []
    for line in lines:
        row = dict(zip(names, line.split(";"), strict=True))
        day = datetime.fromisoformat(row["eventdate"] + "T00:00:00+00:00").timestamp()
        time = day + int(row["timeframe"]) / 1000
        rows.append((row["sessionid"], row["itemid"], time, None))
    return prepare(_typed(rows), late=late_as_diginetica)


def prepare_yoochoose(path):
    """Prepares a file in Yoochoose's format."""
    rows = []
    for line in _lines(path):
        session, time, item, *_ = line.split(",")
        moment = datetime.fromisoformat(time).astimezone(UTC)
        rows.append((session, item, moment.timestamp(), None))
    return prepare(_typed(rows), late=late_as_yoochoose)


def prepare_otto(folder):
    """Prepares a folder with OTTO's two files."""
    parts = []
    for name in ("train", "test"):
        rows = []
        for line in _lines(folder / f"otto-recsys-{name}.jsonl"):
            record = json.loads(line)
            for event in record["events"]:
                if event["type"] == "clicks":
                    time = event["ts"] / 1000
                    rows.append((record["session"], event["aid"], time, None))
        parts.append(rows)
    return prepare(*parts, min_support=1)


def _lines(path):
    data = path.read_bytes()
    if data.startswith(b"\x1f\x8b"):
        data = gzip.decompress(data)
    lines = data.decode("utf-8-sig").replace("\r\n", "\n").split("\n")
    return [line for line in lines if line.strip()]


def _typed(rows):
    """Turns ids into numbers where all of a column are."""
    for column in range(2):
        if all(row[column].isdecimal() for row in rows):
            rows = [
                (*row[:column], int(row[column]), *row[column + 1 :]) for row in rows
            ]
    return rows


def prepare(
    train, test=None, *, min_length=2, min_support=5, test_days=None, late=None
):
    """Prepares rows (session, item, time or None, order or None), in raw order.

    late: which sessions are test, given {session: times}.

    Returns (train, test, raw item ids); a part is a list of (session, items, start).
    """
    train, test = _sessions(train), _sessions(test or [])
    train, test = _long(train, min_length), _long(test, min_length)
    support = Counter(row[1] for part in (train, test) for s in part for row in part[s])
    for part in (train, test):
        for s in part:
            part[s] = [row for row in part[s] if support[row[1]] >= min_support]
    train, test = _long(train, min_length), _long(test, min_length)
    if test_days is not None:
        late = late_by_last_event(test_days)
    if late is not None and train:
        chosen = late({s: [row[2] for row in rows] for s, rows in train.items()})
        test = {s: rows for s, rows in train.items() if s in chosen}
        train = {s: rows for s, rows in train.items() if s not in chosen}
    known = {row[1] for rows in train.values() for row in rows}
    test = {s: [row for row in rows if row[1] in known] for s, rows in test.items()}
    test = _long(test, min_length)
    train, test = _ordered(train), _ordered(test)
    raw_ids = list(dict.fromkeys(item for _, items, _ in train for item in items))
    number = {raw: i + 1 for i, raw in enumerate(raw_ids)}
    parts = [
        [(s, [number[i] for i in items], start) for s, items, start in part]
        for part in (train, test)
    ]
    return *parts, raw_ids


def _sessions(rows):
    sessions = {}
    for row in rows:
        sessions.setdefault(row[0], []).append(row)
    return sessions


def _long(sessions, min_length):
    return {s: rows for s, rows in sessions.items() if len(rows) >= min_length}


def _ordered(sessions):
    ordered = []
    for session, rows in sessions.items():
        key = 3 if rows[0][3] is not None else 2
        if rows[0][key] is not None:
            rows = sorted(rows, key=lambda row: row[key])
        times = [row[2] for row in rows if row[2] is not None]
        ordered.append((session, [r[1] for r in rows], min(times, default=None)))
    if all(start is not None for *_, start in ordered):
        ordered.sort(key=lambda session: session[2])
    return ordered
