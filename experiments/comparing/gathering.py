"""The runs that a command line names, one by one or by a folder above them."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from experiments import run_files
from experiments.comparing import runs
from experiments.comparing.runs import Run
from experiments.showing import finding
from experiments.showing.finding import Found
from tron_jax.errors import UserError
from tron_jax.files import local_path


class Gathered(NamedTuple):
    """What was found.

    Attributes:
      runs: in the order of the arguments, of a sweep in its own.
      commands: that made them, as far as that was written down.
      warnings: of runs that are left out, one line each.
    """

    runs: list[Run]
    commands: list[str]
    warnings: list[str]


def gather(arguments: Sequence[str]) -> Gathered:
    """Reads the runs that are named: workdirs, kept results, folders of either.

    A run that is named by itself must have been evaluated or be in training; within a
    folder, one that is not evaluated yet is left out, with a warning.

    Raises:
      UserError: where an argument is no such thing, or a file is damaged.
    """
    gathered = Gathered([], [], [])
    seen: set[Path] = set()
    for argument in arguments:
        folder = local_path(argument)
        if not folder.is_dir():
            raise UserError(f"{argument}: no such folder; expected a run or a sweep")
        if finding.is_run(folder):
            if folder.resolve() not in seen:
                _add(gathered, _load_named(argument))
            seen.add(folder.resolve())
        else:
            _add_below(argument, gathered, seen)
    if not gathered.runs:
        raise UserError(
            f"no run in {', '.join(arguments)} has been evaluated yet; expected at "
            "least one"
        )
    return gathered


def _add(gathered: Gathered, run: Run) -> None:
    gathered.runs.append(run)
    command = run.made_with.get("argv")
    if command and not run.named:
        gathered.commands.append(_typed(command))
        evaluate = ["experiments.evaluate", f"--workdir={run.path}"]
        gathered.commands.append(_typed(evaluate))


def _typed(command: Sequence[str]) -> str:
    return f"python -m {shlex.join(command)}"


def _load_named(path: str) -> Run:
    training = run_files.is_held(Path(path))  # before its files are read
    run = runs.load(path)
    if run is not None and (run.finished or training is not False):
        return run
    if training:
        raise UserError(f"{path} is in training, and no epoch of it was evaluated yet")
    raise UserError(
        f"{path}: no {runs.EVALUATION} with exact figures of test; run "
        f"experiments.evaluate --workdir={path} first"
    )


def _add_below(argument: str, gathered: Gathered, seen: set[Path]) -> None:
    """Adds the runs in a folder."""
    found = finding.find(Path(argument))
    if not found:
        raise UserError(
            f"{argument}: no run in it; expected a workdir, a sweep's folder, or "
            "results that were kept"
        )
    for fault in (run.fault for run in found if run.fault):
        raise UserError(fault)
    entries = dict(_entries_of_sweeps(found, gathered))
    left_out = 0
    for folder in (run.folder for run in found):
        place = folder.resolve()
        if place in seen:
            continue
        seen.add(place)
        there = (folder / run_files.CONFIG).exists()
        run = runs.load(str(folder), *entries.get(place, ())) if there else None
        if run is None:
            left_out += 1
        else:
            _add(gathered, run)
    if left_out:
        gathered.warnings.append(
            f"{argument}: {left_out} of {len(found)} runs are left out, as no epoch of "
            "them was evaluated yet"
        )


def _entries_of_sweeps(
    found: Sequence[Found], gathered: Gathered
) -> Iterator[tuple[Path, tuple[str, str]]]:
    """Yields what sweeps call the settings of their runs, and how they were chosen."""
    folders = dict.fromkeys(run.failure.parent.parent for run in found if run.failure)
    for path in (folder / run_files.SWEEP for folder in folders):
        try:
            sweep = json.loads(path.read_text())
            gathered.commands.append(_typed(sweep["argv"]))
            for name, run in sweep["runs"].items():
                about = (run.get("setting", name), run.get("chosen", ""))
                yield (path.parent / run["folder"]).resolve(), about
        except OSError as error:
            raise UserError(f"cannot read {path}: {error.strerror}") from error
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise UserError(f"{path} is damaged: no list of runs") from error
