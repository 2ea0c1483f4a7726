"""How benchmarks run as processes of their own."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from absl import flags
from ml_collections import config_flags

ROOT = Path(__file__).resolve().parents[2]


def command(arguments: Sequence[str]) -> list[str]:
    """The command of a benchmark; it runs the code of the folder that it starts in."""
    return [sys.executable, "-m", "experiments.benchmark", *arguments]


def config_arguments(values: flags.FlagValues) -> list[str]:
    """The config of this process as arguments that hold in another folder as well.

    A config file of this checkout is named relative to its root, so that another
    checkout uses its own; any other file, and the data, by absolute paths.

    Args:
      values: parsed, with a flag ``config``.

    Returns:
      ``--config=FILE[:argument]`` and each field that was set.
    """
    flag = values["config"]
    named = config_flags.get_config_filename(flag)
    name, colon, argument = named.partition(":")
    path = Path(name).resolve()
    path = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
    fields = dict(config_flags.get_override_values(flag))
    if fields.get("data.path"):
        fields["data.path"] = os.path.abspath(fields["data.path"])
    return [
        f"--config={path}{colon}{argument}",
        *(f"--config.{field}={value}" for field, value in fields.items()),
    ]


def last_line(stderr: str, status: int) -> str:
    """Why a program failed: the last line of its stderr, or else its exit status."""
    lines = [line for line in stderr.splitlines() if line.strip()]
    return lines[-1].removeprefix("error: ") if lines else f"exit status {status}"
