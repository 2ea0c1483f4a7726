"""The folder of a sweep: what its runs are, which are done, and why others failed.

sweep.json          the runs, with the command that made them
SETTING/seed=N/     a run's workdir
configs/            the config of each run, as the program of the run reads it
logs/               what each printed
done/  failed/      one small file a run
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from experiments import workdirs
from experiments.run_files import LOCK, SWEEP, SWEEP_FORMAT
from experiments.sweeping.definition import Run
from tron_jax.console.messages import say, warn
from tron_jax.errors import UserError

VERSION = 1
POLL = 0.5  # seconds between two looks at a lock


class Folder(NamedTuple):
    """Where the files of a run are.

    Attributes:
      path: of the sweep.
      reused: names of runs that lie elsewhere, finished.
    """

    path: Path
    reused: frozenset[str] = frozenset()

    def workdir(self, run: Run) -> Path:
        """Its workdir."""
        return self.path / run.name

    def config(self, run: Run) -> Path:
        """Its config, as ``experiments/configs/stored.py`` reads it."""
        return self._file("configs", run, ".json")

    def log(self, run: Run) -> Path:
        """What its process prints."""
        return self._file("logs", run, ".txt")

    def done(self, run: Run) -> Path:
        """Exists once it is trained and evaluated."""
        return self._file("done", run, ".json")

    def failed(self, run: Run) -> Path:
        """Says why it failed last."""
        return self._file("failed", run, ".json")

    def _file(self, kind: str, run: Run, suffix: str) -> Path:
        return self.path / kind / (run.name.replace("/", "__") + suffix)


def fields_of(config: ConfigDict) -> dict[str, Any]:
    """The fields of a config by their paths, as JSON holds them."""
    return json.loads(json.dumps(workdirs.fields(config)))


def open_folder(
    path: Path, runs: Sequence[Run], *, fingerprint: str, argv: Sequence[str]
) -> Folder:
    """Makes the folder of a sweep, or adds what is new to one that exists.

    Args:
      path: of the folder.
      runs: all of them, whoever makes which.
      fingerprint: of the data.
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
    with locked(path / LOCK, waiting_for=f"the list of runs in {path}"):
        stored = read(path) if SWEEP in found else None
        entries = {run.name: entry_of(run) for run in runs}
        if stored is not None:
            _check_same_sweep(path, stored, entries, fingerprint)
            entries = stored["runs"] | _keep_reused(path, stored["runs"], entries)
        content = {
            "format": SWEEP_FORMAT,
            "version": VERSION,
            "argv": list(argv),
            "fingerprint": fingerprint,
            "runs": entries,
        }
        workdirs.write_json(path / SWEEP, content)
    reused = {name for name, entry in entries.items() if entry.get("reused")}
    folder = Folder(path, frozenset(reused))
    for run in runs:
        workdirs.refuse_unwritable(folder.workdir(run))
    return folder


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


def update_runs(folder: Folder, changes: Mapping[str, Mapping[str, Any]]) -> Folder:
    """Changes what ``sweep.json`` says of runs, or adds some.

    Args:
      folder: of the sweep.
      changes: to the entry of each run, by its name.

    Returns:
      The folder, which knows what of it is reused.
    """
    path = folder.path
    with locked(path / LOCK, waiting_for=f"the list of runs in {path}"):
        content = read(path)
        for name, change in changes.items():
            content["runs"].setdefault(name, {}).update(change)
        workdirs.write_json(path / SWEEP, content)
    reused = {name for name, change in changes.items() if change.get("reused")}
    return folder._replace(reused=folder.reused | reused)


def _keep_reused(
    path: Path, before: Mapping[str, Any], now: dict[str, Any]
) -> dict[str, Any]:
    """Leaves what is reused as it is, if that is still there and still the result."""

    def holds(name: str) -> bool:
        old = before.get(name, {})
        same = all(
            old.get("fields", {}).get(field) == value
            for field, value in now[name]["fields"].items()
            if field not in workdirs.WITHOUT_EFFECT
        )
        return bool(old.get("reused")) and same and (path / old["folder"]).is_dir()

    return {name: before[name] if holds(name) else entry for name, entry in now.items()}


