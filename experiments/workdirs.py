"""The folder of a run: one program at a time, and what may change when it resumes."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import math
import os
import secrets
import time
from collections.abc import Generator
from pathlib import Path
from typing import IO, Any

from ml_collections import ConfigDict

from experiments import checks, provenance
from experiments.run_files import (
    CHECKPOINTS,
    CONFIG,
    EXPORTED,
    FAILED,
    KEPT,
    LOCK,
    kind,
    newest_step,
)
from tron_jax.console.messages import say, warn
from tron_jax.data.sessions import PreparedData
from tron_jax.errors import UserError
from tron_jax.files import replacing
from tron_jax.hosts.peers import Alone, Peers
from tron_jax.sampling.sources import SOURCES

MAY_CHANGE = (
    "checkpoint.every_steps",
    "checkpoint.keep_last",
    "data.path",
    "eval.cutoffs",
    "eval.metrics",
    "train.epochs",
    "train.log_every_steps",
    "train.mesh",
    "train.stop_after",  # and only to a higher value, or to 0
)
# Of these, what the end of a run follows from.
DECIDE = ("train.epochs", "train.stop_after")
WITHOUT_EFFECT = tuple(field for field in MAY_CHANGE if field not in DECIDE)
# Fields that runs of older versions lack, and the value that they went by. The count of
# a source of negatives needs no line here: a run that lacks it had none of them.
ADDED = {
    "model.name": "sasrec",
    "model.init": "published",
    "model.compute_dtype": "float32",
    "negatives.popularity_exponent": 0.5,
    "negatives.in_batch_from": "inputs",
    "negatives.mask_session": True,
    "negatives.deduplicate": False,
    "loss.topk_start": 0,
    "loss.topk_steps": 0,
    "loss.calibration": 0.75,
    "loss.elu": 0.0,
    "loss.logq": "none",
    "loss.mean_over": "events",
    "optimizer.name": "adam",
    "optimizer.epsilon_in_root": False,
    "optimizer.momentum": 0.0,
    "train.steps_per_call": 100,
    "train.steps_per_group": 1,
    "train.deterministic": False,
    "train.mesh": 1,
    "train.evaluate_every": 1.0,
    "train.stop_after": 0,
    "eval.cutoffs": (5, 10, 20),
    "eval.metrics": ("recall", "mrr", "ndcg"),
    "data.last_days": 0,
    "data.without_last": 0.0,
    "model.scoring": "dot",
    "model.scale": 10.0,
    "model.repeats": False,
    "optimizer.schedule": "constant",
    "optimizer.schedule_steps": 0,
    "optimizer.schedule_epochs": 0.0,
    "optimizer.schedule_end": 0.0,
    "train.evaluate_on": "all",
    "init.workdir": None,
    "init.step": None,
    "init.new_items": "initializer",
    "init.moments": "reset",
}
# Fields that have another name now, with the new names of values that were renamed.
RENAMED: dict[str, tuple[str, dict[Any, Any]]] = {
    "negatives.uniform_style": (
        "negatives.drawn_per",
        {"eventwise": "event", "sessionwise": "session", "batchwise": "batch"},
    ),
}
LOOKS = 10  # by others, at whether a lock is held, that do not keep a run from starting


@contextlib.contextmanager
def open_workdir(
    path: Path,
    config: ConfigDict,
    data: PreparedData,
    made_with: dict[str, Any],
    *,
    last_step: int,
    peers: Peers | None = None,
) -> Generator[Path]:
    """Makes or resumes the workdir of a run and keeps others out of it.

    Of many processes, 0 alone does so, and the others see whether they share it.

    Args:
      path: the folder; a new one is made.
      config: checked and resolved; written to config.json.
      data: what the run trains on.
      made_with: the provenance, written there too.
      last_step: at which the run will be complete.
      peers: the processes of the run; None = this one alone.

    Yields:
      The path.

    Raises:
      UserError: if the folder is of another run or data set, is in use, cannot be
        written, or is not the same to all processes.
    """
    peers = peers or Alone()
    if peers.index:
        _refuse_unshared(path, peers)
        yield path
        return
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make workdir {path}: {error.strerror}") from error
    if (what := kind(path)) in (EXPORTED, KEPT):
        raise UserError(f"{path} is {what}; expected a new folder or that of a run")
    found = {file.name for file in path.iterdir()}
    if CONFIG not in found and found - {LOCK, f"{CONFIG}.new"}:
        raise UserError(
            f"{path} holds files but no {CONFIG}; expected a new folder or the "
            "workdir of a run"
        )
    with _locked(path):
        before = None
        if (path / CONFIG).exists():
            before = _check_same_run(path, config, data)
            _check_not_beyond(path, config.train.epochs, last_step)
        refuse_unwritable(path / CHECKPOINTS)
        if before is not None:
            changes = provenance.changes(before, made_with)
            if changes:
                say(f"resuming with {changes}")
            made_with = provenance.resumed(before, made_with)
        write_json(path / CONFIG, config.to_dict() | {"provenance": made_with})
        _refuse_unshared(path, peers)
        with _saying_why(path):
            yield path


def _refuse_unshared(path: Path, peers: Peers) -> None:
    """Raises UserError, on all processes, unless all find the same folder.

    Process 0 leaves a token in the file that it has locked, for the others to find.
    """
    if peers.count == 1:
        return
    if peers.index == 0:
        (path / LOCK).write_text(secrets.token_hex(8))
    token = peers.gather("token", _content(path / LOCK))[0]
    found = peers.gather("found", _content(path / LOCK))
    for index, other in enumerate(found):
        if other != token:
            raise UserError(
                f"workdir {path} of process {index} is not that of process 0; expected "
                "a folder of a file system that all share"
            )


def _content(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def read_config(path: Path) -> tuple[ConfigDict, dict[str, Any]]:
    """Reads back a run's config, of whatever version, and what it was made with.

    Args:
      path: the workdir.

    Returns:
      The config as of today, checked; and the provenance.

    Raises:
      UserError: if the folder is not a workdir.
    """
    try:
        content = json.loads((path / CONFIG).read_text())
        made_with = dict(content.pop("provenance"))
        made_with["fingerprint"]  # or it is not ours
        _bring_up_to_date(content)
        config = ConfigDict(content)
        checks.check(config)
        return config, made_with
    except UserError as error:
        raise UserError(f"{path / CONFIG}: {error}") from error
    except OSError as error:
        raise UserError(
            f"cannot read {path / CONFIG}: {error.strerror}; expected a run's workdir"
        ) from error
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path / CONFIG} is damaged: {error}") from error


def write_published(path: Path, config: ConfigDict, made_with: dict[str, Any]) -> None:
    """Writes a run's config to be given away: nothing in it names a folder.

    Args:
      path: of the file.
      config: of the run.
      made_with: its provenance.
    """
    content = config.to_dict()
    content["data"]["path"] = ""
    if config.init.workdir:
        content["init"]["workdir"] = Path(config.init.workdir).name
    write_json(path, content | {"provenance": provenance.without_paths(made_with)})


def refuse_unwritable(folder: Path) -> None:
    """Raises UserError where a folder may not be written, or not be made."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        raise UserError(f"cannot write {folder}: {there} is not a folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise UserError(f"cannot write {folder}: {there}: {os.strerror(errno.EACCES)}")


