"""How far a run is and what it does now, from its files alone."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, NamedTuple

from experiments import run_files
from experiments.run_files import CHECKPOINTS, CONFIG, FAILED, LOCK, METRICS
from experiments.runs.finding import Found
from tron_jax.errors import UserError
from tron_jax.evaluation.metrics import BEST_KEY
from tron_jax.reporting import metrics_writer
from tron_jax.storage import manifest

Line = dict[str, Any]

DAMAGED = "damaged"
# Written when something is done with a run by hand, after its sweep gave up on it.
WRITTEN_SINCE = (CONFIG, "evaluation.json")


class Status(NamedTuple):
    """A run at a glance; None = not known, or there is no such thing.

    Attributes:
      run: its folder.
      state: ``running``, ``finished``, ``stopped early``, ``interrupted``, ``failed``,
        ``waiting`` (for its sweep to start it), ``kept`` (a result without the run),
        ``unknown`` (on a file system without locks: running or interrupted) or
        ``damaged`` (a file cannot be read).
      epoch: passes over the sessions so far.
      epochs: asked for.
      best: highest Recall@20, of the split and protocol that the best checkpoint goes
        by.
      best_epoch: when that was.
      best_split: of what: ``validation`` or ``test``.
      stop_after: evaluations without a better score that end it; 0 = none do.
      seconds_left: until all epochs are trained, of a run that is running.
      seconds_since: since a line was written to its metrics.jsonl.
      why: it failed, or what is damaged.
    """

    run: str
    state: str
    epoch: float | None = None
    epochs: int | None = None
    best: float | None = None
    best_epoch: float | None = None
    best_split: str | None = None
    stop_after: int | None = None
    seconds_left: float | None = None
    seconds_since: float | None = None
    why: str | None = None


def look_at(found: Found) -> Status:
    """Reads how far a run is; it may be written meanwhile."""
    folder = found.folder
    if found.fault is not None:
        return Status(str(folder), DAMAGED, why=found.fault)
    held = run_files.is_held(folder)  # first: once nobody holds it, the rest stays
    try:
        failure = None if held else _failure(found)
        if not (folder / CONFIG).exists():
            state = "running" if held else "failed" if failure else "waiting"
            return Status(str(folder), state, why=failure)
        settings = _settings(folder)
        there = (folder / METRICS).exists()
        lines = metrics_writer.read(folder / METRICS) if there else []
        state = "failed" if failure else _state(folder, held, settings, lines)
    except UserError as error:
        return Status(str(folder), DAMAGED, why=str(error))
    best = _best(lines)
    kept = state == "kept"  # its files are as old as their copy
    since = _seconds_since(folder / METRICS) if lines and not kept else None
    return Status(
        run=str(folder),
        state=state,
        epoch=lines[-1]["epoch"] if lines else 0,
        epochs=settings.epochs,
        best=best and best[0],
        best_epoch=best and best[1],
        best_split=best and best[2],
        stop_after=settings.stop_after,
        seconds_left=_left(lines, settings, since or 0.0) if held else None,
        seconds_since=since,
        why=failure,
    )


class _Settings(NamedTuple):
    """What a run's config says of its length, of whatever version it is."""

    epochs: int
    stop_after: int
    evaluate_every: float


def _settings(folder: Path) -> _Settings:
    path = folder / CONFIG
    try:
        train = json.loads(path.read_text())["train"]
        return _Settings(
            int(train["epochs"]),
            int(train.get("stop_after", 0)),
            float(train.get("evaluate_every", 1)),
        )
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} is damaged: no train.epochs") from error


def _failure(found: Found) -> str | None:
    """Why the run failed when it was last started, by itself or by its sweep."""
    own = found.folder / FAILED
    if own.exists():
        return _why(own)
    if found.failure is None or not found.failure.exists():
        return None
    told = _modified(found.failure)
    since = [_modified(found.folder / name) for name in WRITTEN_SINCE]
    return None if max(since) > told else _why(found.failure)


def _why(path: Path) -> str:
    try:
        return str(json.loads(path.read_text())["why"])
    except (OSError, KeyError, TypeError, ValueError):
        return f"{path} cannot be read"


def _modified(path: Path) -> float:
    """When a file was last written, in seconds; 0 where there is none."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _state(
    folder: Path, held: bool | None, settings: _Settings, lines: list[Line]
) -> str:
    """What a run does that has not failed."""
    if held:
        return "running"
    if not any((folder / name).exists() for name in (CHECKPOINTS, LOCK)):
        return "kept"
    newest = run_files.newest_step(folder)
    # The lines at a checkpoint are written before it, so that a kill between the two
    # leaves a log that is ahead.
    if newest is not None and any(
        line["step"] == newest and line["epoch"] >= settings.epochs for line in lines
    ):
        return "finished"
    if newest is not None and _lost_patience(folder, newest, settings.stop_after):
        return "stopped early"
    return "unknown" if held is None else "interrupted"


def _lost_patience(folder: Path, step: int, stop_after: int) -> bool:
    """Whether the checkpoint of a step says that training has stopped by itself."""
    info = manifest.read(folder / CHECKPOINTS / str(step))["info"]
    patience = info.get("patience") or {}
    if not patience.get("stopped"):
        return False
    # More patience may have been asked for since.
    return 0 < stop_after <= patience.get("evaluations_since", stop_after)


def _best(lines: list[Line]) -> tuple[float, float, str] | None:
    """The highest score of those that the best checkpoint goes by, its epoch, split.

    That is validation where there is one, in the protocol that is written first.
    """
    evaluations = [line for line in lines if isinstance(line.get(BEST_KEY), float)]
    for split in ("validation", "test"):
        of_split = [line for line in evaluations if line.get("split") == split]
        if of_split:
            best = max(
                (line for line in of_split if _of_same(line, of_split[0])),
                key=lambda line: line[BEST_KEY],  # the earliest of equals
            )
            return best[BEST_KEY], best["epoch"], split
    return None


def _of_same(line: Line, first: Line) -> bool:
    return line.get("protocol") == first.get("protocol")


def _seconds_since(path: Path) -> float | None:
    modified = _modified(path)
    return max(0.0, time.time() - modified) if modified else None


def _left(lines: list[Line], settings: _Settings, since: float) -> float | None:
    """Seconds until all epochs are trained, at the pace of the last one.

    Or of as many as it takes to have an evaluation among them.
    """
    span = max(1.0, settings.evaluate_every)
    points = [(0.0, 0.0), *((line["epoch"], line["time"]) for line in lines)]
    epoch, seconds = points[-1]
    begun, at = next(
        (point for point in reversed(points) if point[0] <= epoch - span), points[0]
    )
    if epoch <= begun or seconds <= at:
        return None
    pace = (seconds - at) / (epoch - begun)
    return max(0.0, (settings.epochs - epoch) * pace - since)
