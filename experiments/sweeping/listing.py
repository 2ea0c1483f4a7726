"""``sweep.json``: which runs a sweep consists of, and the commands that made them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments import workdirs
from experiments.run_files import LOCK, SWEEP, SWEEP_FORMAT
from experiments.sweeping import reuse
from experiments.sweeping.definition import Run
from experiments.sweeping.folder import Folder, locked, result_of
from tron_jax.errors import UserError

VERSION = 1


def open_folder(path: Path, runs: Sequence[Run], *, argv: Sequence[str]) -> Folder:
    """Makes the folder of a sweep, or adds what is new to one that exists.

    Args:
      path: of the folder.
      runs: all of them, whoever makes which.
      argv: the command after ``python -m``.

    Raises:
      UserError: if it holds other files, another sweep, or cannot be written.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        found = {file.name for file in path.iterdir()} - {LOCK, f"{SWEEP}.new"}
    except OSError as error:
        raise UserError(f"cannot make sweep folder {path}: {error.strerror}") from error
    if found and SWEEP not in found:
        raise UserError(
            f"{path} holds files but no {SWEEP}; expected a new folder or that of a "
            "sweep"
        )
    with _locked(path):  # by whoever made the folder meanwhile
        there = (path / SWEEP).exists()
        stored = read(path) if there else {"runs": {}, "commands": []}
        entries = _entries(path, stored["runs"], runs)
        content = {
            "format": SWEEP_FORMAT,
            "version": VERSION,
            "argv": list(argv),
            "commands": _with(stored.get("commands", []), argv),
            "runs": entries,
        }
        workdirs.write_json(path / SWEEP, content)
    folder = Folder(path, _places(path, entries))
    for run in runs:
        if run.name not in folder.reused:
            workdirs.refuse_unwritable(folder.workdir(run))
    return folder


def folder_at(path: Path, runs: Sequence[Run]) -> Folder:
    """The folder as ``open_folder`` would have it, of which nothing is written.

    Args:
      path: of a sweep, or of one to be.
      runs: all of them.

    Raises:
      UserError: if it is that of another sweep.
    """
    stored = read(path)["runs"] if (path / SWEEP).exists() else {}
    return Folder(path, _places(path, _entries(path, stored, runs)))


def require_all(path: Path, runs: Iterable[Run]) -> None:
    """Raises UserError where a sweep has runs that a choice would leave out."""
    stored = read(path)["runs"] if (path / SWEEP).exists() else {}
    named = {run.name for run in runs}
    others = [
        name
        for name, entry in stored.items()
        if "chosen" not in entry and name not in named
    ]
    if others:
        raise UserError(
            f"--refit: {path} has other runs too, such as {others[0]}; expected "
            "a command that names all settings and seeds"
        )


def _entries(
    path: Path, stored: dict[str, Any], runs: Sequence[Run]
) -> dict[str, dict[str, Any]]:
    """What the sweep consists of from now on; a refit goes when there is more."""
    entries = {run.name: entry_of(run) for run in runs}
    if stored:
        _check_same_sweep(path, stored, entries)
    more = any(
        stored.get(name, {}).get("fields") != entry["fields"]
        for name, entry in entries.items()
    )
    refits = {
        name: entry | {"retired": True}
        for name, entry in stored.items()
        if more and "chosen" in entry
    }
    kept = {
        run.name: entry
        for run in runs
        if (entry := _reused(path, stored.get(run.name, {}), run)) is not None
    }
    return stored | refits | entries | kept


def read(path: Path) -> dict[str, Any]:
    """Reads ``sweep.json``.

    Raises:
      UserError: if it is none, or damaged.
    """
    file = path / SWEEP
    try:
        content = json.loads(file.read_text())
        if content["format"] != SWEEP_FORMAT or content["version"] != VERSION:
            raise ValueError(f"format {content['format']} {content['version']}")
        for entry in content["runs"].values():
            _ = entry["folder"], entry["seed"], entry["setting"], entry["fields"]
        return content
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror}") from error
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{file} is damaged: {error}") from error


