"""Whether the disk has room, asked before anything is written."""

import shutil
from pathlib import Path

from tron_jax.errors import UserError

# Bytes of an event beside its session's id, which is there once: while it lies in
# temporary parts, with time and order; or in a set and the sorted runs it is merged
# from, where a session has two events.
ROW = 28
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


def rows_need(rows: int, id_bytes: int = 8) -> int:
    """Bytes that preparing so many rows takes at its peak, with ids of so many."""
    return rows * (ROW + id_bytes)


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:,.2f} GB"
