"""What a run was made with, for its config.json."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
from pathlib import Path
from typing import Any

import jax

from tron_jax.data.sessions import PreparedData

PACKAGES = ("jax", "flax", "optax", "orbax-checkpoint", "numpy")


def describe(data: PreparedData) -> dict[str, str]:
    """Data, code, packages and machine."""
    return {
        "fingerprint": data.fingerprint,
        "git": _git_commit(),
        "python": platform.python_version(),
        "device": jax.devices()[0].device_kind,
        **{name: importlib.metadata.version(name) for name in PACKAGES},
    }


def resumed(before: dict[str, Any], now: dict[str, str]) -> dict[str, Any]:
    """What a run was first made with, and each change since under ``resumed_with``."""
    changes = before.get("resumed_with", [])
    latest = {key: value for key, value in before.items() if key != "resumed_with"}
    for change in changes:
        latest |= change
    changed = {key: value for key, value in now.items() if latest.get(key) != value}
    return before | ({"resumed_with": [*changes, changed]} if changed else {})


def _git_commit() -> str:
    """The commit of this code, with a + where files differ; empty outside git."""

    def git(*arguments: str) -> str:
        command = ("git", "-C", str(Path(__file__).parent), *arguments)
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return ""