def update(folder: Folder, changes: Mapping[str, Mapping[str, Any]]) -> Folder:
    """Changes what ``sweep.json`` says of runs, or adds some.

    Args:
      folder: of the sweep.
      changes: to the entry of each run, by its name.

    Returns:
      The folder, which knows what of it is reused.
    """
    with _locked(folder.path):
        content = read(folder.path)
        for name, change in changes.items():
            content["runs"].setdefault(name, {}).update(change)
        workdirs.write_json(folder.path / SWEEP, content)
    return folder._replace(reused=_places(folder.path, content["runs"]))


def replace_refits(folder: Folder, runs: Iterable[Run], rule: str) -> None:
    """Lists the runs of a refit, and retires those of a choice that is no longer it."""
    names = {run.name for run in runs}
    former = {
        name: {"retired": True}
        for name, entry in read(folder.path)["runs"].items()
        if "chosen" in entry and name not in names
    }
    new = {run.name: entry_of(run) | {"chosen": rule, "retired": False} for run in runs}
    update(folder, former | new)


def entry_of(run: Run) -> dict[str, Any]:
    """What ``sweep.json`` says of a run."""
    return {
        "folder": run.name,
        "seed": run.seed,
        "setting": run.setting,
        "fingerprint": run.fingerprint,
        "fields": workdirs.fields(run.config),
    }


def _locked(path: Path) -> Any:
    return locked(path / LOCK, waiting_for=f"the list of runs in {path}")


def _with(commands: list[list[str]], argv: Sequence[str]) -> list[list[str]]:
    """The commands, and this one if it is new: a part of the runs counts for all."""
    at = [n for n, argument in enumerate(argv) if argument in ("--shard", "-shard")]
    whole = [
        argument
        for n, argument in enumerate(argv)
        if not argument.lstrip("-").startswith("shard=") and not {n, n - 1} & {*at}
    ]
    return commands if whole in commands else [*commands, whole]


def _places(path: Path, entries: Mapping[str, Any]) -> dict[str, Path]:
    """Where reused runs lie."""
    return {
        name: path / entry["folder"]
        for name, entry in entries.items()
        if entry.get("reused")
    }


def _reused(path: Path, before: Mapping[str, Any], run: Run) -> Any:
    """What was said of a reused run that is still there and still the result."""
    now = entry_of(run)
    wanted = result_of(now["fields"], now["fingerprint"])
    listed = {**before.get("fields", {}), "fingerprint": before.get("fingerprint")}
    same = all(listed.get(field) == value for field, value in wanted.items())
    if not (before.get("reused") and same):
        return None
    found = reuse.read(path / before["folder"])
    return before if found is not None and found.key == before.get("key") else None


def _check_same_sweep(
    path: Path, stored: Mapping[str, Any], entries: Mapping[str, Any]
) -> None:
    """Refuses a folder whose runs are not these, but for what is added to them."""
    shared = [name for name in entries if name in stored]
    if not shared:
        examples = ", ".join(list(stored)[:3])
        raise UserError(
            f"{path} is the folder of another sweep, of {examples}, …; expected a new "
            "folder"
        )
    for name in shared:
        before, now = stored[name], entries[name]
        if before.get("fingerprint") not in (None, now["fingerprint"]):
            raise UserError(
                f"{path} is a sweep on other data, whose {name} has fingerprint "
                f"{before['fingerprint'][:12]}, not {now['fingerprint'][:12]}; "
                "expected a new folder"
            )
        _check_same_fields(path, name, before["fields"], now["fields"])


def _check_same_fields(
    path: Path, name: str, before: Mapping[str, Any], now: Mapping[str, Any]
) -> None:
    for field in workdirs.DECIDE:
        if workdirs.is_lower(now[field], before.get(field, 0)):
            raise UserError(
                f"{path} is a sweep whose {name} has {field}={before.get(field, 0)}, "
                f"not {now[field]}; expected no less, or a new folder"
            )
    for field in sorted({*before, *now} - {*workdirs.MAY_CHANGE}):
        if before.get(field, now.get(field)) != now.get(field):
            raise UserError(
                f"{path} is the folder of another sweep, whose {name} has "
                f"{field}={before[field]}, not {now.get(field)}; expected a new folder"
            )
