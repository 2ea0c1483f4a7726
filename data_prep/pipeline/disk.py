"""Whether the disk has room for a set, asked before anything is written."""

from pathlib import Path

from tron_jax.errors import UserError
from tron_jax.files import free_room

# Bytes of an event apart from its session's id, which is there once: while it lies in
# temporary parts, with time and order; or in a set and the sorted runs it is merged
# from, where a session has two events.
EVENT_BYTES = 28
_SPARE = 1 << 24


def disk_bytes(rows: int, id_bytes: int) -> int:
    """Returns what a log of so many events takes, with ids of sessions of that size."""
    return rows * (EVENT_BYTES + id_bytes)


def require_space(out: Path, needed: int) -> None:
    """Raises UserError where ``out`` cannot be given so many bytes of disk."""
    out = out.resolve()
    folder = next(place for place in (out, *out.parents) if place.exists())
    free, needed = free_room(folder), needed + _SPARE
    if free < needed:
        raise UserError(
            f"{out}: about {needed / 1e9:,.2f} GB of free disk are needed, with "
            f"temporary files; {folder} has {free / 1e9:,.2f} GB"
        )
