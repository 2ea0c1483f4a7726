"""What a run was made with, for its config.json."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from experiments.assembly.program import Program
from tron_jax import devices, jax_settings
from tron_jax.data.sessions import PreparedData

PACKAGES = ("jax", "flax", "optax", "orbax-checkpoint", "numpy")
# Variables that have git look elsewhere than where it is asked to.
OF_A_REPOSITORY = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR")


# What says how a run was started, not what it computes by.
CIRCUMSTANCES = ("argv", "cores", "nice", "load")
ABSOLUTE = r"(?<![^=:])/[^:]*/"  # the folders of a path after the = or : of an argument


def describe(
    data: PreparedData, program: Program, argv: Sequence[str]
) -> dict[str, Any]:
    """Data, program, code, packages, machine, and how it was started.

    Args:
      data: of the run.
      program: what it computes.
      argv: the command after ``python -m``.

    Returns:
      Values that JSON can hold; ``load`` is that of the last minute.
    """
    return {
        "fingerprint": data.fingerprint,
        "num_items": data.num_items,
        "git": _git_commit(),
        "parameters": program.parameters,
        "python": platform.python_version(),
        "device": jax.devices()[0].device_kind,
        **jax_settings.describe(),
        **versions(),
        "program": program.hash,
        "argv": list(argv),
        "cores": devices.cores(),
        "nice": os.nice(0),
        "load": round(os.getloadavg()[0], 1),
    }


def versions() -> dict[str, str]:
    """Those of the packages that numbers depend on."""
    return {name: importlib.metadata.version(name) for name in PACKAGES}


def without_paths(made_with: dict[str, Any]) -> dict[str, Any]:
    """A provenance whose commands name no folders of this machine."""

    def short(part: dict[str, Any]) -> dict[str, Any]:
        argv = without_folders(part.get("argv", []))
        return part | ({"argv": argv} if argv else {})

    resumed = [short(part) for part in made_with.get("resumed_with", [])]
    return short(made_with) | ({"resumed_with": resumed} if resumed else {})


def without_folders(argv: Sequence[str]) -> list[str]:
    """A command of whose absolute paths the last parts are left."""
    return [re.sub(ABSOLUTE, "", argument) for argument in argv]


def resumed(before: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """What a run was first made with, and each change since under ``resumed_with``."""
    latest = _latest(before)
    changed = {key: value for key, value in now.items() if latest.get(key) != value}
    if not changed:
        return before
    return before | {"resumed_with": [*before.get("resumed_with", []), changed]}


def changes(before: dict[str, Any], now: dict[str, Any]) -> str:
    """In words what is not as it was, since results may differ by it; "" = nothing."""
    latest = _latest(before)
    changed = [
        "another program of the train step"
        if key == "program"
        else f"{key} {value or 'unset'}, not {latest[key] or 'unset'}"
        for key, value in now.items()
        if latest.get(key, value) != value and key not in CIRCUMSTANCES
    ]
    return "; ".join(changed)


def _latest(before: dict[str, Any]) -> dict[str, Any]:
    """What a run was last made with."""
    latest = {key: value for key, value in before.items() if key != "resumed_with"}
    for change in before.get("resumed_with", []):
        latest |= change
    return latest


def _git_commit() -> str:
    """The commit of this code, with a + where files differ; empty outside git.

    The repository around an installed package, such as that of a virtual environment,
    is somebody else's unless it tracks this very file. So is one that the environment
    names, as it does in a git hook.
    """
    environment = {
        name: value for name, value in os.environ.items() if name not in OF_A_REPOSITORY
    }
    environment["GIT_OPTIONAL_LOCKS"] = "0"  # to write nothing there

    def git(*arguments: str) -> str:
        command = ("git", "-C", str(Path(__file__).parent), *arguments)
        done = subprocess.run(
            command, check=True, capture_output=True, text=True, env=environment
        )
        return done.stdout.strip()

    try:
        git("ls-files", "--error-unmatch", Path(__file__).name)
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return ""
