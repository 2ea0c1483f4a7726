"""What a train step cannot do without: bytes that move, and operations of matmuls."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.benchmarks.workload import Workload, num_candidates
from experiments.device import ceilings
from tron_jax import memory
from tron_jax.data.packing import Batch, block_size

UNKNOWN = {"bytes_s": None, "operations_s": None}


class Needs(NamedTuple):
    """Of one step.

    Attributes:
      bytes: read and written.
      operations: a multiplication and an addition are two.
    """

    bytes: float
    operations: float


def needs(workload: Workload, dispatch: Any, steps: int) -> Needs:
    """What a step of a dispatch needs, whatever the program.

    Bytes: each row of the item table and of its moments that the step touches is read
    and written once, or all rows where the optimizer is dense; so are the encoder's
    parameters and their moments. Scores and activations might never leave the chip, so
    they do not count.

    Operations, with N inputs, width d and C candidates an event:

    - encoder, forward and backward, three times its matmuls. SASRec, a layer: 2·N·(4·d²
      + 2·d·f) and attention to two blocks of b inputs, 2·N·2·(2·b)·d. GRU: 2·N·6·d².
    - with a top-k: scores of all candidates, 2·N·C·d, and of the k with a gradient
      twice as many again, 4·N·k·d. Without: 6·N·C·d.
    - the label: 6·N·d.

    Args:
      workload: the run.
      dispatch: a batch or several; padding counts as in the step.
      steps: of the dispatch.

    Returns:
      The needs of one step.
    """
    config = workload.config
    model, topk = config.model, config.loss.topk
    inputs, d = dispatch.shape[-1], model.hidden_size
    if model.name == "gru4rec":
        encoder = 2 * inputs * 6 * d * d
    else:
        dense = 4 * d * d + 2 * d * model.feedforward_size
        keys = 2 * block_size(model.max_session_length)
        encoder = model.num_layers * 2 * inputs * (dense + 2 * keys * d)
    candidates = num_candidates(workload)
    scored = 2 * candidates + 4 * topk if topk else 6 * candidates
    operations = 3 * encoder + inputs * d * (scored + 6)
    items = inputs_of(dispatch, steps)
    return Needs(2.0 * _state_bytes(workload, items), float(operations))


def inputs_of(dispatch: Any, steps: int) -> np.ndarray:
    """[steps, N] items of the steps of a dispatch."""
    if isinstance(dispatch, Batch):
        return np.asarray(dispatch.items)[None]
    return np.stack([np.asarray(dispatch.batch(i).items) for i in range(steps)])


def _state_bytes(workload: Workload, items: np.ndarray) -> float:
    """Bytes of the state that a step touches."""
    state = jax.eval_shape(workload.parts.init)
    table, whole = memory.size(state.items), memory.size(state)
    rows = workload.num_items + 1
    share = 1.0
    if workload.config.optimizer.item_table != "dense":
        share = distinct_rows(workload, items) / rows
    return share * table + (whole - table)


def distinct_rows(workload: Workload, items: np.ndarray) -> float:
    """How many rows a step touches: its inputs, and its draws as if all were uniform.

    Args:
      workload: the run.
      items: [steps, N] inputs; labels are nearly the same items.

    Returns:
      The expected number, a mean over the steps.
    """
    negatives = workload.config.negatives
    drawn = negatives.get("num_uniform", 0) + negatives.get("num_popularity", 0)
    if negatives.drawn_per == "session":
        drawn *= workload.config.train.batch_size
    elif negatives.drawn_per == "event":
        drawn *= items.shape[-1]
    clicked = float(np.mean([len(np.unique(step[step > 0])) for step in items]))
    others = workload.num_items - clicked
    hit = -np.expm1(drawn * np.log1p(-1 / workload.num_items))
    return clicked + others * float(hit)


def seconds(of_step: Needs, ceiling: dict[str, Any], matmul: str) -> dict[str, Any]:
    """The least time for a step's needs at the device's measured ceilings.

    Args:
      of_step: what the step needs.
      ceiling: figures of the part ``ceilings``.
      matmul: which matmul's rate its operations have.

    Returns:
      bytes, operations, bytes_s and operations_s; the last two None where no ceiling
      was measured.
    """
    moved, computed = ceilings.rate(ceiling, "bytes"), ceilings.rate(ceiling, matmul)
    return of_step._asdict() | {
        "bytes_s": of_step.bytes / moved if moved else None,
        "operations_s": of_step.operations / computed if computed else None,
    }


def least(floor: dict[str, Any]) -> float | None:
    """The larger of a step's two floors, in seconds."""
    known = [floor[n] for n in ("bytes_s", "operations_s") if floor[n] is not None]
    return max(known, default=None)
