"""The folder of a sweep: where things lie, which runs are done, why others failed.

In it are

    sweep.json            the runs, with the commands that made them (see ``listing``)
    SETTING/seed=N/       a run's workdir
    configs/              the config of each run, as the program of the run reads it
    logs/                 what each printed
    done/  failed/        one small file a run
    locks/                held by who makes a run
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import time
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from experiments import workdirs
from experiments.assembly import evaluating
from experiments.runs import reading
from experiments.sweeping.definition import Run
from tron_jax.console.messages import say, warn
from tron_jax.errors import UserError

POLL = 0.5  # seconds between two looks at a lock
NONE: Mapping[str, Path] = {}


class Folder(NamedTuple):
    """Where the files of a run are.

    Attributes:
      path: of the sweep.
      reused: workdirs, or what was kept of them, of finished runs that lie elsewhere,
        by name.
    """

    path: Path
    reused: Mapping[str, Path] = NONE

    def workdir(self, run: Run) -> Path:
        """Its workdir."""
        return self.reused.get(run.name, self.path / run.name)

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

    def lock(self, run: Run) -> Path:
        """Held by the process that makes it, the parent of the run's own."""
        return self._file("locks", run, "")

    def _file(self, kind: str, run: Run, suffix: str) -> Path:
        return self.path / kind / (run.name.replace("/", "__") + suffix)


def result_of(fields: Mapping[str, Any], fingerprint: str) -> dict[str, Any]:
    """All that a run's result follows from, besides the code.

    Args:
      fields: of its config, by their paths.
      fingerprint: of its data.
    """
    decisive = fields.keys() - {*workdirs.WITHOUT_EFFECT}
    return {field: fields[field] for field in decisive} | {"fingerprint": fingerprint}


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
    _make_parent(file)
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
    """Whether a run was trained as its config says, on its data, and evaluated."""
    if run.name in folder.reused:
        return True
    try:
        content = json.loads(folder.done(run).read_text())
    except (OSError, ValueError):
        return False
    evaluated = (folder.workdir(run) / reading.EVALUATION).is_file()
    return evaluated and content == _mark(run)


def has_metrics_asked_for(folder: Folder, run: Run) -> bool:
    """Whether a run that is done was evaluated by the metrics of its config.

    They may change without the run being made again.
    """
    path = folder.workdir(run) / reading.EVALUATION
    asked = evaluating.reported_metrics(run.config).by_key.keys()
    try:
        lines = json.loads(path.read_text())
        [exact] = (line for line in lines if line["protocol"] == "exact")
        return {key for key in exact if reading.is_metric(key)} == asked
    except (OSError, KeyError, TypeError, ValueError):
        return True  # what is damaged is said where it is compared


def mark_done(folder: Folder, run: Run) -> None:
    """Notes that a run is trained and evaluated."""
    _write(folder.done(run), _mark(run))
    forget_failure(folder, run)


def _mark(run: Run) -> dict[str, str]:
    result = result_of(workdirs.fields(run.config), run.fingerprint)
    text = json.dumps(result, sort_keys=True)
    return {"result_of": hashlib.sha256(text.encode()).hexdigest()}


def record_failure(folder: Folder, run: Run, why: str) -> None:
    """Notes why a run failed."""
    _write(folder.failed(run), {"why": why})


def forget_failure(folder: Folder, run: Run) -> None:
    """Removes that note."""
    with contextlib.suppress(OSError):
        folder.failed(run).unlink(missing_ok=True)


def write_config(folder: Folder, run: Run) -> Path:
    """Writes the config of a run for its process to read."""
    _write(folder.config(run), run.config.to_dict())
    return folder.config(run)


def _write(path: Path, content: Any) -> None:
    _make_parent(path)
    workdirs.write_json(path, content)


def _make_parent(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make {path.parent}: {error.strerror}") from error
