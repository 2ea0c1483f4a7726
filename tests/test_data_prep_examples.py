"""The commands of data_prep/LOGS.md on made-up files of the forms that they are for."""

import csv
import datetime
import gzip
import json
import re
import shlex
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_prep import events
from tron_jax.console.program import run
from tron_jax.data.sessions import open_prepared

PAGE = (Path(events.__file__).parent / "LOGS.md").read_text()
EXAMPLES = dict(re.findall(r"^### (.*?)\n.*?^```\n(tron-.*?)```", PAGE, re.M | re.S))
START = datetime.datetime(2023, 11, 14, 22, 13, 20, tzinfo=datetime.UTC)
USERS, VISITS, CLICKS = 10, 4, 3  # a visit every 25 hours


def clicks():
    """Yields (user, visit, item, time) as they happen."""
    for visit in range(VISITS):
        for click in range(CLICKS):
            for user in range(USERS):
                hours = 25 * visit
                after = datetime.timedelta(hours=hours, minutes=click, seconds=user)
                yield user, visit, f"i{(user + click) % 4}", START + after


def texts(form, rows=None):
    return [
        (f"{user}-{visit}", item, time.strftime(form))
        for user, visit, item, time in rows or clicks()
    ]


def write_csv(path, names, rows, delimiter=",", encoding="utf-8"):
    path.parent.mkdir(parents=True, exist_ok=True)
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "wt", newline="", encoding=encoding) as file:
        csv.writer(file, delimiter=delimiter).writerows([names, *rows])


def in_files(rows, count=3):
    """Yields numbers of files and the rows of each."""
    rows = list(rows)
    size = -(-len(rows) // count)
    for number in range(count):
        yield number, rows[number * size :][:size]


def microseconds(time):
    return int(time.timestamp()) * 10**6


def ga4(folder):
    names = ("user_pseudo_id", "item_id", "event_timestamp", "ga_session_id")
    rows = [(f"u.{u}", i, microseconds(t), visit) for u, visit, i, t in clicks()]
    for number, some in in_files(rows):
        write_csv(folder / f"ga4/views-{number:012}.csv.gz", names, some)


def ga4_raw(folder):
    for number, some in in_files(clicks()):
        lines = []
        for user, _, item, time in some:
            # BigQuery writes its INT64 as text.
            event = {"event_timestamp": str(microseconds(time)), "user_pseudo_id": user}
            params = [{"key": "page", "value": {"string_value": "x"}}]
            event["event_params"] = params
            for name, items in (("page_view", []), ("view_item", [{"item_id": item}])):
                lines.append(json.dumps(event | {"event_name": name, "items": items}))
        path = folder / f"ga4_raw/{number:012}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text("\n".join(lines))


def bigquery(folder):
    rows = texts("%Y-%m-%d %H:%M:%S.5 UTC")
    for number, some in in_files(rows):
        names = ("session_id", "item_id", "clicked_at")
        write_csv(folder / f"bigquery/clicks-{number:012}.csv", names, some)


def snowflake(folder):
    zone = datetime.timezone(datetime.timedelta(hours=-8))
    rows = [(u, visit, i, t.astimezone(zone)) for u, visit, i, t in clicks()]
    form = "%Y-%m-%d %H:%M:%S.000 %z"
    for number, some in in_files(texts(form, rows)):
        names = ("SESSION_ID", "ITEM_ID", "CLICKED_AT")
        write_csv(folder / f"snowflake/data_0_{number}_0.csv.gz", names, some)


def spark(folder):
    rows = texts("%Y-%m-%dT%H:%M:%S.000Z")
    for day in sorted({time[:10] for *_, time in rows}):
        some = [row for row in rows if row[2].startswith(day)]
        path = folder / f"spark/day={day}/part-00000-3f1c.c000.csv"
        write_csv(path, ("session_id", "item_id", "timestamp"), some)
        (path.parent / f".{path.name}.crc").write_bytes(b"crc")
    (folder / "spark/_SUCCESS").touch()


def pandas(folder):
    rows = [(n, *row) for n, row in enumerate(texts("%d.%m.%Y %H:%M:%S"))]
    write_csv(folder / "clicks.csv", ("", "session", "item", "time"), rows, ";")


def shop(folder):
    lines = []
    for user in range(USERS):
        for visit in range(VISITS):
            own = [c for c in clicks() if c[:2] == (user, visit)]
            lines.append(
                {
                    "id": len(lines),
                    "customer": {"id": user, "email": None},
                    "created_at": own[0][3].isoformat(),
                    "line_items": [
                        {"product_id": i, "quantity": 1} for *_, i, _ in own
                    ],
                }
            )
    lines.append({"id": -1, "customer": {"id": 0}, "created_at": START.isoformat(),
                  "line_items": []})  # fmt: skip
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / "orders.jsonl").write_text(text)


def session_rows(folder):
    found = {}
    for user, visit, item, time in clicks():
        items, times = found.setdefault(f"{user}-{visit}", ([], []))
        items.append(item)
        times.append(time)
    items, times = zip(*found.values(), strict=True)
    table = pa.table({"session_id": list(found), "items": items, "times": times})
    pq.write_table(table, folder / "sessions.parquet")


def excel(folder):
    rows, names = texts("%d.%m.%Y %H:%M"), ("session", "item", "time")
    write_csv(folder / "clicks.txt", names, rows, "\t", "utf-16")


MADE = {
    "A GA4 export": ga4,
    "A GA4 export without a query": ga4_raw,
    "A BigQuery export": bigquery,
    "A Snowflake unload": snowflake,
    "A Spark folder": spark,
    "A CSV of pandas with semicolons": pandas,
    "Orders of a shop as nested JSON": shop,
    "A session a row": session_rows,
    "Excel's Unicode text": excel,
}


@pytest.mark.parametrize("name", MADE)
def test_an_example_reads_its_log(tmp_path, monkeypatch, name):
    MADE[name](tmp_path)
    monkeypatch.chdir(tmp_path)
    argv = shlex.split(EXAMPLES[name].replace("\\\n", " "))
    assert argv[0] == "tron-prepare"
    assert run(events.main, events.define_flags(), argv) == 0
    data = open_prepared(tmp_path / "DATA")
    raw_ids = pq.read_table(tmp_path / "DATA" / "items.parquet")["raw_id"].to_pylist()
    found = []
    for part in (data.train, data.test):
        bounds = zip(part.offsets[:-1], part.offsets[1:], strict=True)
        found += [[raw_ids[i - 1] for i in part.items[a:b]] for a, b in bounds]
    visits = VISITS if name == "Orders of a shop as nested JSON" else 1  # of a session
    expected = [
        [i for u, v, i, _ in clicks() if (u, v) == (user, visit)] * visits
        for user in range(USERS)
        for visit in range(VISITS // visits)
    ]
    assert sorted(found) == sorted(expected)
    split = "--test_days" in EXAMPLES[name]
    assert data.test.num_sessions == (USERS if split else 0)


def test_each_example_is_tried():
    assert set(EXAMPLES) == set(MADE)
