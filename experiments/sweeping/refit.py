"""The setting that is best on validation, trained again on train and validation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from ml_collections import ConfigDict

from experiments.assembly import run_parts
from experiments.runs import finding, status
from experiments.sweeping.definition import Run, folder_name
from experiments.sweeping.folder import Folder
from tron_jax.errors import UserError
from tron_jax.evaluation.metrics import BEST_KEY, title

ROUNDING = 1e-6  # of the epochs that a log holds
# Counted in steps.
SCHEDULES = ("optimizer.warmup_steps", "optimizer.schedule_steps", "loss.topk_steps")


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
    """Raises UserError where a run holds nothing out to choose by, or not test too."""
    for run in runs:
        if run.config.data.validation == 0:
            raise UserError(
                f"--refit: {run.name} has data.validation=0; expected a share of the "
                "train sessions to choose by"
            )
        # Trained again, it is evaluated on test, which nothing could be compared with.
        if run.config.train.evaluate_on == "validation":
            raise UserError(
                f"--refit: {run.name} has train.evaluate_on=validation; expected all, "
                "which with data.validation above 0 chooses on validation as well"
            )


def choose(folder: Folder, runs: Sequence[Run]) -> Chosen:
    """Finds the setting of the highest mean validation score, the first of equals.

    Args:
      folder: of the sweep.
      runs: all finished.
    """
    chosen = []
    for setting in dict.fromkeys(run.setting for run in runs):
        best = [_best(folder, run) for run in runs if run.setting == setting]
        score = sum(score for score, _ in best) / len(best)
        epochs = sum(epoch for _, epoch in best) / len(best)
        chosen.append(Chosen(setting, score, math.ceil(epochs - ROUNDING)))
    return max(chosen, key=lambda one: one.score)


def _best(folder: Folder, run: Run) -> tuple[float, float]:
    """The score of a run where that is highest, and the epoch."""
    found = status.look_at(finding.Found(folder.workdir(run)))
    if found.best is None or not found.best_epoch or found.best_split != "validation":
        raise UserError(f"{found.run}: no evaluation of validation; expected one")
    return found.best, found.best_epoch


def runs_of(chosen: Chosen, runs: Sequence[Run]) -> list[Run]:
    """The runs to make, one for each seed of the setting.

    Args:
      chosen: the setting.
      runs: of the sweep.
    """
    of_setting = [run for run in runs if run.setting == chosen.setting]
    again = []
    for run in of_setting:
        config = run.config.copy_and_resolve_references()
        before = _sessions(config)
        config.data.validation = config.data.without_last = 0.0
        config.train.evaluate_on = "all"
        config.train.epochs = chosen.epochs
        config.train.stop_after = 0
        growth = _sessions(config) / before
        for field in SCHEDULES:
            group, name = field.split(".")
            if config[group][name]:
                config[group][name] = max(1, round(growth * config[group][name]))
        # Of other epochs it is another run: none may go on from a state beyond its end.
        name = folder_name(f"refit,epochs={chosen.epochs},{run.setting}")
        again.append(run._replace(setting=name, config=config))
    return again


def _sessions(config: ConfigDict) -> int:
    """Sessions that a run trains on."""
    splits = run_parts.splits(config, run_parts.open_data(config))
    return splits["train"].num_sessions
