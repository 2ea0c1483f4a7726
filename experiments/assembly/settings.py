"""The settings that library functions take, from the fields of a config.

Their fields have the names of the config's: what a loss, say, depends on is named in
its config group and in ``LossSettings``, and nowhere between the two.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

from ml_collections import ConfigDict

from tron_jax.objectives.candidate_scores import BY_MATMUL_FROM
from tron_jax.objectives.losses import LossSettings
from tron_jax.objectives.settings import Selection
from tron_jax.sampling.settings import NegativeSampling
from tron_jax.sampling.sources import SOURCES

FULL_SOFTMAX = "full_softmax"  # the one ``loss.name`` that samples no negatives

Settings = TypeVar("Settings")


def filled(
    settings_class: type[Settings], group: Mapping[str, Any] | ConfigDict, **others: Any
) -> Settings:
    """Makes settings of the fields that a config group has by the same name.

    Args:
      settings_class: a dataclass.
      group: of a config.
      **others: what the group does not say.

    Returns:
      The settings; what neither says has its default.
    """
    names = {field.name for field in dataclasses.fields(settings_class)}  # pyrefly: ignore
    return settings_class(**{n: group[n] for n in names & set(group)} | others)


def negative_sampling(config: ConfigDict) -> NegativeSampling:
    """The negatives of a run; a source whose count the config lacks has none."""
    group = config.negatives
    fields = {name: f"num_{name}" for name in SOURCES}
    counts = {name: group[field] for name, field in fields.items() if field in group}
    return filled(NegativeSampling, group, counts=counts)


def selection(config: ConfigDict) -> Selection:
    """Which of the candidates count."""
    return filled(Selection, config.loss, mask_hits=config.negatives.mask_hits)


def selects_many(config: ConfigDict) -> bool:
    """Whether so many candidates are selected that gathering their rows costs more."""
    candidates = negative_sampling(config).num_candidates
    return selection(config).most >= BY_MATMUL_FROM * candidates


def loss(config: ConfigDict, num_items: int) -> LossSettings:
    """The loss of a run on a data set."""
    num_candidates = negative_sampling(config).num_candidates
    return filled(
        LossSettings, config.loss, num_candidates=num_candidates, num_items=num_items
    )


def items_per_candidate(config: ConfigDict, num_items: int) -> float:
    """How many items a negative stands for, as if all were drawn evenly; 1 at least."""
    return max(num_items / max(negative_sampling(config).num_candidates, 1), 1.0)
