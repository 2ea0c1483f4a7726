"""Runs of `experiments.train` as a user makes them: to the end, or cut and resumed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments import workdirs
from experiments.assembly import run_parts
from experiments.benchmarks.child_processes import ROOT
from experiments.device import processes
from tron_jax.storage.checkpoints import Checkpoints

POLL = 0.005  # seconds between looks at the log of a run that is to be cut
STDOUT = "stdout.txt"


def command(config: str, workdir: Path, fields: Mapping[str, Any]) -> list[str]:
    """The command line of a run.

    Args:
      config: name of a file of experiments/configs, perhaps with ``:argument``.
      workdir: of the run.
      fields: of the config, by path, that are set.
    """
    name, colon, argument = config.partition(":")
    path = ROOT / "experiments" / "configs" / f"{name}.py"
    return [
        *(sys.executable, "-m", "experiments.train"),
        *(f"--config={path}{colon}{argument}", f"--workdir={workdir}"),
        *(f"--config.{field}={value}" for field, value in fields.items()),
    ]


def train(
    arguments: Sequence[str], folder: Path, limit: float, **environment: str
) -> None:
    """Trains to the end; raises RuntimeError with the reason if that fails."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / STDOUT, "ab") as stdout:
        ended = processes.run(
            arguments, folder, limit, environment=environment, stdout=stdout.fileno()
        )
    if ended.error:
        sys.stderr.write(ended.stderr)
        raise RuntimeError(ended.error)


def train_and_stop(
    arguments: Sequence[str],
    folder: Path,
    metrics: Path,
    limit: float,
    **environment: str,
) -> int:
    """Trains until the first line of the log and asks the run to stop there.

    Args:
      arguments: the command.
      folder: for its output.
      metrics: the log of the run.
      limit: seconds.
      **environment: variables besides those of this process.

    Returns:
      The step at which it stopped.

    Raises:
      RuntimeError: if it ended otherwise.
    """
    folder.mkdir(parents=True, exist_ok=True)
    output = folder / STDOUT
    until = time.monotonic() + limit
    with open(output, "wb") as stdout, open(folder / processes.STDERR, "wb") as stderr:
        process = subprocess.Popen(
            arguments,
            cwd=ROOT,
            env=os.environ | environment,
            stdout=stdout,
            stderr=stderr,
        )
        try:
            while process.poll() is None and not _has_a_line(metrics):
                if time.monotonic() > until:
                    raise RuntimeError(f"no step was logged within {limit:.0f} s")
                time.sleep(POLL)
            process.send_signal(signal.SIGTERM)
            status = process.wait(max(1.0, until - time.monotonic()))
        finally:
            process.kill()
            process.wait()
    text = output.read_text(errors="replace")
    words = [line for line in text.splitlines() if line.startswith("stopped at step")]
    if status not in (0, 128 + signal.SIGTERM) or not words:
        error = (folder / processes.STDERR).read_text(errors="replace")
        raise RuntimeError(f"was not stopped: {processes.why(error, status)}")
    return int(words[-1].split()[3].rstrip(",").replace(",", ""))


def _has_a_line(path: Path) -> bool:
    return path.exists() and path.stat().st_size > 0


def read_metrics(workdir: Path) -> list[dict[str, Any]]:
    """The lines of a run's log."""
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def device_of(workdir: Path) -> str:
    """The kind of device that a run was made on."""
    _, made_with = workdirs.read_config(workdir)
    return made_with["device"]


def last_evaluation(lines: list[dict[str, Any]], protocol: str) -> dict[str, Any]:
    """The last line about the test split in a protocol."""
    found = [x for x in lines if x.get("protocol") == protocol and x["split"] == "test"]
    return found[-1]


def speed(lines: list[dict[str, Any]]) -> dict[str, float]:
    """How fast a run trained in its last epoch, without its first line of the log.

    Args:
      lines: of its log.

    Returns:
      sessions_per_s, epochs_per_hour, ms_a_step: means over the epoch's steps.
    """
    logged = [line for line in lines if "sessions_per_s" in line]
    last = logged[-1]["epoch"]
    before = 0
    if len(logged) > 2:
        before, logged = logged[0]["step"], logged[1:]  # the run warms up
    earlier = [x["step"] for x in logged if x["epoch"] <= last - 1]
    before = max([before, *earlier])
    steps, seconds, sessions = 0, 0.0, 0.0
    epoch = logged[-1]["step"] / last
    for line in logged:
        if line["step"] <= before:
            continue
        made, before = line["step"] - before, line["step"]
        took = 3600 * made / epoch / line["epochs_per_hour"]
        steps, seconds = steps + made, seconds + took
        sessions += took * line["sessions_per_s"]
    return {
        "sessions_per_s": sessions / seconds,
        "epochs_per_hour": 3600 * steps / epoch / seconds,
        "ms_a_step": 1e3 * seconds / steps,
    }


def last_step(workdir: Path) -> int:
    """The step of a run's newest checkpoint."""
    with Checkpoints(workdir / "checkpoints", keep_last=3) as checkpoints:
        step = checkpoints.latest_step()
    if step is None:
        raise RuntimeError(f"no checkpoint in {workdir.name}")
    return step


def difference(one: Path, other: Path, step: int) -> dict[str, Any]:
    """Compares the checkpoints that two runs have of a step, on the host.

    Args:
      one: workdir of a run.
      other: of another.
      step: of both.

    Returns:
      same_bits; arrays that differ, of how many; largest_difference, relative to the
      largest number of the array.
    """
    pairs = zip(_arrays(one, step), _arrays(other, step), strict=True)
    differs, arrays, largest = 0, 0, 0.0
    for a, b in pairs:
        arrays += 1
        if a.tobytes() == b.tobytes():
            continue
        differs += 1
        a, b = a.astype(np.float64), b.astype(np.float64)
        scale = max(float(np.abs(a).max()), 1e-30)
        largest = max(largest, float(np.abs(a - b).max()) / scale)
    return {
        "step": step,
        "same_bits": not differs,
        "arrays_that_differ": differs,
        "arrays": arrays,
        "largest_difference": largest,
    }


def _arrays(workdir: Path, step: int) -> list[np.ndarray]:
    config, _ = workdirs.read_config(workdir)
    data = run_parts.open_data(config)
    train_sessions = run_parts.splits(config, data)["train"]
    parts = run_parts.build(config, data.num_items, train_sessions)
    with Checkpoints(workdir / "checkpoints", keep_last=3) as checkpoints:
        state, _ = checkpoints.restore(step, jax.eval_shape(parts.init))
    return [np.asarray(x) for x in jax.tree.leaves(state)]
