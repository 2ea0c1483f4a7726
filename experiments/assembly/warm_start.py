"""A run that starts from what another has learnt, on data with other items.

The encoder is taken as it is, the rows of items by their raw ids. Rows of items that
the data lack are dropped; items that the other run lacked begin as ``init.new_items``
says. ``tron_jax.optimizers.carried_over`` has what becomes of the moments. Corrections
of a session's own items, which all else learns without, begin at nothing where the
other run had none, and are dropped where this one has none.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pyarrow as pa
from jax.tree_util import DictKey
from ml_collections import ConfigDict

from experiments.assembly import trained, update_rules
from experiments.assembly.trained import Restored
from experiments.recommending.item_ids import examples, numbers_of
from tron_jax.data.catalogue import ITEMS
from tron_jax.data.neighbours import neighbour_means
from tron_jax.data.sessions import PreparedData, Sessions, catalogue_of
from tron_jax.errors import UserError
from tron_jax.models import repeats
from tron_jax.optimizers import carried_over
from tron_jax.optimizers.carried_over import WholeTable
from tron_jax.steps import TrainState
from tron_jax.storage.array_files import all_finite

# What an encoder computes by, besides its parameters.
OF_THE_ENCODER = (
    "model.name",
    "model.hidden_size",
    "model.num_layers",
    "model.num_heads",
    "model.feedforward_size",
    "model.max_session_length",
    "model.position",
    "model.scoring",
)
# What moments are made by.
OF_THE_MOMENTS = (
    "optimizer.name",
    "optimizer.b1",
    "optimizer.b2",
    "optimizer.momentum",
)


class WarmStart(NamedTuple):
    """The beginning of a run.

    Attributes:
      state: of step 0.
      origin: where it is from, for the run's provenance; names no folder.
      summary: a line for the user.
    """

    state: TrainState
    origin: dict[str, Any]
    summary: str


def prepare(
    config: ConfigDict,
    data: PreparedData,
    train: Sessions,
    fresh: TrainState,
) -> WarmStart:
    """Makes the first state of a run from a checkpoint of another.

    Tables are put together on the host: with the source's and the new one, there are
    up to four tables with their moments in memory for a moment.

    Args:
      config: of the new run, checked and resolved, with ``init.workdir``.
      data: that it trains on.
      train: the sessions of it that the run trains on.
      fresh: the state of a run that starts from scratch, as it is saved.

    Raises:
      UserError: where the source is missing, or does not fit.
    """
    named = f"init.workdir={config.init.workdir}"
    source = _open(config, named)
    origin = _origin(source.items.raw_ids, catalogue_of(data).raw_ids, named)
    is_new = origin < 0
    _, source_tx = update_rules.of_whole_rows(source.config)
    whole = carried_over.take(source_tx, source.state.items, source.step)
    table = carried_over.choose_rows(whole, origin, np.asarray(fresh.items.table))
    by_neighbours = 0
    if config.init.new_items == "neighbours":
        by_neighbours = _begin_by_neighbours(table.values, is_new, train)
    counts = {
        "matched": int((origin > 0).sum()),
        "new": int(is_new.sum()),
        "by_neighbours": by_neighbours,
        "dropped": len(whole.values) - int((origin >= 0).sum()),
    }
    return WarmStart(
        _first_state(config, source.state, fresh, table),
        _provenance(source) | counts,
        _summary(config, source, counts),
    )


def _open(config: ConfigDict, named: str) -> Restored:
    """Reads the source and refuses what does not fit the run."""
    workdir = Path(config.init.workdir)
    if workdir.is_dir() and not (workdir / ITEMS).is_file():
        raise UserError(
            f"{named} has no {ITEMS}, as runs of older versions; expected it there, "
            "copied from the prepared set that the run was trained on"
        )
    try:
        source = trained.restore(workdir, config.init.step, named="init.step")
    except UserError as error:
        raise UserError(f"{named}: {error}") from error
    fields = OF_THE_ENCODER
    if update_rules.keeps_moments(config):
        fields += OF_THE_MOMENTS
    for field in fields:
        group, name = field.split(".")
        before, now = source.config[group][name], config[group][name]
        if before != now:
            raise UserError(
                f"{named} was trained with {field}={before}, not {now}; expected the "
                "same" + " or init.moments=reset" * (field in OF_THE_MOMENTS)
            )
    if not jax.jit(all_finite)(source.state):
        raise UserError(f"{named}: the state of step {source.step:,} is not finite")
    return source


def _origin(old: pa.Array, new: pa.Array, named: str) -> np.ndarray:
    """[num_items + 1] int32, the row that each item has in the source; -1 = none."""
    if old.type != new.type:
        raise UserError(
            f"{named} has item ids of type {old.type} ({examples(old)}), the data of "
            f"type {new.type} ({examples(new)}); expected ids of one log"
        )
    numbers = numbers_of(new, old)
    if not numbers.any():
        raise UserError(
            f"{named} knows none of the {len(new):,} items of the data "
            f"({examples(new)}); its own are such as {examples(old)}"
        )
    padding = np.zeros(1, np.int32)
    return np.concatenate([padding, np.where(numbers > 0, numbers, -1)]).astype(
        np.int32
    )


def _begin_by_neighbours(
    values: np.ndarray, is_new: np.ndarray, train: Sessions
) -> int:
    """Sets new rows to the mean of their neighbours; returns how many have any."""
    means, clicks = neighbour_means(train.items, train.offsets, values, is_new)
    found = np.flatnonzero(is_new)[clicks > 0]
    values[found] = means[clicks > 0]
    return len(found)


def _first_state(
    config: ConfigDict, source: TrainState, fresh: TrainState, table: WholeTable
) -> TrainState:
    """The source's encoder and rows; step, and what is under way, as from scratch."""
    state = fresh._replace(params=_corrected_alike(source.params, fresh.params))
    if update_rules.keeps_moments(config):
        items = carried_over.place(table, fresh.items)
        opt = _corrected_alike(source.opt, fresh.opt)
        return state._replace(opt=opt, items=items)
    _, item_tx = update_rules.make_optimizers(config)
    return state._replace(items=item_tx.init(jnp.array(table.values)))


