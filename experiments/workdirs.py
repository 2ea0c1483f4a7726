"""The folder of a run: whose it is, what may change between its runs, one at a time."""

from __future__ import annotations

import contextlib
import fcntl
import json
from collections.abc import Generator
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from experiments import checks, provenance
from tron_jax.data.sessions import PreparedData
from tron_jax.errors import UserError
from tron_jax.files import replacing

MAY_CHANGE = (
    *("data.path", "train.epochs", "train.log_every_steps"),
    *("eval.cutoffs", "eval.metrics"),
)
# Fields that runs of older versions lack, with what those did.
ADDED = {
    "model.compute_dtype": "float32",
    "eval.cutoffs": (5, 10, 20),
    "eval.metrics": ("recall", "mrr", "ndcg"),
}
CONFIG = "config.json"
LOCK = ".lock"


@contextlib.contextmanager
def open_workdir(path: Path, config: ConfigDict, data: PreparedData) -> Generator[Path]:
    """Makes or resumes the workdir of a run and keeps others out of it.

    Args:
      path: the folder; a new one is made.
      config: checked and resolved; written to config.json.
      data: what the run trains on.

    Yields:
      The path.

    Raises:
      UserError: if the folder is of another run or data set, is in use, or cannot be
        written.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make workdir {path}: {error.strerror}") from error
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
        made_with = provenance.describe(data)
        if before is not None:
            made_with = provenance.resumed(before, made_with)
        write_json(path / CONFIG, config.to_dict() | {"provenance": made_with})
        yield path


def read_config(path: Path) -> tuple[ConfigDict, dict[str, Any]]:
    """Reads back a run's config, checked, and what it was made with.

    Raises:
      UserError: if the folder is not a workdir.
    """
    try:
        content = json.loads((path / CONFIG).read_text())
        made_with = dict(content.pop("provenance"))
        made_with["fingerprint"]  # or it is not ours
        for field, value in ADDED.items():
            group, name = field.split(".")
            content.setdefault(group, {}).setdefault(name, value)
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
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"workdir {path} is in use by another process") from error
        except OSError as error:
            raise UserError(f"cannot lock {path}: {error.strerror}") from error
        yield


def _check_same_run(
    path: Path, config: ConfigDict, data: PreparedData
) -> dict[str, Any]:
    """Refuses what may not change; returns what the run was made with before."""
    stored, made_with = read_config(path)
    before, now = _flat(stored.to_dict()), _flat(config.to_dict())
    for field in sorted({*before, *now} - {*MAY_CHANGE}):
        if before.get(field) != now.get(field):
            raise UserError(
                f"workdir {path} was trained with {field}={before.get(field)}, not "
                f"{now.get(field)}; expected the same or a new workdir "
                f"(only {', '.join(MAY_CHANGE)} may change)"
            )
    if made_with["fingerprint"] != data.fingerprint:
        raise UserError(
            f"workdir {path} was trained on other data than data.path={data.path}; "
            f"expected fingerprint {made_with['fingerprint'][:12]}, "
            f"found {data.fingerprint[:12]}"
        )
    return made_with


def _flat(content: dict[str, dict[str, Any]]) -> dict[str, Any]:
    return {
        f"{group}.{name}": value
        for group, fields in content.items()
        for name, value in fields.items()
    }
