"""Runs that exist already, with the program, config and data of a sweep's."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from experiments import workdirs
from experiments.run_files import CHECKPOINTS, METRICS
from experiments.showing import finding, status
from experiments.sweeping.definition import Run
from experiments.sweeping.folder import result_of
from tron_jax.console.messages import say
from tron_jax.errors import UserError
from tron_jax.files import local_path
from tron_jax.reporting import metrics_writer

FINISHED = ("finished", "stopped early", "kept")


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
    folders: Iterable[str],
    sweep: Path,
) -> dict[str, dict[str, Any]]:
    """Looks for runs that need not be made.

    Args:
      runs: of the sweep.
      measured: ``program`` and resolved ``config`` of each setting.
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
        key = _key(config, measured[run.setting]["program"], run.fingerprint)
        if key in existing:
            say(f"reused for {run.name}: {existing[key]}")
            path = os.path.relpath(existing[key], sweep)
            reused[run.name] = {"folder": path, "reused": True}
    return reused


def require_folders(folders: Iterable[str]) -> None:
    """Raises UserError where one of the folders to look in does not exist."""
    for folder in folders:
        if not local_path(folder).is_dir():
            raise UserError(f"--reuse={folder}: no such folder")


def _existing(folders: Iterable[str]) -> Iterable[Existing]:
    for folder in folders:
        for found in finding.find(local_path(folder)):
            if status.look_at(found).state in FINISHED:
                existing = _read(found.folder)
                if existing is not None:
                    yield existing


def _read(path: Path) -> Existing | None:
    """The run in a folder, None where it was not evaluated, or its program is unknown.

    Of what was kept, only the log says whether it was trained to the end.
    """
    try:
        config, made_with = workdirs.read_config(path)
        lines = metrics_writer.read(path / METRICS)
        evaluation = json.loads((path / "evaluation.json").read_text())
        steps = {line["protocol"]: line["step"] for line in evaluation}
    except (UserError, OSError, ValueError, KeyError, TypeError):
        return None
    programs = {
        part["program"]
        for part in (made_with, *made_with.get("resumed_with", []))
        if "program" in part
    }
    epochs = {line["step"]: line["epoch"] for line in lines}
    kept = not (path / CHECKPOINTS).exists()
    if (
        len(programs) != 1
        or epochs.get(steps.get("exact")) != _epoch_to_evaluate(path, config, lines)
        or lines[-1]["epoch"] > config.train.epochs
        or (kept and lines[-1]["epoch"] < config.train.epochs)
    ):
        return None
    return Existing(path, _key(config, programs.pop(), made_with["fingerprint"]))


def _epoch_to_evaluate(
    path: Path, config: ConfigDict, lines: Sequence[Mapping[str, Any]]
) -> float | None:
    """Where ``exact`` is to be taken: at the best on validation, or at the end."""
    if config.data.validation == 0:
        return lines[-1]["epoch"]
    found = status.look_at(finding.Found(path))
    return found.best_epoch if found.best_split == "validation" else None


def _key(config: ConfigDict, program: str, fingerprint: str) -> str:
    """What a finished run's result follows from, all of it."""
    return json.dumps([program, result_of(config, fingerprint)], sort_keys=True)
