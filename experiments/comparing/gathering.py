"""The runs that a command line names, one by one or by a folder above them."""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from experiments import run_files
from experiments.runs import finding, reading
from experiments.runs.finding import Found
from experiments.runs.reading import Run
from tron_jax.errors import UserError
from tron_jax.files import local_path

NOT_YET = "are left out, as no epoch of them was evaluated yet"
GONE = "are left out, as their folders, from which they were reused, are gone"
RETIRED = "are left out, as they are refits that another choice has replaced"


class Entry(NamedTuple):
    """What a sweep says of one of its runs.

    Attributes:
      setting: its name there; "" where there is no sweep.
      chosen: how the sweep came to it; "" where it was asked for.
      reused: whether the run was there before, perhaps in another folder.
      retired: whether it is a refit of what is no longer chosen.
    """

    setting: str = ""
    chosen: str = ""
    reused: bool = False
    retired: bool = False


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
        if run_files.is_run(folder):
            if folder.resolve() not in seen:
                _add(gathered, _load_named(argument))
            seen.add(folder.resolve())
        else:
            _add_below(argument, gathered, seen)
    if not gathered.runs:
        raise UserError("; ".join(gathered.warnings) + "; expected at least one run")
    return gathered


def _add(gathered: Gathered, run: Run) -> None:
    gathered.runs.append(run)
    command = run.made_with.get("argv")
    if not command or run.named:
        return
    workdir = run.path
    kept = run.newest is None and not run.fields["data.path"]
    if kept and command[0] == "experiments.train":
        command, workdir = _again(run, command)
    gathered.commands.append(_typed(command))
    gathered.commands.append(_typed(["experiments.evaluate", f"--workdir={workdir}"]))


def _again(run: Run, command: Sequence[str]) -> tuple[list[str], str]:
    """The command that repeats what was kept of a run, and its workdir.

    What the run was started by names files of a sweep that need not be there any more.
    """
    name, flag = run.folder.name, "--workdir="
    for argument in command:
        if argument.startswith(flag):
            name = argument.removeprefix(flag)
    stored = f"experiments/configs/stored.py:{run.folder / run_files.CONFIG}"
    parts = [f"--config={stored}", "--config.data.path=DIR", f"{flag}{name}"]
    return ["experiments.train", *parts], name


def _typed(command: Sequence[str]) -> str:
    return f"python -m {shlex.join(command)}"


def _load_named(path: str) -> Run:
    training = run_files.is_held(Path(path))  # before its files are read
    run = reading.load(path)
    if run is not None and (run.finished or training is not False):
        return run
    if training:
        raise UserError(f"{path} is in training, and no epoch of it was evaluated yet")
    raise UserError(
        f"{path}: no {reading.EVALUATION} with exact figures of test; run "
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
    left_out: Counter[str] = Counter()
    for folder in (run.folder for run in found):
        place = folder.resolve()
        if place in seen:
            continue
        seen.add(place)
        entry = entries.get(place, Entry())
        there = (folder / run_files.CONFIG).exists()
        if entry.retired:
            left_out[RETIRED] += 1
        elif entry.reused and not there:
            left_out[GONE] += 1
        elif there and (run := reading.load(str(folder), entry.setting, entry.chosen)):
            _add(gathered, run)
        else:
            left_out[NOT_YET] += 1
    gathered.warnings.extend(
        f"{argument}: {count} of {len(found)} runs {why}"
        for why, count in left_out.items()
    )


def _entries_of_sweeps(
    found: Sequence[Found], gathered: Gathered
) -> Iterator[tuple[Path, Entry]]:
    """Yields what sweeps say of their runs, by the runs' folders."""
    folders = dict.fromkeys(run.failure.parent.parent for run in found if run.failure)
    for path in (folder / run_files.SWEEP for folder in folders):
        try:
            sweep = json.loads(path.read_text())
            commands = sweep.get("commands") or [sweep["argv"]]
            gathered.commands.extend(map(_typed, commands))
            for name, run in sweep["runs"].items():
                yield (
                    (path.parent / run["folder"]).resolve(),
                    Entry(
                        run.get("setting", name),
                        run.get("chosen", ""),
                        bool(run.get("reused")),
                        bool(run.get("retired")),
                    ),
                )
        except OSError as error:
            raise UserError(f"cannot read {path}: {error.strerror}") from error
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise UserError(f"{path} is damaged: no list of runs") from error