def _corrected_alike(source: Any, fresh: Any) -> Any:
    """What the source has, without corrections where fresh has none, or with its own.

    Args:
      source: parameters of the encoder, or moments of them.
      fresh: the same of a run that starts from scratch.
    """
    known = dict(jax.tree.leaves_with_path(source))

    def taken(path: tuple[Any, ...], of_fresh: Any) -> Any:
        if DictKey(repeats.PARAMS) in path:
            return known.get(path, of_fresh)
        return known[path]

    return jax.tree.map_with_path(taken, fresh)


def _provenance(source: Restored) -> dict[str, Any]:
    made_with = json.dumps(source.made_with, sort_keys=True).encode()
    return {
        "fingerprint": source.made_with["fingerprint"],
        "step": source.step,
        "chosen_by": source.chosen_by,
        "provenance": hashlib.sha256(made_with).hexdigest(),
    }


def _summary(config: ConfigDict, source: Restored, counts: dict[str, int]) -> str:
    drawn = counts["new"] - counts["by_neighbours"]
    begin = [f"{drawn:,} as the initialiser draws them"]
    if config.init.new_items == "neighbours":
        begin = [f"{counts['by_neighbours']:,} as the mean of their neighbours"]
        begin += [f"{drawn:,}, without any, as the initialiser draws them"] * (
            drawn > 0
        )
    new = f" ({', '.join(begin)})" if counts["new"] else ""
    kept = "kept" if update_rules.keeps_moments(config) else "reset"
    corrected = ""
    if source.config.model.repeats != config.model.repeats:
        how = "begin at nothing" if config.model.repeats else "are dropped"
        corrected = f"; corrections of repeats {how}"
    return (
        f"warm start from step {source.step:,} ({source.chosen_by}): "
        f"{counts['matched']:,} items matched, {counts['new']:,} new{new}, "
        f"{counts['dropped']:,} dropped; moments {kept}{corrected}"
    )
