"""The ranks of an evaluation: one per predicted event, in memory and ``ranks.parquet``.

Any metric under any tie rule follows from them, and two runs can be compared event by
event.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tron_jax.files import replacing


class Ranks(NamedTuple):
    """Ranks of a split under one protocol, in the order of session and event.

    Attributes:
      session: [ranks] int32 index of the session in the split.
      event: [ranks] int32 index of the label in its session, from 1 on.
      label: [ranks] int32 item id of the label.
      higher: [ranks] int32 number of other items that score higher than the label.
      equal: [ranks] int32 number of other items that score as high.
    """

    session: np.ndarray
    event: np.ndarray
    label: np.ndarray
    higher: np.ndarray
    equal: np.ndarray


def save(path: str | Path, ranks: Mapping[str, Ranks], session_ids: pa.Array) -> None:
    """Writes ``ranks.parquet``, whole or not at all.

    Columns: protocol, session (raw id), event, label, higher, equal.

    Args:
      path: the file; one that is there is replaced.
      ranks: of a split, by the name of the protocol.
      session_ids: [sessions] raw ids of that split.

    Raises:
      OSError: if it cannot be written; what was there before stays.
    """
    names = pa.array(list(ranks))
    tables = [
        _table(names, number, of_protocol, session_ids)
        for number, of_protocol in enumerate(ranks.values())
    ]
    with replacing(path) as new, pq.ParquetWriter(new, tables[0].schema) as file:
        for table in tables:
            file.write_table(table)


def _table(
    names: pa.Array, protocol: int, ranks: Ranks, session_ids: pa.Array
) -> pa.Table:
    number = np.full(len(ranks.session), protocol, np.int8)
    columns = {
        "protocol": pa.DictionaryArray.from_arrays(number, names),
        "session": session_ids.take(pa.array(ranks.session)),
        "event": ranks.event,
        "label": ranks.label,
        "higher": ranks.higher,
        "equal": ranks.equal,
    }
    return pa.table(columns)
