"""Exports a trained model: what serving needs, and nothing else.

    python -m experiments.export --workdir=RUN --out=DIR [--step=best|latest|N] \
        [--k=100] [--onnx] [--table=float32|bfloat16|int8] [--data=DIR]

DIR gets the weights (safetensors, the item table up to date), the user's own item ids,
the settings, the scorer as StableHLO for CPU, CUDA and TPU (any number of sessions, of
any length, but that a transformer sees only the last max_clicks of export.json, to
which the caller must cut longer ones; --k items are found), a model card, and a
checksum of each. It needs no training data and nothing of this package: the card shows
how jax alone runs it.
experiments.recommend --model=DIR takes it as it takes a run. --onnx adds model.onnx,
the same function for onnxruntime, with the weights once more. --table rounds the item
table, nearly all of a model, to a half or a quarter of its bytes, and the card says
what that costs in accuracy; onnxruntime unfolds it again in memory.

--data names the run's prepared set where it has moved; the card has slices, and what
rounding costs, where it is at hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from absl import flags
from ml_collections import ConfigDict

from experiments import entry, workdirs
from experiments.assembly import run_parts, trained
from experiments.assembly.architectures import MODELS
from experiments.assembly.trained import Trained
from experiments.assembly.weights import whole_table
from experiments.exporting import card, rounding
from experiments.exporting.rounding import Loss
from tron_jax import devices
from tron_jax.console.messages import say, warn
from tron_jax.data.catalogue import ITEMS
from tron_jax.data.sessions import open_prepared
from tron_jax.errors import UserError
from tron_jax.evaluation.ranking import ReadRows
from tron_jax.files import local_path, new_folder, refuse_taken
from tron_jax.models.encoder import Encoder
from tron_jax.serving import folder, onnx_graph, stablehlo, tables
from tron_jax.serving.scorer import Weights, make_last_queries, make_scorer

MOST = 100  # items that are found, unless --k says otherwise


def main(argv: Sequence[str]) -> int:
    values = flags.FlagValues()
    for name, text in (("workdir", "Folder of the run."), ("out", "Folder to make.")):
        flags.DEFINE_string(name, None, text, required=True, flag_values=values)
    flags.DEFINE_string("step", None, "Checkpoint: best, latest or a step.", values)
    flags.DEFINE_string("data", None, "The run's data set, where it moved.", values)
    flags.DEFINE_bool("onnx", False, "Write model.onnx too.", flag_values=values)
    flags.DEFINE_enum(
        "table", "float32", tables.DTYPES, "Of the item table.", flag_values=values
    )
    flags.DEFINE_integer(
        "k",
        None,
        f"Items that are found; {MOST} where not given.",
        1,
        flag_values=values,
    )
    return entry.run(run, values, argv)


def run(values: flags.FlagValues) -> None:
    """Exports by the flags."""
    workdir, out = local_path(values.workdir), local_path(values.out)
    if folder.is_export(workdir):
        raise UserError(
            f"{workdir} is an exported model; expected the workdir of a run"
        )
    refuse_taken(out)
    folder.require_packages(onnx=values.onnx)
    model = trained.load(workdir, values.step, values.data)
    num_items = len(model.items.raw_ids)
    if values.k is not None and values.k > num_items:
        raise UserError(f"--k={values.k}: expected at most the {num_items:,} items")
    k = values.k or min(MOST, num_items)
    devices.check()
    parts = run_parts.build_model(model.config, num_items)
    weights = _weights(model, parts.read_rows)
    rounded = weights._replace(table=tables.compacted(weights.table, values.table))
    loss = None
    if values.table != "float32":
        loss = _loss(model, weights, rounded, values.data)
    text = card.write(workdir, model, values.data, table=values.table, loss=loss)
    with new_folder(out) as new:
        _write(new, model, parts.encoder, rounded, k)
        if values.onnx:
            _write_onnx(new / folder.ONNX, rounded, model.config, k)
        (new / folder.CARD).write_text(text, encoding="utf-8")
        folder.seal(new, _about(model, rounded, k))
    size = sum(path.stat().st_size for path in out.iterdir())
    say(f"exported step {model.model.step:,} ({model.chosen_by}) to {out}")
    say(f"{num_items:,} items, {size / 1e6:,.1f} MB")
    if loss is not None:
        say(card.of_rounding(values.table, loss))


def _weights(model: Trained, read_rows: ReadRows) -> Weights:
    """What the model has learnt, float32, every row of the table up to date."""
    _, params, table_state, step = model.model
    table = whole_table(read_rows, table_state, step, len(model.items.raw_ids))
    weights = Weights(jax.tree.map(np.asarray, params), table)
    for name, array in zip(
        stablehlo.names(weights), jax.tree.leaves(weights), strict=True
    ):
        if not np.isfinite(array).all():
            raise UserError(f"{name} holds numbers that are not finite; not exported")
    return weights


def _loss(
    model: Trained, weights: Weights, rounded: Weights, place: str | None
) -> Loss | None:
    """What rounding costs on the test sessions; None where they are not at hand."""
    path = place or model.config.data.path
    if not path or (place is None and not local_path(path).exists()):
        warn(
            "what rounding costs was not measured: --data=DIR names the run's data set"
        )
        return None
    data = open_prepared(local_path(path))
    if data.fingerprint != model.made_with["fingerprint"]:
        raise UserError(f"{path} is not the data set that the run was trained on")
    if not data.test.num_sessions:
        warn(f"what rounding costs was not measured: {path} has no test sessions")
        return None
    return rounding.measure(
        model.config, weights.params, weights.table, rounded.table, data.test
    )


def _write(
    new: Path, model: Trained, encoder: Encoder, weights: Weights, k: int
) -> None:
    """Writes weights, items, settings and scorer."""
    config = model.config
    folder.save_weights(new / folder.WEIGHTS, weights)
    last_queries = make_last_queries(
        encoder,
        max_session_length=config.model.max_session_length,
        position=config.model.position,
    )
    score = make_scorer(last_queries, k=k)
    (new / folder.STABLEHLO).write_bytes(stablehlo.serialize(score, weights))
    clicks = pa.array(model.items.train_events)
    numbers = pa.array(np.arange(1, len(clicks) + 1, dtype=np.int32))
    columns = {"item": numbers, "raw_id": model.items.raw_ids, "train_events": clicks}
    pq.write_table(pa.table(columns), new / ITEMS)
    workdirs.write_published(new / workdirs.CONFIG, config, model.made_with)


def _write_onnx(path: Path, weights: Weights, config: ConfigDict, k: int) -> None:
    onnx_graph.save(
        path,
        weights,
        model=config.model.name,
        num_heads=config.model.num_heads,
        k=k,
        max_session_length=config.model.max_session_length,
        position=config.model.position,
        cosine_scale=config.model.scale if config.model.scoring == "cosine" else None,
    )


def _about(model: Trained, weights: Weights, k: int) -> dict:
    """What export.json says besides checksums."""
    config = model.config
    names = stablehlo.names(weights)
    return {
        "model": config.model.name,
        "num_items": len(model.items.raw_ids),
        "max_clicks": MODELS[config.model.name](config).max_clicks,
        "position": config.model.position,
        "k": k,
        "step": model.model.step,
        "chosen_by": model.chosen_by,
        "fingerprint": model.made_with["fingerprint"],
        "jax": jax.__version__,
        "weights": names,
        "arguments": [*names, "items [sessions, length]", "lengths [sessions]"],
        "results": ["scores [sessions, k]", "items [sessions, k]"],
    }


if __name__ == "__main__":
    entry.start(main)
