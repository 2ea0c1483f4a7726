"""The paper's preparation in plain Python, straight from design.md §2."""

from collections import Counter

DAY = 86_400


def prepare(train, test=None, *, min_length=2, min_support=5, test_days=None):
    """Prepares rows (session, item, time or None, order or None), in raw order.

    Returns (train, test, raw item ids); a part is a list of (session, items, start).
    """
    train, test = _sessions(train), _sessions(test or [])
    train, test = _long(train, min_length), _long(test, min_length)
    support = Counter(row[1] for part in (train, test) for s in part for row in part[s])
    for part in (train, test):
        for s in part:
            part[s] = [row for row in part[s] if support[row[1]] >= min_support]
    train, test = _long(train, min_length), _long(test, min_length)
    if test_days is not None and train:
        latest = max(row[2] for rows in train.values() for row in rows)
        cutoff = latest - test_days * DAY
        late = {s for s, rows in train.items() if max(r[2] for r in rows) >= cutoff}
        test = {s: rows for s, rows in train.items() if s in late}
        train = {s: rows for s, rows in train.items() if s not in late}
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
