"""Runs that exist already, with the program, config and data of a sweep's."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from experiments import workdirs
from experiments.sweeping.definition import Run
from experiments.sweeping.folder import fields_of, without_effect
from tron_jax.console.messages import say
from tron_jax.errors import UserError
from tron_jax.files import local_path
from tron_jax.reporting import metrics_writer


class Existing(NamedTuple):
    """A run that was trained and evaluated before.

    Attributes:
      path: its workdir, or what was kept of it.
      key: what must be equal, as text; see ``_key``.
    """

    path: Path
    key: str


def find(
    runs: Sequence[Run],
    measured: Mapping[str, Mapping[str, Any]],
    *,
    fingerprint: str,
    folders: Iterable[str],
    sweep: Path,
) -> dict[str, dict[str, Any]]:
    """Looks for runs that need not be made.

    Args:
      runs: of the sweep.
      measured: ``program`` and resolved ``config`` of each setting.
      fingerprint: of the data.
      folders: where to look, in them and below.
      sweep: folder of the sweep.

    Returns:
      By the name of a run, what differs in its entry of ``sweep.json``.
    """
    existing = {found.key: found.path for found in _existing(folders)}
    reused = {}
    for run in runs:
        config = ConfigDict(measured[run.setting]["config"])
        config.train.seed = run.seed
        key = _key(config, measured[run.setting]["program"], fingerprint)
        if key in existing:
            say(f"reused for {run.name}: {existing[key]}")
            path = os.path.relpath(existing[key], sweep)
            reused[run.name] = {"folder": path, "reused": True}
    return reused


def _existing(folders: Iterable[str]) -> Iterable[Existing]:
    for folder in folders:
        root = local_path(folder)
        if not root.is_dir():
            raise UserError(f"--reuse={folder}: no such folder")
        for file in sorted(root.rglob(workdirs.CONFIG)):
            found = _read(file.parent)
            if found is not None:
                yield found


def _read(path: Path) -> Existing | None:
    """The run in a folder, None where it is unfinished, or does not say its program."""
    try:
        config, made_with = workdirs.read_config(path)
        lines = metrics_writer.read(path / "metrics.jsonl")
        evaluation = {
            line["protocol"]: line["step"]
            for line in json.loads((path / "evaluation.json").read_text())
        }
    except (UserError, OSError, ValueError, KeyError, TypeError):
        return None
    if "program" not in made_with or any(
        "program" in change for change in made_with.get("resumed_with", [])
    ):
        return None
    last = max(lines, key=lambda line: line["step"], default={"epoch": 0, "step": 0})
    finished = last["epoch"] >= config.train.epochs
    if not finished or (
        config.data.validation == 0 and evaluation.get("exact") != last["step"]
    ):
        return None
    key = _key(config, made_with["program"], made_with["fingerprint"])
    return Existing(path, key)


def _key(config: ConfigDict, program: str, fingerprint: str) -> str:
    """What a finished run's result follows from, all of it."""
    fields = fields_of(config)
    for field in without_effect():
        fields.pop(field, None)
    return json.dumps([program, fingerprint, fields], sort_keys=True)
