"""A trained model as it lies in the workdir of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import jax
from ml_collections import ConfigDict

from experiments import workdirs
from experiments.assembly import checkpoint_choice, run_parts
from tron_jax.data.catalogue import ITEMS, Catalogue, read_catalogue
from tron_jax.data.sessions import catalogue_of, open_prepared
from tron_jax.errors import UserError
from tron_jax.files import local_path
from tron_jax.recommending.recommender import Model
from tron_jax.serving import folder, tables
from tron_jax.steps import TrainState
from tron_jax.storage.checkpoints import Checkpoints


class Trained(NamedTuple):
    """A model and what its numbers mean.

    Attributes:
      model: to recommend with.
      items: its catalogue; item i is row i - 1.
      config: of the run.
      made_with: its provenance.
      chosen_by: which checkpoint it is, in a few words.
    """

    model: Model
    items: Catalogue
    config: ConfigDict
    made_with: dict[str, Any]
    chosen_by: str


class Restored(NamedTuple):
    """A checkpoint of a run, whole.

    Attributes:
      state: the train state.
      step: of the run.
      parts: what takes the state.
      items: its catalogue; item i is row i - 1.
      config: of the run.
      made_with: its provenance.
      chosen_by: which checkpoint it is, in a few words.
    """

    state: TrainState
    step: int
    parts: run_parts.ModelParts
    items: Catalogue
    config: ConfigDict
    made_with: dict[str, Any]
    chosen_by: str


def load(place: Path, step: str | None = None, data: str | None = None) -> Trained:
    """Loads the model of a run, which may still be training, or an exported one.

    Args:
      place: workdir of the run, or folder that ``experiments.export`` made.
      step: ``best``, ``latest`` or a step; None = the one that ``exact`` evaluates, the
        latest, or the best on validation where the run held some out.
      data: the run's prepared set, for a run of a version that kept no item ids.

    Raises:
      UserError: where there is no such run, checkpoint or catalogue.
    """
    if folder.is_export(place):
        if step is not None or data is not None:
            raise UserError(f"{place} is an exported model: no --step, no --data")
        return _of_export(place)
    found = restore(place, step, data)
    state, recommender = found.state, found.parts.recommender
    model = Model(recommender, state.params, state.items, found.step)
    return Trained(model, found.items, found.config, found.made_with, found.chosen_by)


def restore(
    workdir: Path, step: str | None, data: str | None = None, *, named: str = "--step"
) -> Restored:
    """Reads a checkpoint of a run, which may still be training.

    Args:
      workdir: of the run.
      step: as for ``load``.
      data: as for ``load``.
      named: the flag that names the step.

    Raises:
      UserError: where there is no such run, checkpoint or catalogue.
    """
    config, made_with = workdirs.read_config(workdir)
    items = _catalogue(workdir, made_with, data)
    checkpoints = Checkpoints(workdir / workdirs.CHECKPOINTS)
    choice = checkpoint_choice.choose(step, config, checkpoints, named=named)
    chosen, rule = choice["exact"]
    run_parts.use_compilation_cache()
    parts = run_parts.build_model(config, len(items.raw_ids))
    state, _ = checkpoints.restore(chosen, jax.eval_shape(parts.init))
    return Restored(state, chosen, parts, items, config, made_with, rule)


def _of_export(place: Path) -> Trained:
    """An exported model, whose table is up to date."""
    exported = folder.read(place)
    config, made_with = workdirs.read_config(place)
    run_parts.use_compilation_cache()
    recommender = run_parts.recommender_of(
        config, tables.read_rows, len(exported.items.raw_ids)
    )
    weights = jax.device_put(folder.weights_of(exported))
    step = exported.about["step"]
    model = Model(recommender, weights.params, weights.table, step)
    rule = exported.about["chosen_by"]
    return Trained(model, exported.items, config, made_with, rule)


def _catalogue(workdir: Path, made_with: dict, data: str | None) -> Catalogue:
    """That of the run, or of the data it was trained on."""
    if data is None and (workdir / ITEMS).is_file():
        path, num_items = workdir / ITEMS, made_with.get("num_items")
        if num_items is None:
            raise UserError(f"{workdir}: config.json lacks num_items; expected --data")
        return read_catalogue(path, num_items)
    if data is None:
        raise UserError(
            f"{workdir} has no {ITEMS}, as runs of older versions; expected "
            "--data=DIR, the prepared set that it was trained on"
        )
    prepared = open_prepared(local_path(data))
    if prepared.fingerprint != made_with["fingerprint"]:
        raise UserError(f"{data} is not the data set that {workdir} was trained on")
    return catalogue_of(prepared)
