"""What lies where in the folder of a run; for programs that need no JAX as well."""

from __future__ import annotations

import fcntl
from pathlib import Path

CONFIG = "config.json"
LOCK = ".lock"
CHECKPOINTS = "checkpoints"
METRICS = "metrics.jsonl"
SWEEP = "sweep.json"  # of a folder of runs: which they are
SWEEP_FORMAT = "tron-sweep"
FAILED = "failed.json"  # why the run ended last, if it was by a fault
EXPORTED, KEPT = "an exported model", "a kept result"
# What a folder is, by a file that it has; the first that is there tells.
KINDS = {
    "export.json": EXPORTED,
    "ranks.npz": KEPT,
    SWEEP: "a sweep",
    CONFIG: "a run",
    "stats.json": "a prepared data set",
}


def kind(folder: Path) -> str | None:
    """In words what a folder of ours is, one of ``KINDS``; None where it is none."""
    for name, words in KINDS.items():
        if (folder / name).is_file():
            return words
    return None


def newest_step(workdir: Path) -> int | None:
    """Returns the step of the newest checkpoint, None where there is none."""
    try:
        names = [path.name for path in (workdir / CHECKPOINTS).iterdir()]
    except OSError:
        return None
    return max((int(name) for name in names if name.isdecimal()), default=None)


def is_held(workdir: Path) -> bool | None:
    """Whether a program trains there now; None where the file system has no locks.

    To find out is to take the lock for an instant, shared with others who look. A run
    that starts at that instant tries again.
    """
    try:
        with open(workdir / LOCK, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    except OSError:
        return None
    return False
