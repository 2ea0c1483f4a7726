"""From the folder of an exported model to what serves."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from experiments import workdirs
from experiments.assembly import run_parts, ways
from experiments.assembly.architectures import MODELS
from experiments.recommending import item_ids
from experiments.serving.lookup import make_lookup
from experiments.serving.service import Service
from tron_jax import jax_settings, memory
from tron_jax.console.messages import readable
from tron_jax.errors import UserError
from tron_jax.serving import folder, tables
from tron_jax.serving.engine import Engine, Programs
from tron_jax.serving.scorer import make_last_queries

# Of the file of weights, what is in memory at most: as read, what says which numbers
# are finite, and as the device has them.
ON_HOST, ON_DEVICE = 1.25, 1.0


class Source(NamedTuple):
    """What a server is made of; all of it is read again when it reloads.

    Attributes:
      model: folder of the exported model.
      only: file of the items that may be recommended; None = all.
      column: of that file, where it has columns.
      most: items of a list.
      max_clicks: of a session that a model without a maximum of its own sees.
    """

    model: Path
    only: Path | None
    column: str
    most: int
    max_clicks: int


def load(
    source: Source,
    known: Programs | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Service:
    """Loads an exported model and compiles all that serves it.

    Args:
      source: what to load.
      known: programs of the model that serves; see ``engine.Engine``.
      progress: see ``engine.Engine``.

    Raises:
      UserError: if it is no exported model, or damaged, or memory is short, or --only
        makes no sense.
    """
    place = source.model
    if not folder.is_export(place):
        raise UserError(
            f"--model={place}: expected an exported model; python -m "
            "experiments.export --workdir=RUN --out=DIR makes one"
        )
    _require_memory(place)
    exported = folder.read(place)
    about, (raw_ids, clicks) = exported.about, exported.items
    config, _ = workdirs.read_config(place)
    allowed = _allowed(source, raw_ids)
    popular = np.argsort(-clicks, kind="stable").astype(np.int32) + 1
    run_parts.use_compilation_cache()
    made = MODELS[config.model.name](config)
    weights = jax.block_until_ready(jax.device_put(folder.weights_of(exported)))
    del exported
    gc.collect()  # only now does jax let go of the arrays that it has copied
    last_queries = make_last_queries(
        made.encoder,
        max_session_length=config.model.max_session_length,
        position=config.model.position,
    )
    with jax_settings.stated():  # a reload has a thread of its own
        engine = Engine(
            last_queries,
            tables.read_rows,
            weights.params,
            weights.table,
            about["step"],
            num_items=len(raw_ids),
            longest=made.max_clicks or source.max_clicks,
            k=min(source.most, len(raw_ids)),
            fixed=ways.best().fixed,
            model=json.dumps(config.model.to_dict(), sort_keys=True),
            known=known,
            progress=progress,
        )
    card = place / folder.CARD
    return Service(
        engine,
        allowed,
        engine.allow(allowed),
        raw_ids,
        make_lookup(raw_ids),
        popular[allowed[popular]],
        about,
        card.read_text("utf-8") if card.is_file() else "",
    )


def _require_memory(place: Path) -> None:
    """Raises UserError where weights do not fit into what is free now."""
    try:
        size = (place / folder.WEIGHTS).stat().st_size
    except OSError:
        return  # the reader knows better words for it
    shared = jax.default_backend() == "cpu"
    room = {
        "main memory": (
            memory.host_memory().free,
            size * (ON_HOST + shared * ON_DEVICE),
        ),
        "the device's memory": (memory.free_memory(), size * ON_DEVICE),
    }
    for which, (free, needed) in room.items():
        if free is not None and needed > free:
            raise UserError(
                f"{place} needs {readable(needed)} of {which} to be loaded, and "
                f"{readable(free)} are free"
            )


def _allowed(source: Source, raw_ids) -> np.ndarray:
    allowed = np.full(len(raw_ids) + 1, source.only is None)
    if source.only is not None:
        allowed[
            item_ids.read_items(
                "--only", source.only, source.column, raw_ids, needed=True
            )
        ] = True
    allowed[0] = False
    return allowed
