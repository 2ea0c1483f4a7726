"""The sessions that both sides of published_tron.py are given."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.benchmarks.made_up_sessions import make_sessions
from tron_jax.data.sessions import Sessions, open_prepared, select

BATCH = 128  # sessions that stay together
GOLDEN = (math.sqrt(5) - 1) / 2
NAME = "diginetica"  # the data set's, in the configs of both sides


class Source(NamedTuple):
    """Where sessions come from.

    Attributes:
      path: of a prepared set; "" for made-up sessions.
      profile: of the lengths of made-up sessions.
      num_sessions: made up for train; a tenth more for test.
      num_items: of made-up sessions.
    """

    path: str
    profile: str
    num_sessions: int
    num_items: int


class Data(NamedTuple):
    """Sessions of both splits, and the largest item id."""

    splits: dict[str, Sessions]
    num_items: int
    fingerprint: str


def open_source(source: Source) -> Data:
    """Opens a prepared set, spread out, or makes up the same sessions each time."""
    if source.path:
        data = open_prepared(source.path)
        splits = {"train": spread(data.train), "test": spread(data.test)}
        return Data(splits, data.num_items, data.fingerprint)
    num = source.num_sessions
    made = make_sessions(source.profile, num + num // 10, source.num_items)
    splits = {
        "train": select(made, 0, num),
        "test": select(made, num, made.num_sessions),
    }
    return Data(splits, source.num_items, "")


def spread(sessions: Sessions) -> Sessions:
    """Reorders whole batches so that the first few are spread over all of them.

    Lengths change over an epoch; its first batches alone would not be typical.

    Args:
      sessions: those of a split; what is left of the last, partial batch is dropped.

    Returns:
      The same sessions in batches of ``BATCH`` consecutive ones; where there is no
      whole batch, all as they were.
    """
    num = sessions.num_sessions // BATCH
    if num < 2:
        return sessions
    stride = next(n for n in range(int(num * GOLDEN), num) if math.gcd(n, num) == 1)
    batches = np.arange(num) * stride % num
    rows = (batches[:, None] * BATCH + np.arange(BATCH)).ravel()
    lengths = sessions.lengths[rows]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    moved = np.repeat(sessions.offsets[:-1][rows] - offsets[:-1], lengths)
    return Sessions(
        sessions.items[moved + np.arange(offsets[-1])],
        offsets,
        sessions.ids.take(rows),
        sessions.start_time.take(rows),
    )


def write_published(data: Data, folder: Path) -> dict[str, int]:
    """Writes both splits as the published code reads them, a line of JSON a session.

    Args:
      data: sessions; their order is kept.
      folder: gets ``NAME/NAME_train.jsonl`` and ``…_test.jsonl``.

    Returns:
      The number of sessions of each split.
    """
    (folder / NAME).mkdir(parents=True)
    for split, sessions in data.splits.items():
        with open(folder / NAME / f"{NAME}_{split}.jsonl", "w") as file:
            for number in range(sessions.num_sessions):
                start, end = sessions.offsets[number : number + 2]
                events = [
                    {"aid": item, "ts": 1.4e9 + second, "type": "clicks"}
                    for second, item in enumerate(sessions.items[start:end].tolist())
                ]
                file.write(
                    json.dumps({"session": str(number), "events": events}) + "\n"
                )
    return {split: sessions.num_sessions for split, sessions in data.splits.items()}
