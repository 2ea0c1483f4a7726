"""The runs below a folder, and those that a sweep has yet to start."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from experiments.run_files import (
    SWEEP,
    SWEEP_FORMAT,
    is_run,
)

FAILURES = "failed"  # folder of a sweep: why each of its runs failed that did


class Found(NamedTuple):
    """A run, or a place where one should be.

    Attributes:
      folder: of the run; a run that a sweep has yet to start has none.
      failure: where its sweep would say why it failed; None outside a sweep.
      fault: why nothing can be said of it; None where something can.
    """

    folder: Path
    failure: Path | None = None
    fault: str | None = None


def find(folder: Path) -> list[Found]:
    """Returns the runs in a folder, or the folder itself where that is one.

    Hidden folders are not looked into, nor is a run, and nothing is found twice. Runs
    of a sweep come in its order, the others by name.

    Args:
      folder: of a run, of a sweep, or any above.
    """
    return list(_below(folder, set()))


def _below(folder: Path, seen: set[Path]) -> Iterator[Found]:
    place = folder.resolve()
    if place in seen:  # a link, or a run of a sweep
        return
    seen.add(place)
    try:
        if is_run(folder):
            yield Found(folder)
            return
        children = _folders_in(folder)
        listed = _of_sweep(folder) if (folder / SWEEP).exists() else []
    except OSError as error:
        yield Found(folder, fault=f"cannot be listed: {error.strerror}")
        return
    for found in listed:
        place = found.folder.resolve()
        if place not in seen or found.fault:
            seen.add(place)
            yield found
    for child in children:
        yield from _below(child, seen)


def _folders_in(folder: Path) -> list[Path]:
    """Those that are not hidden; numbers by value, so topk=10 comes before topk=100."""

    def parts(name: str) -> list[tuple[int, str]]:
        texts = re.split(r"(\d+)", name)
        return [(int(text) if text.isdecimal() else -1, text) for text in texts]

    with os.scandir(folder) as entries:
        names = [e.name for e in entries if e.is_dir() and not e.name.startswith(".")]
    return [folder / name for name in sorted(names, key=parts)]


def _of_sweep(folder: Path) -> list[Found]:
    """The runs that a sweep consists of, in its order."""
    path = folder / SWEEP
    try:
        content = json.loads(path.read_text())
        if content["format"] != SWEEP_FORMAT:
            return []  # of somebody else
        return [
            Found(
                # What is reused may lie beside the sweep.
                Path(os.path.normpath(folder / run["folder"])),
                folder / FAILURES / f"{name.replace('/', '__')}.json",
            )
            for name, run in content["runs"].items()
        ]
    except OSError as error:
        return [Found(folder, fault=f"cannot read {path}: {error.strerror}")]
    except (AttributeError, KeyError, TypeError, ValueError):
        return [Found(folder, fault=f"{path} is damaged: not a sweep's list of runs")]
