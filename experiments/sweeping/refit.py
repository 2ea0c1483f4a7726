"""The setting that is best on validation, trained again on train and validation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from experiments.sweeping.definition import Run
from experiments.sweeping.folder import Folder
from tron_jax.errors import UserError
from tron_jax.evaluation.metrics import BEST_KEY, title
from tron_jax.reporting import metrics_writer

SCHEDULES = ("optimizer.warmup_steps", "loss.topk_steps")  # counted in steps


class Best(NamedTuple):
    """When a run was best on validation: its score, and the epoch."""

    score: float
    epoch: float


class Chosen(NamedTuple):
    """The setting to train again.

    Attributes:
      setting: its name.
      score: mean over its seeds of the best validation score.
      epochs: mean over its seeds of the epochs until there, rounded up.
    """

    setting: str
    score: float
    epochs: int

    @property
    def rule(self) -> str:
        """Says how it was chosen."""
        key = title(BEST_KEY)
        return (
            f"chosen on validation of {self.setting}: its mean {key} is the highest, "
            f"{self.score:.4f}"
        )


def require_validation(runs: Sequence[Run]) -> None:
    """Raises UserError where a run holds nothing out to choose by."""
    for run in runs:
        if run.config.data.validation == 0:
            raise UserError(
                f"--refit: {run.name} has data.validation=0; expected a share of the "
                "train sessions to choose by"
            )


def choose(folder: Folder, runs: Sequence[Run]) -> Chosen:
    """Finds the setting of the highest mean validation score, the first of equals.

    Args:
      folder: of the sweep.
      runs: all finished.
    """
    best = {run.name: _best(folder, run) for run in runs}
    settings = dict.fromkeys(run.setting for run in runs)
    chosen = []
    for setting in settings:
        of_seeds = [best[run.name] for run in runs if run.setting == setting]
        score = sum(seed.score for seed in of_seeds) / len(of_seeds)
        epochs = sum(seed.epoch for seed in of_seeds) / len(of_seeds)
        chosen.append(Chosen(setting, score, max(1, math.ceil(epochs - 1e-6))))
    return max(chosen, key=lambda one: one.score)


def _best(folder: Folder, run: Run) -> Best:
    """By the protocol that the run's best checkpoint goes by."""
    path = folder.workdir(run) / "metrics.jsonl"
    lines = [
        line for line in metrics_writer.read(path) if line.get("split") == "validation"
    ]
    protocol = "paper" if any(x["protocol"] == "paper" for x in lines) else "exact"
    scored = [line for line in lines if line["protocol"] == protocol]
    if not scored:
        raise UserError(f"{path}: no evaluation of validation; expected one")
    first = max(scored, key=lambda line: (line[BEST_KEY], -line["step"]))
    return Best(first[BEST_KEY], first["epoch"])


def runs_of(chosen: Chosen, runs: Sequence[Run], growth: float) -> list[Run]:
    """The runs to make, one for each seed of the setting.

    Args:
      chosen: the setting.
      runs: of the sweep.
      growth: steps of an epoch over train and validation, per step of one over train.
    """
    again = []
    for run in runs:
        if run.setting != chosen.setting:
            continue
        config = run.config.copy_and_resolve_references()
        config.data.validation = 0.0
        config.train.epochs = chosen.epochs
        config.train.stop_after = 0
        for field in SCHEDULES:
            group, name = field.split(".")
            if config[group][name]:
                config[group][name] = max(1, round(growth * config[group][name]))
        again.append(Run(f"refit,{run.setting}", run.seed, config))
    return again