def hint_of_renamed(field: str) -> str | None:
    """Says what a field is called today; None if it never had another name."""
    if field not in RENAMED:
        return None
    name, values = RENAMED[field]
    hint = f"config field {field} is now {name}"
    if values:
        hint += f" ({', '.join(f'{new} for {old}' for old, new in values.items())})"
    return hint


def _bring_up_to_date(content: dict[str, dict[str, Any]]) -> None:
    """Gives a config of an older version the fields of today, in place."""
    for old, (new, values) in RENAMED.items():
        (old_group, old_name), (group, name) = old.split("."), new.split(".")
        if old_name in content[old_group]:
            value = content[old_group].pop(old_name)
            content.setdefault(group, {})[name] = values.get(value, value)
    for field, value in ADDED.items():
        group, name = field.split(".")
        content.setdefault(group, {}).setdefault(name, value)


def write_json(path: Path, content: Any) -> None:
    """Writes a file whole or not at all."""
    try:
        with replacing(path) as new:
            new.write_text(json.dumps(content, indent=2) + "\n")
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error


@contextlib.contextmanager
def _locked(path: Path) -> Generator[None]:
    """Holds a lock that ends with the process, however that ends."""
    try:
        file = open(path / LOCK, "w")  # noqa: SIM115  (held beyond this block)
    except OSError as error:
        raise UserError(f"cannot write workdir {path}: {error.strerror}") from error
    with file:
        try:
            _lock(file)
        except BlockingIOError as error:
            raise UserError(f"workdir {path} is in use by another process") from error
        except OSError as error:  # a cluster's file system may have no locks
            warn(
                f"cannot lock {path}: {error.strerror}; training goes on, but nothing "
                "keeps another process out of this workdir"
            )
        yield


