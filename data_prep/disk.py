"""Whether the disk has room, asked before anything is written."""

import shutil
from pathlib import Path

from data_prep.errors import UserError

PART_ROW = 32  # bytes of an event while it lies in temporary parts, at most
SET_ROW = 20  # bytes of an event in a set and the flat files it is made from
_SPARE = 1 << 24


def require_space(out: Path, needed: int) -> None:
    """Raises where the disk of ``out`` has less than ``needed`` bytes free."""
    folder = next(parent for parent in out.resolve().parents if parent.exists())
    free = shutil.disk_usage(folder).free
    if free < needed + _SPARE:
        raise UserError(
            f"{out}: about {_gigabytes(needed + _SPARE)} of free disk are needed, with "
            f"temporary files; {folder} has {_gigabytes(free)}"
        )


def rows_need(rows: int, on_disk: bool) -> int:
    """Bytes that preparing so many rows takes at its peak."""
    return rows * (PART_ROW if on_disk else SET_ROW)


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:,.2f} GB"