def entry_of(run: Run) -> dict[str, Any]:
    """What ``sweep.json`` says of a run."""
    return {
        "folder": run.name,
        "seed": run.seed,
        "setting": run.setting,
        "fields": fields_of(run.config),
    }


def _check_same_sweep(
    path: Path, stored: dict[str, Any], entries: dict[str, Any], fingerprint: str
) -> None:
    """Refuses a folder whose runs are not these, but for what is added to them."""
    shared = [name for name in entries if name in stored["runs"]]
    if not shared:
        examples = ", ".join(list(stored["runs"])[:3])
        raise UserError(
            f"{path} is the folder of another sweep, of {examples}, …; expected a new "
            "folder"
        )
    if stored["fingerprint"] != fingerprint:
        raise UserError(
            f"{path} is a sweep on other data; expected fingerprint "
            f"{stored['fingerprint'][:12]}, found {fingerprint[:12]}"
        )
    for name in shared:
        before, now = stored["runs"][name]["fields"], entries[name]["fields"]
        if now["train.epochs"] < before.get("train.epochs", 0):
            raise UserError(
                f"{path} is a sweep of {before['train.epochs']} epochs; expected as "
                "many or more, or a new folder"
            )
        for field in sorted({*before, *now} - {*workdirs.MAY_CHANGE}):
            if before.get(field, now.get(field)) != now.get(field):
                raise UserError(
                    f"{path} is the folder of another sweep, whose {name} has "
                    f"{field}={before[field]}, not {now.get(field)}; expected a new "
                    "folder"
                )


@contextlib.contextmanager
def locked(
    file: Path, *, waiting_for: str, check: Callable[[], None] = lambda: None
) -> Generator[None]:
    """Holds a lock that ends with the process; waits, and says so, while it is held.

    Args:
      file: of the lock; made where it is missing.
      waiting_for: what somebody else is at.
      check: called between two looks, to raise where waiting makes no sense any more.
    """
    try:
        opened = open(file, "a")  # noqa: SIM115  (held beyond this block)
    except OSError as error:
        raise UserError(f"cannot write {file}: {error.strerror}") from error
    with opened:
        said = False
        while True:
            try:
                fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not said:
                    say(f"waiting for {waiting_for}: in use by another process")
                said = True
                check()
                time.sleep(POLL)
            except OSError as error:  # a cluster's file system may have no locks
                warn(f"cannot lock {file}: {error.strerror}")
                break
        yield


def is_done(folder: Folder, run: Run) -> bool:
    """Whether a run was trained as its config says, and evaluated."""
    if run.name in folder.reused:
        return True
    try:
        content = json.loads(folder.done(run).read_text())
    except (OSError, ValueError):
        return False
    evaluated = (folder.workdir(run) / "evaluation.json").is_file()
    return evaluated and content == {"result_of": result_hash(run.config)}


def mark_done(folder: Folder, run: Run) -> None:
    """Notes that a run is trained and evaluated."""
    _write(folder.done(run), {"result_of": result_hash(run.config)})
    folder.failed(run).unlink(missing_ok=True)


def record_failure(folder: Folder, run: Run, why: str) -> None:
    """Notes why a run failed."""
    _write(folder.failed(run), {"why": why})


def write_config(folder: Folder, run: Run) -> Path:
    """Writes the config of a run for its process to read."""
    _write(folder.config(run), run.config.to_dict())
    return folder.config(run)


def _write(path: Path, content: Any) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make {path.parent}: {error.strerror}") from error
    workdirs.write_json(path, content)


def result_hash(config: ConfigDict) -> str:
    """A hash of what a run's result follows from."""
    text = json.dumps(result_fields(config), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def result_fields(config: ConfigDict) -> dict[str, Any]:
    """The fields that a run's result follows from."""
    fields = fields_of(config)
    for field in workdirs.WITHOUT_EFFECT:
        fields.pop(field, None)
    return fields
