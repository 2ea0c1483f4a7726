"""Times a benchmark of this checkout and of another one in turn: A B, A B, …

Each turn is a process of the checkout's own program, in its root and with this Python.
So the other checkout needs no more than the commands `train` and `evaluate`, the flags
`--config`, `--repeats` and `--json`, and the key `seconds` (a median) in that JSON.
A config file of this repository is taken from each checkout itself.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from experiments import entry
from experiments.benchmarks.child_processes import ROOT, command, last_line
from experiments.benchmarks.timing import line, ratio, ratio_line
from tron_jax.errors import UserError

# (root of a checkout, arguments) -> what its benchmark writes as JSON
RunIn = Callable[[Path, Sequence[str]], dict[str, Any]]


def define_flags(values: flags.FlagValues) -> None:
    flags.DEFINE_string(
        "against", None, "Root of another checkout, to alternate with.", values
    )
    flags.DEFINE_integer(
        "rounds", 6, "Turns of each checkout.", lower_bound=2, flag_values=values
    )


def checkout(path: str) -> Path:
    """The root of another checkout.

    Raises:
      UserError: if it is none.
    """
    root = Path(path)
    if not (root / "experiments" / "benchmark.py").is_file():
        raise UserError(
            f"--against: {path} has no experiments/benchmark.py; expected the root of "
            "another checkout of this repository"
        )
    return root.resolve()


def measure(
    other: Path, arguments: Sequence[str], rounds: int, run_in: RunIn | None = None
) -> dict[str, Any]:
    """Runs both in turn.

    Args:
      other: root of the other checkout.
      arguments: of the benchmark.
      rounds: turns of each, besides a first one in which both compile.
      run_in: runs a benchmark in a checkout; by default, ``run_benchmark``.

    Returns:
      seconds and other_seconds (medians over the rounds), ratio, ratio_interval,
      rounds, and the samples behind them.

    Raises:
      UserError: if a program fails, with its last line.
    """
    run_in = run_in or run_benchmark
    ours: list[float] = []
    theirs: list[float] = []
    for number in range(rounds + 1):
        for root, found in ((ROOT, ours), (other, theirs)):
            seconds = run_in(root, arguments)["seconds"]
            if number:
                found.append(seconds)
    return {
        "against": str(other),
        "seconds": float(np.median(ours)),
        "other_seconds": float(np.median(theirs)),
        **ratio(ours, theirs),
        "rounds": rounds,
        "samples": ours,
        "other_samples": theirs,
    }


def run_benchmark(root: Path, arguments: Sequence[str]) -> dict[str, Any]:
    """Runs a benchmark in the root of a checkout, which sets up memory by itself.

    Raises:
      UserError: if it fails, with its last line.
    """
    environment = dict(os.environ)
    if environment.get("GLIBC_TUNABLES") == entry.MALLOC:
        del environment["GLIBC_TUNABLES"]
    with tempfile.TemporaryDirectory() as folder:
        figures = Path(folder) / "figures.json"
        done = subprocess.run(
            command([*arguments, f"--json={figures}"]),
            cwd=root,
            env=environment,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise UserError(f"in {root}: {last_line(done.stderr, done.returncode)}")
        return json.loads(figures.read_text())


def table(report: dict[str, Any]) -> str:
    """Both times and their ratio."""
    return "\n".join(
        [
            line("this checkout", report["seconds"]),
            line(report["against"], report["other_seconds"]),
            ratio_line(report),
        ]
    )
