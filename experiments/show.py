"""Lists runs: what each does, how far it is, and how well it did so far.

    python -m experiments.show DIR [DIR ...] [--json]

A DIR is a run's workdir, a sweep's folder, a result that was kept, or any folder above.
One line a run:

    run            state    epoch  recall@20  at  split  left     last line  why
    runs/a         running  1.2/5     0.5448   1  test   0:12:03    0:00:04

    state      running; finished; stopped early (train.stop_after); interrupted, which
               the same command resumes; failed, and why; waiting for its sweep; kept,
               by experiments.keep; damaged, where a file cannot be read; unknown, on a
               file system without locks: running or interrupted
    recall@20  the highest so far, by which the best checkpoint is chosen; at which
               epoch, and on which split
    left       until all epochs are trained, at the pace of the last one; < before it
               where train.stop_after may end the run sooner
    last line  time since the last line of metrics.jsonl

Nothing is written, and a run in training is not disturbed. The exit status is 1 where
no run was found in a DIR, or something could not be read, and 0 otherwise, whatever the
states are. With --json the same goes out as a list of objects, times in seconds.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from experiments.runs.finding import find
from experiments.runs.status import DAMAGED, Status, look_at
from tron_jax.console import program
from tron_jax.console.messages import say
from tron_jax.errors import UserError
from tron_jax.evaluation.metrics import BEST_KEY
from tron_jax.files import local_path

HEADER = ("run", "state", "epoch", BEST_KEY, "at", "split", "left", "last line", "why")
FIGURES = {HEADER.index(name) for name in ("epoch", BEST_KEY, "at")}
FIGURES |= {HEADER.index(name) for name in ("left", "last line")}


def main(argv: Sequence[str]) -> int:
    flag_values = flags.FlagValues()
    flags.DEFINE_bool("json", False, "Print JSON.", flag_values=flag_values)
    folders: list[str] = []

    def parse(flag_values: flags.FlagValues, argv: Sequence[str]) -> None:
        expected = "no folder; expected DIR [DIR ...]"
        folders.extend(program.parse_among(flag_values, argv, expected))

    def show(flag_values: flags.FlagValues) -> None:
        run(folders, as_json=flag_values.json)

    return program.run(show, flag_values, argv, parse=parse)


def run(folders: Sequence[str], *, as_json: bool) -> None:
    """Prints what is found.

    Raises:
      UserError: after that, where there is nothing, or something cannot be read.
    """
    found = {folder: find(_existing(folder)) for folder in folders}
    places = {run.folder.resolve(): run for runs in found.values() for run in runs}
    statuses = [look_at(run) for run in places.values()]
    if as_json:
        _print(json.dumps([status._asdict() for status in statuses], indent=2))
    elif statuses:
        _print(as_table(statuses))
    empty = [folder for folder, runs in found.items() if not runs]
    if empty:
        raise UserError(f"no runs in {', '.join(empty)}")
    damaged = [status.run for status in statuses if status.state == DAMAGED]
    if damaged:
        raise UserError(f"cannot be read: {', '.join(damaged)}")


def _print(text: str) -> None:
    error = say(text)
    if error is not None:  # as of a full disk
        raise error


def as_table(statuses: Sequence[Status]) -> str:
    """Aligns one line a run under a header; ``-`` stands for what is not known."""
    rows = [HEADER, *map(_cells, statuses)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if index in FIGURES else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def _cells(status: Status) -> tuple[str, ...]:
    epoch = best = at = "-"
    if status.epoch is not None:
        epoch = f"{round(status.epoch, 2):g}/{status.epochs}"
    if status.best is not None and status.best_epoch is not None:
        best, at = f"{status.best:.4f}", f"{round(status.best_epoch, 2):g}"
    left = _time(status.seconds_left)
    if status.seconds_left is not None and status.stop_after:
        left = f"<{left}"
    why = " ".join((status.why or "").split())
    split = status.best_split or "-"
    since = _time(status.seconds_since)
    return status.run, status.state, epoch, best, at, split, left, since, why


def _time(seconds: float | None) -> str:
    """Hours, minutes and seconds: what scripts and people read alike."""
    if seconds is None:
        return "-"
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"


def _existing(folder: str) -> Path:
    path = local_path(folder, any_name=True)
    if not path.is_dir():
        raise UserError(f"{folder}: no such folder")
    return path


if __name__ == "__main__":
    sys.exit(main(sys.argv))
