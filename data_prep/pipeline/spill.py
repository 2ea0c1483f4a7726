"""Parts kept between two passes over a log, in memory or on disk."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa

from data_prep.pipeline.parts import Part, open_stream, read_stream


class SpilledParts:
    """Parts that wait for the next pass."""

    def __init__(self, folder: Path, name: str, on_disk: bool) -> None:
        """Holds none yet; on disk, each part is two files ``folder/name.…``."""
        self._folder, self._name = folder, name
        self._on_disk = on_disk
        self._in_memory: list[Part] = []
        self._test: list[bool] = []  # of each part on disk

    def append(self, part: Part) -> None:
        """Adds a part."""
        if not self._on_disk:
            self._in_memory.append(part)
            return
        sessions = {"id": part.session_ids, "row": pa.array(part.first_rows)}
        tables = (part.events, pa.table(sessions))
        paths = self._paths(len(self._test))
        for path, table in zip(paths, tables, strict=True):
            with open_stream(path, table.schema) as writer:
                writer.write_table(table)
        self._test.append(part.is_test)

    def read(self) -> Iterator[Part]:
        """Yields each part in turn and lets go of it."""
        while self._in_memory:
            yield self._in_memory.pop(0)
        for number, is_test in enumerate(self._test):
            events, sessions = map(read_stream, self._paths(number))
            ids = sessions["id"].combine_chunks()
            yield Part(events, ids, sessions["row"].to_numpy(), is_test)

    def _paths(self, number: int) -> list[Path]:
        stem = self._folder / f"{self._name}.{number}"
        return [Path(f"{stem}.{kind}.arrow") for kind in ("events", "sessions")]


def spill(parts: Iterable[Part], waiting: SpilledParts) -> Iterator[Part]:
    """Ends a pass: stores all parts, and then yields them for the next one."""
    for part in parts:
        waiting.append(part)
    return waiting.read()
