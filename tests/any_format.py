"""The same rows in every format, read through ``data_prep.events``."""

import csv
import functools
import json

import pyarrow as pa
import pyarrow.parquet as pq

from data_prep import events
from data_prep.programs.log_program import LOG_SIZES
from tron_jax.console.program import run
from tron_jax.data.sessions import open_prepared

FORMATS = ("csv", "jsonl", "parquet")


def write_log(path, rows, names=("s", "i", "t", "p"), kinds=None):
    """Writes rows as they are; of Parquet, a column of one kind, or as it is given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    names = names[: len(rows[0])]
    if path.suffix == ".csv":
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([names, *rows])
    elif path.suffix == ".jsonl":
        lines = [json.dumps(dict(zip(names, row, strict=True))) for row in rows]
        path.write_text("\n".join(lines) + "\n")
    else:
        columns = {
            name: pa.array(values, (kinds or {}).get(name))
            for name, values in zip(names, zip(*rows, strict=True), strict=True)
        }
        pq.write_table(pa.table(columns), path)
    return path


def status_of(log, out, *args, sizes=LOG_SIZES):
    argv = ["events", f"--train={log}", f"--out={out}", "--session=s", "--item=i"]
    main = functools.partial(events.main, sizes=sizes)
    return run(main, events.define_flags(), [*argv, "--min_item_support=1", *args])


def sessions_of(log, out, *args, sizes=LOG_SIZES):
    """Prepares a log; returns train as (session, [raw ids of its items])."""
    assert status_of(log, out, *args, sizes=sizes) == 0
    data = open_prepared(out)
    raw = pq.read_table(out / "items.parquet")["raw_id"].to_pylist()
    sessions = data.train
    bounds = zip(sessions.offsets[:-1], sessions.offsets[1:], strict=True)
    items = [[raw[i - 1] for i in sessions.items[a:b]] for a, b in bounds]
    return list(zip(sessions.ids.to_pylist(), items, strict=True))
