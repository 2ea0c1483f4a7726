"""Memory: how much is free, how much was used, how much a compiled program needs."""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import jax

PROC = Path("/proc")
CGROUPS = Path("/sys/fs/cgroup")


class Peak(NamedTuple):
    """The most memory that a process has held so far.

    Attributes:
      host: bytes of main memory.
      device: bytes of the fullest local accelerator; None where the host computes, or
        where the accelerator does not say.
    """

    host: int
    device: int | None


def peak_memory() -> Peak:
    """Returns the most memory that this process has held at once."""
    of_devices = [stats.get("peak_bytes_in_use") for stats in _device_stats()]
    known = [value for value in of_devices if value is not None]
    # Not from getrusage where possible: on Linux, exec (by which the programs restart
    # themselves) does not reset it.
    fields = _fields(PROC / "self" / "status")
    if "VmHWM" in fields:
        return Peak(fields["VmHWM"], max(known, default=None))
    unit = 1 if sys.platform == "darwin" else 1024
    host = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return Peak(host, max(known, default=None))


def free_memory() -> int | None:
    """Returns the bytes that the device's memory still has room for.

    On a CPU that is what the system could give without swapping, within the limits of
    the process's control groups; on accelerators, what the fullest has left. None if
    that is not known.
    """
    if jax.default_backend() != "cpu":
        stats = _device_stats()
        room = [
            s["bytes_limit"] - s["bytes_in_use"] for s in stats if "bytes_limit" in s
        ]
        return min(room, default=None)
    return host_memory().free


def device_memory() -> int | None:
    """Returns the bytes of the device's memory that this process may have in all.

    On accelerators, of the one that has least; None if that is not known.
    """
    if jax.default_backend() == "cpu":
        return host_memory().total
    limits = [s["bytes_limit"] for s in _device_stats() if "bytes_limit" in s]
    return min(limits, default=None)


class HostMemory(NamedTuple):
    """Bytes of main memory that a process may have in all, and of those still free."""

    total: int | None
    free: int | None


def host_memory() -> HostMemory:
    """Returns main memory as this process may use it; None where it is not known."""
    system = _fields(PROC / "meminfo")
    totals, room = [system.get("MemTotal")], [system.get("MemAvailable")]
    if totals == [None] and "SC_PHYS_PAGES" in os.sysconf_names:
        totals = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for limit, used in _cgroup_limits():
        totals.append(limit)
        room.append(limit - used)
    known = [[v for v in values if v is not None] for values in (totals, room)]
    return HostMemory(*(min(values, default=None) for values in known))


def held(tree: Any) -> int:
    """Bytes that arrays, or the shapes of them, take of one device's memory.

    Those of a mesh that a CPU plays are all in one memory.
    """
    return sum(_held(leaf) for leaf in jax.tree.leaves(tree))


def _held(array: Any) -> int:
    place = getattr(array, "sharding", None)
    if place is None:
        return size(array)
    part = jax.ShapeDtypeStruct(place.shard_shape(array.shape), array.dtype)
    return size(part) * in_one_memory(len(place.device_set))


def in_one_memory(devices: int) -> int:
    """How many of some devices share a memory."""
    return devices if jax.default_backend() == "cpu" else 1


def temporaries(compiled: Iterable[jax.stages.Compiled]) -> int:
    """Returns the most bytes that any of some programs needs besides its arguments.

    Args:
      compiled: programs that do not run at the same time.

    Returns:
      Bytes of temporaries and of results that do not reuse an argument's memory;
      a program counts as 0 where the backend does not say.
    """
    needs = [0]
    for program in compiled:
        found = program.memory_analysis()
        if found is not None:
            results = found.output_size_in_bytes - found.alias_size_in_bytes
            needs.append(found.temp_size_in_bytes + results)
    return max(needs)


def size(tree: Any) -> int:
    """Returns the bytes of all arrays, or shapes of arrays, in a pytree."""
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))


def _device_stats() -> list[dict[str, int]]:
    """Memory statistics of the local accelerators; none for a CPU."""
    return [stats for d in jax.local_devices() if (stats := d.memory_stats())]


def _fields(path: Path) -> dict[str, int]:
    """The sizes in a file of lines such as ``MemFree: 12 kB``, in bytes."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return {}
    words = [line.split() for line in lines]
    sizes = [w for w in words if len(w) == 3 and w[2] == "kB" and w[1].isdecimal()]
    return {w[0].removesuffix(":"): int(w[1]) * 1024 for w in sizes}


def _cgroup_limits() -> list[tuple[int, int]]:
    """Limit and use of each control group around this process that has a limit."""
    try:
        lines = (PROC / "self" / "cgroup").read_text().splitlines()
    except OSError:
        return []
    found = []
    for _, controllers, group in (line.split(":", 2) for line in lines):
        if controllers and "memory" not in controllers.split(","):
            continue
        root, names = (
            (CGROUPS / "memory", _FILES_OF_V1) if controllers else (CGROUPS, _FILES)
        )
        inner = root / group.lstrip("/")
        # Parents limit their children; a container may see its own group as the root.
        around = [f for f in (inner, *inner.parents) if f == root or root in f.parents]
        found += [_limit(folder, *names) for folder in around]
    return [limit for limit in found if limit is not None]


_FILES = ("memory.max", "memory.current", "")
_CACHES = ("active_file", "inactive_file", "slab_reclaimable")
_FILES_OF_V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_")


def _limit(folder: Path, limit: str, use: str, prefix: str) -> tuple[int, int] | None:
    """Limit and use of one control group; cached files do not count as use."""
    try:
        most = (folder / limit).read_text().strip()
        used = int((folder / use).read_text())
        lines = (folder / "memory.stat").read_text().splitlines()
    except (OSError, ValueError):
        return None
    if not most.isdecimal():  # "max"
        return None
    stat = dict(line.split() for line in lines)
    cached = [int(stat.get(prefix + kind, 0)) for kind in _CACHES]
    return int(most), used - sum(cached)
