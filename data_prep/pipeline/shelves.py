"""Parts put aside between two passes over a log."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from data_prep.pipeline.parts import Part, open_stream, read_stream


class Shelf:
    """Parts put aside, in memory or on disk."""

    def __init__(self, folder: Path, name: str, on_disk: bool) -> None:
        """Is empty; on disk, each part is two files ``folder/name.…``."""
        self._stem = folder / name
        self._on_disk = on_disk
        self._parts: list[Part] = []
        self._count = 0

    def put(self, part: Part) -> None:
        """Adds a part."""
        self._count += 1
        if not self._on_disk:
            self._parts.append(part)
            return
        sessions = {"id": part.session_ids, "row": pa.array(part.first_rows)}
        tables = (part.events, pa.table(sessions))
        for path, table in zip(self._paths(self._count - 1), tables, strict=True):
            with open_stream(path, table.schema) as writer:
                writer.write_table(table)

    def take(self) -> Iterator[Part]:
        """Yields each part, which is forgotten."""
        while self._parts:
            yield self._parts.pop(0)
        for number in range(self._count if self._on_disk else 0):
            events, sessions = map(read_stream, self._paths(number))
            ids = sessions["id"].combine_chunks()
            yield Part(events, ids, sessions["row"].to_numpy())

    def _paths(self, number: int) -> list[Path]:
        names = (f"{number}.events.arrow", f"{number}.sessions.arrow")
        return [self._stem.with_name(f"{self._stem.name}.{name}") for name in names]
