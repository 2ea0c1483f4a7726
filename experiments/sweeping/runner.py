"""Makes the runs of a sweep one after the other; one that fails stops no other."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import NamedTuple

from experiments import workdirs
from experiments.configs import stored
from experiments.run_files import METRICS
from experiments.sweeping import processes
from experiments.sweeping.child import Task
from experiments.sweeping.definition import Run
from experiments.sweeping.folder import (
    Folder,
    forget_failure,
    is_done,
    locked,
    mark_done,
    record_failure,
    write_config,
)
from experiments.sweeping.processes import Signals, Stop, stop_if_asked
from tron_jax.console.messages import say
from tron_jax.console.progress import Progress, clock_time

LAST_LINE = 4096  # bytes at the end of metrics.jsonl that hold its last line


class Failure(NamedTuple):
    """A run that failed, and why."""

    run: Run
    why: str


def make_runs(
    folder: Folder,
    runs: Sequence[Run],
    *,
    signals: Signals,
    evaluate_at: Mapping[str, str] | None = None,
) -> list[Failure]:
    """Trains and evaluates what is not done yet, until asked to stop.

    Args:
      folder: of the sweep.
      runs: those of this process, in their order.
      signals: that this process has received so far.
      evaluate_at: by the name of a run, the ``--step`` of its evaluation.

    Returns:
      The runs that failed.
    """
    failures: list[Failure] = []
    with Progress("sweep", None, unit="runs") as line:
        for number, run in enumerate(runs, start=1):
            if is_done(folder, run):
                forget_failure(folder, run)
                continue
            at = (evaluate_at or {}).get(run.name)
            watch = _watch(folder, runs, number, line)
            try:
                with _alone(folder, run, signals):
                    if is_done(folder, run):  # by whom we waited for
                        continue
                    say(f"run {number} of {len(runs)}: {run.name}")
                    begun = time.monotonic()
                    command = processes.command_of(_task(folder, run, at))
                    log = folder.log(run)
                    why = processes.run(command, log, watch=watch, signals=signals)
                    line.clear()
                    stop_if_asked(signals)
                    failure = _note(folder, run, why, time.monotonic() - begun)
            except Stop:
                break
            if failure is not None:
                failures.append(failure)
    return failures


def _note(folder: Folder, run: Run, why: str | None, seconds: float) -> Failure | None:
    """Says and writes down how a run ended: why it failed, or that it did not."""
    if why is None:
        mark_done(folder, run)
        say(f"  done in {clock_time(seconds)}")
        return None
    record_failure(folder, run, why)
    say(f"  failed: {why}")
    return Failure(run, why)


@contextlib.contextmanager
def _alone(folder: Folder, run: Run, signals: Signals) -> Generator[None]:
    """Keeps others from a run, after the end of one who makes it, or whose child does.

    Raises:
      Stop: if this process was asked to stop.
    """
    check = functools.partial(stop_if_asked, signals)
    check()
    about = f"run {run.name}"
    with locked(folder.lock(run), waiting_for=about, check=check):
        own = folder.workdir(run) / workdirs.LOCK
        if own.exists():
            with locked(own, waiting_for=about, check=check):
                pass  # the run's own process takes it
        yield


def _task(folder: Folder, run: Run, at: str | None) -> Task:
    config = f"{os.path.relpath(stored.__file__)}:{write_config(folder, run)}"
    workdir = f"--workdir={folder.workdir(run)}"
    return Task(
        [f"--config={config}", workdir],
        [workdir, *([f"--step={at}"] if at else [])],
        str(folder.workdir(run)),
    )


class Trained(NamedTuple):
    """How far a run is: its share, from 0 to 1, and the seconds that it took."""

    share: float
    seconds: float


def _watch(
    folder: Folder, runs: Sequence[Run], number: int, line: Progress
) -> Callable[[], None]:
    """Draws a line of how far all runs are, each time it is called."""
    done = {run.name: trained(folder, run) for run in runs}
    # What has stopped early has no more to train.
    done |= {
        run.name: done[run.name]._replace(share=1.0)
        for run in runs
        if is_done(folder, run)
    }
    current = runs[number - 1]

    def draw() -> None:
        done[current.name] = trained(folder, current)
        epochs = current.config.train.epochs
        parts = [
            f"sweep: run {number} of {len(runs)}, {current.name}",
            f"epoch {done[current.name].share * epochs:.2f} of {epochs}",
        ]
        left = seconds_left(runs, done, still=runs[number - 1 :])
        if left is not None:
            parts.append(f"about {clock_time(left)} left")
        line.label = "  ".join(parts)
        line.update(0)

    return draw


def trained(folder: Folder, run: Run) -> Trained:
    """Reads how far a run is from the last line of its log."""
    try:
        with (folder.workdir(run) / METRICS).open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - LAST_LINE))
            lines = file.read().split(b"\n")
        last = json.loads(lines[-2])  # after the last newline a line may be under way
        share = min(last["epoch"] / run.config.train.epochs, 1.0)
        return Trained(share, last["time"])
    except (OSError, IndexError, KeyError, TypeError, ValueError):
        return Trained(0.0, 0.0)


def seconds_left(
    runs: Sequence[Run], done: Mapping[str, Trained], *, still: Sequence[Run]
) -> float | None:
    """Estimates how long all runs still take; None before anything is known.

    A run takes as long as another of its setting did, or else as the mean of all.

    Args:
      runs: all of them.
      done: how far each is, by its name.
      still: the current one and those that come after it.
    """
    known: dict[str, list[float]] = {}
    for run in runs:
        share, seconds = done[run.name]
        if share > 0:
            known.setdefault(run.setting, []).append(seconds / share)
    if not known:
        return None
    means = {setting: sum(of) / len(of) for setting, of in known.items()}
    mean = sum(means.values()) / len(means)
    return sum(
        means.get(run.setting, mean) * (1 - done[run.name].share) for run in still
    )
