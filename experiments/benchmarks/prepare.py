"""Times the preparation of a made-up raw log, stage by stage.

    python -m experiments.benchmark prepare --format=diginetica|yoochoose|otto \
        [--num_sessions=N] [--folder=DIR] [--json=FILE]

Makes a set with `data_prep.synthetic`, writes it out as a raw log with
`experiments.benchmarks.raw_logs`, and prepares that log; each program is a process of
its own. The table gives events/s (of clicks read), CPU seconds and the most memory
resident, mapped files included, for each stage; `load` is the machine's, before and
after. Everything is made in a folder beneath DIR (the system's if not given), which is
removed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags

from experiments.benchmarks import raw_logs
from tron_jax.console.program import run
from tron_jax.errors import UserError

# Sessions of about ten million events.
SESSIONS = {"diginetica": 1_950_000, "yoochoose": 2_500_000, "otto": 640_000}


def define_flags() -> flags.FlagValues:
    values = flags.FlagValues()
    formats = list(SESSIONS)
    flags.DEFINE_enum("format", None, formats, "Raw format.", values, required=True)
    flags.DEFINE_integer(
        "num_sessions", None, "Train sessions to make.", 1, flag_values=values
    )
    flags.DEFINE_integer(
        "num_items", None, "Items; the profile's if not given.", 2, flag_values=values
    )
    flags.DEFINE_string("folder", None, "Where there is room for it all.", values)
    flags.DEFINE_string("json", None, "File to write the figures to.", values)
    return values


def main(argv: Sequence[str]) -> int:
    """The program; `argv` is its name and flags. Returns the exit status."""
    return run(benchmark, define_flags(), argv)


def benchmark(values: flags.FlagValues) -> None:
    with tempfile.TemporaryDirectory(dir=values.folder) as name:
        figures = measure(
            Path(name),
            values.format,
            values.num_sessions or SESSIONS[values.format],
            values.num_items,
        )
    print(table(figures))
    if values.json is not None:
        Path(values.json).write_text(json.dumps(figures, indent=2) + "\n")


def measure(
    folder: Path, log_format: str, num_sessions: int, num_items: int | None = None
) -> dict[str, Any]:
    """Makes, writes and prepares a log beneath an empty folder."""
    made, raw, out = (folder / name for name in ("made", "raw", "out"))
    items = [] if num_items is None else [f"--num_items={num_items}"]
    sessions = f"--num_sessions={num_sessions}"
    profile = f"--profile={log_format}"
    _run("data_prep.synthetic", profile, sessions, *items, f"--out={made}")
    _run(raw_logs.__name__, f"--data={made}", f"--format={log_format}", f"--out={raw}")
    files = [raw / name for name in raw_logs.FILES[log_format]]
    size = sum(file.stat().st_size for file in files)
    source = raw if log_format == "otto" else files[0]
    timings = folder / "timings.json"
    load = os.getloadavg()[0]
    begun = time.monotonic()
    arguments = (f"--raw={source}", f"--out={out}", f"--timings={timings}")
    _run(f"data_prep.{log_format}", *arguments)
    seconds = time.monotonic() - begun
    found = json.loads(timings.read_text())
    return {
        "format": log_format,
        "events": found["events"],
        "raw_bytes": size,
        "seconds": seconds,
        "load": [load, os.getloadavg()[0]],
        "cores": os.cpu_count(),
        "stages": _by_name(found["stages"]),
    }


def _run(module: str, *arguments: str) -> None:
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit {done.returncode}"]
        raise UserError(f"{module}: {lines[-1].removeprefix('error: ')}")


def _by_name(stages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Sums the stages that do the same, such as reading two files."""
    by_name: dict[str, list[dict[str, Any]]] = {}
    for stage in stages:
        by_name.setdefault(stage["stage"].split(" /")[0], []).append(stage)
    return [_sum(name, alike) for name, alike in by_name.items()]


def table(figures: dict[str, Any]) -> str:
    """The figures as lines of text: each stage, all but reading, and the whole."""
    stages = figures["stages"]
    after = [stage for stage in stages if not stage["stage"].startswith("reading")]
    rows = [*stages, _sum("all after reading", after), _sum("all stages", stages)]
    rows.append({**rows[-1], "stage": "raw file to set", "seconds": figures["seconds"]})
    load = figures["load"]
    lines = [
        f"{figures['format']}: {figures['events']:,} clicks, "
        f"{figures['raw_bytes'] / 1e6:,.0f} MB raw, {figures['cores']} cores, "
        f"load {load[0]:.1f} to {load[1]:.1f}",
        f"{'':<30}{'seconds':>9}{'CPU s':>9}{'events/s':>13}{'peak MB':>9}",
    ]
    for row in rows:
        peak = "n/a" if row["peak_bytes"] is None else f"{row['peak_bytes'] / 1e6:,.0f}"
        rate = figures["events"] / max(row["seconds"], 1e-9)
        lines.append(
            f"{row['stage']:<30}{row['seconds']:9.2f}{row['cpu_seconds']:9.2f}"
            f"{rate:13,.0f}{peak:>9}"
        )
    return "\n".join(lines)


def _sum(name: str, stages: list[dict[str, Any]]) -> dict[str, Any]:
    peaks = [stage["peak_bytes"] for stage in stages]
    return {
        "stage": name,
        "seconds": sum(stage["seconds"] for stage in stages),
        "cpu_seconds": sum(stage["cpu_seconds"] for stage in stages),
        "peak_bytes": None if None in peaks else max(peaks),
    }
