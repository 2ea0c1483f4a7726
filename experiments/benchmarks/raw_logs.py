"""Writes a prepared set out as a raw log, to try the preparation at any size.

python -m experiments.benchmarks.raw_logs --data=DIR --out=PATH
    --format=diginetica|yoochoose|otto [--num_sessions=N] [--seed=S]

PATH becomes a folder of the format's one file, or two of otto's. N sessions of train
are written, all if not given, and test in the same ratio, after train where there is
one file. Sessions keep their start times, to the millisecond; later clicks follow after
made-up pauses. Diginetica's rows stand in random order within a session, as they do in
the original.
"""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq
from absl import flags

from data_prep.clicks.batches import DAY
from data_prep.pipeline.disk import require_space
from tron_jax.console.program import run
from tron_jax.console.stages import Stages
from tron_jax.data.sessions import Sessions, open_prepared, select
from tron_jax.errors import UserError
from tron_jax.files import new_folder

_CHUNK = 1 << 16  # sessions written together
_DAY_MS = DAY // 1000
_PAUSE = 60.0  # seconds between clicks, on average
_ROW_BYTES = {"diginetica": 48, "yoochoose": 50, "otto": 64}  # at most, about
FILES = {
    "diginetica": ("train-item-views.csv",),
    "yoochoose": ("yoochoose-clicks.dat",),
    "otto": ("otto-recsys-train.jsonl", "otto-recsys-test.jsonl"),
}


def define_flags() -> flags.FlagValues:
    """Builds the program's flags, apart from those of other programs."""
    values = flags.FlagValues()
    flags.DEFINE_string("data", None, "a prepared set", values, required=True)
    flags.DEFINE_enum("format", None, list(FILES), "to write", values, required=True)
    flags.DEFINE_string("out", None, "folder to write; new or empty", values, True)
    flags.DEFINE_integer(
        "num_sessions", None, "train sessions; all if not given", 1, flag_values=values
    )
    flags.DEFINE_integer("seed", 0, "of pauses and order", 0, flag_values=values)
    return values


def main(values: flags.FlagValues) -> None:
    """Writes the files."""
    data, out = open_prepared(values.data), Path(values.out)
    total = data.train.num_sessions
    share = min(values.num_sessions or total, total) / total
    splits = [
        select(split, 0, round(share * split.num_sessions))
        for split in (data.train, data.test)
    ]
    events = sum(split.num_events for split in splits)
    require_space(out, events * _ROW_BYTES[values.format])
    raw_ids = pq.read_table(data.path / "items.parquet")["raw_id"].combine_chunks()
    names = FILES[values.format]
    generator = np.random.default_rng(values.seed)
    stages = Stages()
    try:
        with new_folder(out) as folder:
            for number, split in enumerate(splits):
                path = folder / names[min(number, len(names) - 1)]
                stages.stage(f"writing {path.name}")
                with path.open("ab") as file:
                    if values.format == "diginetica" and not number:
                        file.write(b"sessionId;userId;itemId;timeframe;eventdate\n")
                    for done, clicks in _clicks(split, raw_ids, generator):
                        _WRITERS[values.format](file, clicks, generator)
                        stages.count("sessions", done, split.num_sessions)
    finally:
        stages.close()


def _clicks(
    split: Sessions, raw_ids: pa.Array, generator: np.random.Generator
) -> Iterator[tuple[int, pa.Table]]:
    """Yields how many sessions are done, and the clicks of the latest of them.

    The columns are the raw ids ``session`` and ``item``, ``time`` (milliseconds) and
    ``row``, the session's number among those of the table.
    """
    for first in range(0, split.num_sessions, _CHUNK):
        last = min(first + _CHUNK, split.num_sessions)
        part = select(split, first, last)
        starts = part.offsets[:-1] - part.offsets[0]
        codes = part.items[part.offsets[0] : part.offsets[-1]]
        pauses = generator.exponential(1000 * _PAUSE, len(codes))
        pauses = np.rint(pauses).astype(np.int64)
        pauses[starts] = 0
        passed = np.cumsum(pauses)
        passed -= np.repeat(passed[starts], part.lengths)
        if part.start_time.null_count:
            raise UserError("a set without start times cannot be written as a log")
        start_ms = part.start_time.cast(pa.int64()).to_numpy() // 1000
        rows = np.repeat(np.arange(part.num_sessions), part.lengths)
        columns = {
            "session": part.ids.take(pa.array(rows)),
            "item": raw_ids.take(pa.array(codes - 1)),
            "time": pa.array(np.repeat(start_ms, part.lengths) + passed),
            "row": pa.array(rows),
        }
        yield last, pa.table(columns)


def _write_diginetica(
    file: Any, clicks: pa.Table, generator: np.random.Generator
) -> None:
    rows = clicks["row"].to_numpy()
    clicks = clicks.take(pa.array(np.lexsort((generator.random(len(rows)), rows))))
    times = clicks["time"].to_numpy()
    days = (times // _DAY_MS).astype(np.int32)
    table = pa.table(
        {
            "session": clicks["session"],
            "user": pa.array(["NA"]).take(pa.array(np.zeros(len(rows), np.int8))),
            "item": clicks["item"],
            "timeframe": pa.array(times % _DAY_MS),
            "date": pa.array(days, pa.int32()).cast(pa.date32()),
        }
    )
    _write_csv(file, table, ";")


def _write_yoochoose(
    file: Any, clicks: pa.Table, generator: np.random.Generator
) -> None:
    del generator
    stamps = clicks["time"].cast(pa.timestamp("ms", tz="UTC")).cast(pa.string())
    options = pc.ReplaceSubstringOptions(" ", "T")
    stamps = pc.call_function("replace_substring", [stamps], options)
    zeros = pa.array(np.zeros(len(stamps), np.int8))
    columns = [clicks["session"], stamps, clicks["item"], zeros]
    _write_csv(file, pa.table(columns, names=["session", "time", "item", "cat"]), ",")


def _write_csv(file: Any, table: pa.Table, delimiter: str) -> None:
    options = pyarrow.csv.WriteOptions(
        include_header=False, delimiter=delimiter, quoting_style="none"
    )
    pyarrow.csv.write_csv(table, file, options)


def _write_otto(file: Any, clicks: pa.Table, generator: np.random.Generator) -> None:
    del generator
    sessions = clicks["session"].to_pylist()
    items = map(json.dumps, clicks["item"].to_pylist())
    times = clicks["time"].to_pylist()
    starts = np.flatnonzero(np.diff(clicks["row"].to_numpy(), prepend=-1))
    events = [
        f'{{"aid":{aid},"ts":{ts},"type":"clicks"}}'
        for aid, ts in zip(items, times, strict=True)
    ]
    for start, end in zip(starts, [*starts[1:], len(events)], strict=True):
        session = json.dumps(sessions[start])
        line = f'{{"session":{session},"events":[{",".join(events[start:end])}]}}\n'
        file.write(line.encode())


_WRITERS: dict[str, Callable[[Any, pa.Table, np.random.Generator], None]] = {
    "diginetica": _write_diginetica,
    "yoochoose": _write_yoochoose,
    "otto": _write_otto,
}

if __name__ == "__main__":
    sys.exit(run(main, define_flags()))
