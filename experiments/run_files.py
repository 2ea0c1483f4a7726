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
# What a folder is, by files that it has, where it is no run; the first that fits.
KINDS = {
    EXPORTED: (CONFIG, "export.json"),
    KEPT: (CONFIG, "ranks.npz"),
    "a sweep": (SWEEP,),
    "a prepared data set": ("stats.json", "train.arrow"),
}


def kind(folder: Path) -> str | None:
    """In words what a folder of ours is, such as a run; None where it is none."""
    for words, names in KINDS.items():
        if all((folder / name).is_file() for name in names):
            return words
    return "a run" if is_run(folder) else None


def is_run(folder: Path) -> bool:
    """Whether a folder is a run's workdir, or what was kept of one."""
    beside = (METRICS, CHECKPOINTS, LOCK)
    return (folder / CONFIG).exists() and any((folder / n).exists() for n in beside)


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
