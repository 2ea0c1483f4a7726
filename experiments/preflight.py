"""What a run needs of memory and disk, checked before its first step."""

from __future__ import annotations

from typing import NamedTuple

import jax

from tron_jax.console.messages import readable
from tron_jax.data.batches import Batches
from tron_jax.errors import UserError
from tron_jax.evaluation.evaluator import Evaluator
from tron_jax.memory import held, in_one_memory, size, temporaries
from tron_jax.steps import TrainState


class Needs(NamedTuple):
    """What a run holds in the memory of its device, in bytes.

    Attributes:
      table: the item table.
      moments: what the item table's optimizer keeps of it.
      encoder: parameters and optimizer state of the encoder, and what it carries.
      step: temporaries of the largest train step.
      clicks: what a dispatch is given: batches, or all clicks where they are resident.
      evaluation: temporaries of an evaluation; 0 where there is none.
      saving: copy of the state that a checkpoint under way holds.
    """

    table: int
    moments: int
    encoder: int
    clicks: int
    step: int
    evaluation: int
    saving: int

    @property
    def state(self) -> int:
        """What is held from the first step to the last."""
        return self.table + self.moments + self.encoder

    @property
    def peak(self) -> int:
        """The most that is held at once: evaluation takes turns with the steps."""
        in_turn = max(self.step, self.evaluation)
        return self.state + self.clicks + self.saving + in_turn


def measure(
    state: TrainState,
    batches: Batches,
    step: int,
    evaluator: Evaluator | None,
    *,
    copies: bool,
    devices: int = 1,
) -> Needs:
    """Adds up what a run will hold, before any of it is allocated.

    Args:
      state: the shapes of its arrays.
      batches: of the run.
      step: bytes of temporaries of the largest train step.
      evaluator: of the run; its programs are compiled here and used later. None if
        nothing is evaluated.
      copies: whether a checkpoint under way holds a copy of the state.
      devices: that compute.

    Returns:
      The bytes of each part.
    """
    evaluation = 0
    if evaluator is not None:
        traced = evaluator.trace(state.params, state.items)
        programs = [program.lower().compile() for program in traced.values()]
        # One chunk of hidden states is ranked while the next is encoded.
        evaluation = temporaries(programs) + 2 * size(traced["encode"].out_info)
    table, whole = held(state.items.table), held(state)
    shared = in_one_memory(devices)
    copied = copies or devices > 1  # a mesh saves what it has put together on the host
    return Needs(
        table=table,
        moments=held(state.items) - table,
        encoder=whole - held(state.items),
        clicks=shared * max(map(size, batches.shapes)),
        step=shared * step,
        evaluation=shared * evaluation,
        saving=size(state) if copied and jax.default_backend() == "cpu" else 0,
    )


WORDS = {
    "table": "item table",
    "moments": "its moments",
    "encoder": "encoder",
    "clicks": "clicks",
    "step": "a step",
    "evaluation": "evaluation",
    "saving": "saving",
}
# How a user makes each smaller.
REMEDIES = {
    "state": "lower model.hidden_size, or prepare the data with fewer items",
    "step": "lower train.batch_size, negatives.num_uniform or model.hidden_size",
    "evaluation": "lower model.hidden_size",
    "saving": "lower model.hidden_size, or prepare the data with fewer items",
}
DENSE = "set optimizer.item_table=rows, or "


def check_memory(needs: Needs, free: int | None, *, dense: bool) -> str:
    """Compares what a run needs with what there is.

    Args:
      needs: of the run.
      free: free bytes of the device's memory; None = not known.
      dense: whether a step updates the item table as a whole.

    Returns:
      A line that says what is needed of what is free.

    Raises:
      UserError: if it cannot fit, with the figures and the fields to change.
    """
    parts = needs._asdict().items()
    figures = ", ".join(f"{WORDS[part]} {readable(n)}" for part, n in parts if n)
    line = f"memory: {readable(needs.peak)} at most ({figures})"
    if free is None:
        return line
    if needs.peak <= free:
        return f"{line} of {readable(free)} free"
    turn = "step" if needs.step >= needs.evaluation else "evaluation"
    sizes = {"state": needs.state, "saving": needs.saving, turn: getattr(needs, turn)}
    largest = max(sizes, key=lambda part: sizes[part])
    instead = DENSE if dense and needs.step > needs.table else ""
    raise UserError(
        f"{line}, but {readable(free)} are free; {instead}{REMEDIES[largest]}"
    )


def check_disk(state: int, *, saves: int, there: int, keep_last: int, free: int) -> str:
    """Compares what the checkpoints of a run need with what there is.

    The newest few and the best are kept, and one is deleted only after the next is
    complete.

    Args:
      state: bytes of a checkpoint.
      saves: how many are still to be made.
      there: how many exist already.
      keep_last: how many of the newest stay.
      free: bytes that the disk has room for.

    Returns:
      A line that says what is needed of what is free.

    Raises:
      UserError: if there is no room, with the figures.
    """
    more = max(min(saves, keep_last + 2 - there), min(saves, 1))
    line = (
        f"checkpoints: {more} of {readable(state)} beside the {there} there "
        f"(the last {keep_last}, the best, one being written)"
    )
    if more * state <= free:
        return f"{line}, {readable(free)} free on disk"
    raise UserError(
        f"{line} need {readable(more * state)}, but {readable(free)} are free on disk; "
        "free some, lower model.hidden_size or use another --workdir"
    )
