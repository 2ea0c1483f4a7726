"""What a sweep will take, run by run, before anything is trained."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.sweeping import processes
from experiments.sweeping.definition import Run
from experiments.sweeping.processes import Signals, stop_if_asked
from tron_jax.console.messages import readable
from tron_jax.console.progress import Progress, clock_time
from tron_jax.errors import UserError
from tron_jax.files import free_room

KEPT = 2  # checkpoints of a finished run: the best and the latest


def measure_settings(
    runs: Sequence[Run], *, timed: bool, signals: Signals
) -> dict[str, dict[str, Any]]:
    """Measures each setting once, each in a process of its own.

    Args:
      runs: the first of a setting stands for it.
      timed: whether to time steps.
      signals: that this process has received so far.

    Returns:
      What ``measuring.measure`` returns, by the name of the setting.

    Raises:
      UserError: where one cannot even be built, with its reason.
      Stop: if this process was asked to stop.
    """
    first = {run.setting: run for run in reversed(runs)}
    found: dict[str, dict[str, Any]] = {}
    with (
        tempfile.TemporaryDirectory() as folder,
        Progress("measuring", len(first), unit="settings") as progress,
    ):
        for setting, run in sorted(first.items()):
            found[setting] = _measure(run, Path(folder), timed, signals)
            progress.update(len(found))
    return found


def _measure(run: Run, folder: Path, timed: bool, signals: Signals) -> dict[str, Any]:
    config, out, log = (folder / name for name in ("config.json", "out.json", "log"))
    config.write_text(json.dumps(run.config.to_dict()))
    arguments = [str(config), str(out), *(["timed"] if timed else [])]
    command = [sys.executable, "-m", "experiments.sweeping.measuring", *arguments]
    why = processes.run(command, log, watch=lambda: None, signals=signals)
    stop_if_asked(signals)
    if why is not None:
        raise UserError(f"{run.setting} cannot be made: {why}")
    return json.loads(out.read_text())


def estimate(
    runs: Sequence[Run], measured: Mapping[str, Mapping[str, Any]], workdir: Path
) -> list[str]:
    """Lays out what the runs take, and adds it up.

    Args:
      runs: of the sweep that are still to be made.
      measured: by setting.
      workdir: where they will be.

    Returns:
      Lines to print.
    """
    if not runs:
        return ["every run is done"]
    rows = [
        (run.name, of["seconds"], of["memory"], KEPT * of["state"])
        for run in runs
        for of in [measured[run.setting]]
    ]
    _, seconds, memory, disk = zip(*rows, strict=True)
    rows.append((f"{len(runs)} runs", sum(seconds), max(memory), sum(disk)))
    width = 2 + max(len(name) for name, *_ in rows)
    lines = [f"{'run':<{width}}{'time':>10}{'memory':>10}{'disk':>10}"]
    for name, seconds, memory, disk in rows:
        cells = (clock_time(seconds), readable(memory), readable(disk))
        lines.append(f"{name:<{width}}" + "".join(f"{cell:>10}" for cell in cells))
    return [
        *lines,
        f"free on disk: {readable(free_room(workdir.absolute()))}",
        "time: by steps timed just now, compiling aside; a busy machine takes longer",
    ]