def _lock(file: IO[str]) -> None:
    """Takes the lock; tries again, as who only looks at it has it for an instant."""
    for look in range(LOOKS):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if look == LOOKS - 1:
                raise
            time.sleep(0.02)


@contextlib.contextmanager
def _saying_why(path: Path) -> Generator[None]:
    """Leaves a record in the workdir where a fault ends the run, until the next start.

    A signal is no fault, and what kills a process leaves nothing.
    """
    record = path / FAILED
    record.unlink(missing_ok=True)
    try:
        yield
    except Exception as error:
        why = str(error).partition("\n")[0]
        if not isinstance(error, UserError):
            why = f"{type(error).__name__}: {why}"
        with contextlib.suppress(UserError):  # the disk may be full, which is said
            write_json(record, {"why": why, "step": newest_step(path)})
        raise


def _check_same_run(
    path: Path, config: ConfigDict, data: PreparedData
) -> dict[str, Any]:
    """Refuses what may not change; returns what the run was made with before."""
    stored, made_with = read_config(path)
    if made_with["fingerprint"] != data.fingerprint:
        raise UserError(
            f"workdir {path} was trained on other data than data.path={data.path}; "
            f"expected fingerprint {made_with['fingerprint'][:12]}, "
            f"found {data.fingerprint[:12]}"
        )
    before, now = fields(stored), fields(config)
    # What may have been made of others comes last: steps, of epochs and the batch size.
    made = "optimizer.schedule_steps"
    for field in sorted({*before, *now} - {*MAY_CHANGE}, key=lambda x: (x == made, x)):
        if before.get(field) != now.get(field):
            raise UserError(
                f"workdir {path} was trained with {field}={before.get(field)}, not "
                f"{now.get(field)}; expected the same or a new workdir "
                f"(only {', '.join(MAY_CHANGE)} may change)"
            )
    _check_stop_after(path, stored.train.stop_after, config.train.stop_after)
    return made_with


def _check_not_beyond(path: Path, epochs: int, last_step: int) -> None:
    """Refuses fewer epochs than there are: the state would not be theirs."""
    newest = newest_step(path)
    if newest is not None and newest > last_step:
        raise UserError(
            f"workdir {path} is trained to step {newest:,}, beyond train.epochs="
            f"{epochs}, which ends at step {last_step:,}; expected more epochs or a "
            "new workdir"
        )


def is_lower(now: int, before: int) -> bool:
    """Whether a field of ``DECIDE`` was lowered; 0, of patience, is without end."""
    return (now or math.inf) < (before or math.inf)


def _check_stop_after(path: Path, before: int, now: int) -> None:
    """Lowered, it might have stopped the run at a step that is long past."""
    if is_lower(now, before):
        expected = f"{before} or more, 0 (never)" if before else "0"
        raise UserError(
            f"workdir {path} was trained with train.stop_after={before}, not {now}; "
            f"expected {expected} or a new workdir"
        )


def fields(config: ConfigDict) -> dict[str, Any]:
    """All fields by their paths, as JSON holds them; a source has a count, if of 0."""
    counts = {f"negatives.num_{source}": 0 for source in SOURCES}
    content = json.loads(json.dumps(config.to_dict()))
    return counts | {
        f"{group}.{name}": value
        for group, fields in content.items()
        for name, value in fields.items()
    }
