"""Runs that exist already, with the program, config and data of a sweep's."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from experiments import workdirs
from experiments.runs import choices, finding, reading
from experiments.sweeping.definition import Run
from experiments.sweeping.folder import result_of
from tron_jax.console.messages import say
from tron_jax.errors import UserError
from tron_jax.files import local_path


class Existing(NamedTuple):
    """A run that was trained and evaluated before.

    Attributes:
      path: its workdir, or what was kept of it.
      key: equal for what has the same result; see ``_key``.
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
        program = measured[run.setting]["program"]
        key = _key(workdirs.fields(config), program, run.fingerprint)
        if key in existing:
            say(f"reused for {run.name}: {existing[key]}")
            # The way from the one to the other, whatever links lead to either.
            path = os.path.relpath(existing[key].resolve(), sweep.resolve())
            reused[run.name] = {"folder": path, "reused": True, "key": key}
    return reused


def require_folders(folders: Iterable[str]) -> None:
    """Raises UserError where one of the folders to look in does not exist."""
    for folder in folders:
        if not local_path(folder).is_dir():
            raise UserError(f"--reuse={folder}: no such folder")


def _existing(folders: Iterable[str]) -> Iterable[Existing]:
    for folder in folders:
        for found in finding.find(local_path(folder)):
            existing = None if found.fault else read(found.folder)
            if existing is not None:
                yield existing


def read(path: Path) -> Existing | None:
    """The run in a folder, None where its end was not evaluated, or who knows of what.

    A run that took up another program on the way is of neither.
    """
    try:
        run = reading.load(str(path))
    except UserError:
        return None
    if run is None or not run.log or choices.unsettled(run):
        return None
    by = "best" if run.fields["data.validation"] else "latest"
    programs = reading.made_by(run, "program")
    if len(programs) != 1 or not choices.rule_of(run, "exact").startswith(by):
        return None
    return Existing(path, _key(run.fields, programs[0], run.fingerprint))


def _key(fields: Mapping[str, Any], program: str, fingerprint: str) -> str:
    """A hash of all that a finished run's result follows from."""
    text = json.dumps([program, result_of(fields, fingerprint)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
