"""Programs of this package as processes of their own."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from absl import flags
from ml_collections import config_flags

ROOT = Path(__file__).resolve().parents[2]


def command(arguments: Sequence[str]) -> list[str]:
    """A benchmark, to be run in the root of a checkout, whose code it then is."""
    return [sys.executable, "-m", "experiments.benchmark", *arguments]


def config_arguments(values: flags.FlagValues) -> list[str]:
    """The config of this program as arguments that mean the same in another folder.

    A config file of this checkout is named relative to its root, so that another
    checkout takes its own; any other file, and the data, by absolute paths.

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
    """Why a program ended, in one line."""
    said = [line for line in stderr.splitlines() if line.strip()]
    return said[-1].removeprefix("error: ") if said else f"exit status {status}"
