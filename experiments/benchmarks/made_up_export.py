"""An exported model that has learnt nothing, of any size."""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from experiments import workdirs
from experiments.assembly.architectures import MODELS
from experiments.configs import tron_xl
from tron_jax.data.catalogue import ITEMS
from tron_jax.serving import folder
from tron_jax.serving.scorer import Weights

ROWS = 1 << 16  # of the table that are drawn together


def write(place: Path, num_items: int) -> None:
    """Writes a TRON XL with random weights; the items' own ids are their numbers.

    Args:
      place: an empty folder.
      num_items: of the catalogue.
    """
    config = tron_xl.get_config()
    encoder = MODELS[config.model.name](config).encoder
    params = jax.jit(encoder.init)(jax.random.key(0))
    draw = np.random.default_rng(0)
    table = np.empty((num_items + 1, config.model.hidden_size), np.float32)
    for first in range(0, len(table), ROWS):
        part = table[first : first + ROWS]
        part[:] = 0.05 * draw.standard_normal(part.shape, np.float32)
    weights = Weights(jax.tree.map(np.asarray, params), table)
    folder.save_weights(place / folder.WEIGHTS, weights)
    numbers = pa.array(np.arange(1, num_items + 1, dtype=np.int64))
    clicks = pa.array(draw.integers(1, 1000, num_items))
    columns = {"item": numbers, "raw_id": numbers, "train_events": clicks}
    pq.write_table(pa.table(columns), place / ITEMS)
    made_with = {"fingerprint": "made up"}
    workdirs.write_published(place / workdirs.CONFIG, config, made_with)
    about = {"model": config.model.name, "num_items": num_items, "step": 0}
    folder.seal(place, about | {"chosen_by": "made up"})
