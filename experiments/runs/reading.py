"""What is read of a run: its config, its log, its evaluation."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

from experiments import run_files, workdirs
from experiments.assembly import evaluating
from tron_jax.errors import UserError
from tron_jax.reporting import metrics_writer

Record = dict[str, Any]

EVALUATION = "evaluation.json"
SEED = "train.seed"


class Run(NamedTuple):
    """A run, from its workdir or from what was kept of it.

    Attributes:
      path: its folder, as the user named it.
      named: the name of its setting in a sweep; "" where it has none.
      chosen: how its sweep came to that setting; "" where it was asked for.
      fields: of its config, by their paths.
      made_with: its provenance.
      log: lines of metrics.jsonl; none where there is no such file.
      evaluations: line of figures by protocol: of evaluation.json, or where there is
        none yet, the latest of test in the log.
      finished: whether they are of evaluation.json.
      newest: step of the newest checkpoint; None where there is none, as in what was
        kept.
    """

    path: str
    named: str
    chosen: str
    fields: Record
    made_with: Record
    log: list[Record]
    evaluations: dict[str, Record]
    finished: bool
    newest: int | None = None

    @property
    def folder(self) -> Path:
        """Where its files are."""
        return Path(self.path)

    @property
    def seed(self) -> int:
        """That of its draws."""
        return int(self.fields[SEED])

    @property
    def fingerprint(self) -> str:
        """Of the data that it was trained on."""
        return str(self.made_with["fingerprint"])


def load(path: str, named: str = "", chosen: str = "") -> Run | None:
    """Reads a run.

    Args:
      path: its folder.
      named: its setting, in a sweep.
      chosen: how the sweep came to it.

    Returns:
      The run; None where it was never evaluated on test, not even while it trains.

    Raises:
      UserError: where a file is damaged, which is named.
    """
    folder = Path(path)
    config, made_with = workdirs.read_config(folder)
    newest = run_files.newest_step(folder)  # first: an evaluation comes after it
    metrics = folder / run_files.METRICS
    log = metrics_writer.read(metrics) if metrics.is_file() else []
    finished = (folder / EVALUATION).is_file()
    if finished:
        evaluations = read_evaluations(folder / EVALUATION)
    else:
        evaluations = _latest_of(log, evaluating.shown_split(config.train.evaluate_on))
    if "exact" not in evaluations:
        return None
    fields = workdirs.fields(config)
    return Run(
        path, named, chosen, fields, made_with, log, evaluations, finished, newest
    )


def changes(made_with: Record) -> list[Record]:
    """What a run was made with at its start, and what was new at each resume."""
    return [made_with, *made_with.get("resumed_with", [])]


def made_by(run: Run, key: str) -> tuple[str, ...]:
    """What a run says of a key, such as its device, at its start and at each resume."""
    found = (change.get(key) for change in changes(run.made_with))
    return tuple(dict.fromkeys(str(value) for value in found if value))


def steps_per_epoch(run: Run) -> float | None:
    """From the log; None where there is none."""
    found = [line for line in run.log if line.get("epoch")]
    return found[-1]["step"] / found[-1]["epoch"] if found else None


def is_metric(key: str) -> bool:
    """Whether a key of a line is that of a metric, such as recall@20."""
    name, at, cutoff = key.partition("@")
    return bool(name and at) and cutoff.isdecimal()


def read_evaluations(path: Path) -> dict[str, Record]:
    """Reads evaluation.json: the line of each protocol.

    Raises:
      UserError: where it is missing or damaged.
    """
    try:
        lines = json.loads(path.read_text())
        found = {str(line["protocol"]): line for line in lines}
        for line in lines:
            values = [line["step"], line["events"]]
            values += [value for key, value in line.items() if is_metric(key)]
            if not all(math.isfinite(value) for value in values):
                raise ValueError("a figure is not finite")
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path} is damaged ({error}); run experiments.evaluate again"
        ) from error
    return found


def _latest_of(log: list[Record], split: str) -> dict[str, Record]:
    """The lines of the latest evaluation on a split."""
    found = [line for line in log if line.get("split") == split]
    return {
        str(line["protocol"]): line
        for line in found
        if line["step"] == found[-1]["step"]
    }
