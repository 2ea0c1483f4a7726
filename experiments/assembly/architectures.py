"""The models that a config can name: an encoder, and how sessions are fed to it."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from experiments.assembly.settings import filled
from experiments.assembly.ways import Ways
from tron_jax import memory
from tron_jax.data.batches import Batches
from tron_jax.data.packing import PackedBatches
from tron_jax.data.resident import ResidentBatches
from tron_jax.data.sessions import Sessions
from tron_jax.data.slots import SlotBatches
from tron_jax.evaluation.evaluator import Evaluator, make_evaluator, make_slot_evaluator
from tron_jax.evaluation.ranking import ReadRows
from tron_jax.evaluation.spread import Spread
from tron_jax.models.cosine import cosine
from tron_jax.models.encoder import Encoder
from tron_jax.models.gru4rec import GRU4RecSettings, make_gru4rec
from tron_jax.models.repeats import with_repeats
from tron_jax.models.sasrec import SASRecSettings, make_sasrec
from tron_jax.steps import RepeatedStep, TrainStep, repeat

SCORINGS = ("dot", "cosine")
CLICKS = 0.25  # share of its memory up to which a device holds all clicks itself
PAPER_INPUTS = 200  # that the paper's evaluation of GRU4Rec keeps of a session

Send = Callable[[Any], Any]


class Fed(NamedTuple):
    """How the sessions that a run trains on reach its encoder.

    Attributes:
      batches: of the sessions.
      dispatched: from a train step to what takes such batches.
    """

    batches: Batches
    dispatched: Callable[[TrainStep], TrainStep | RepeatedStep]


class Model(NamedTuple):
    """What depends on the model.

    Attributes:
      encoder: the encoder.
      feed: ``(train, ways, send) -> Fed``, where ``send`` puts arrays to where a step
        takes them from.
      make_evaluator: ``(read_rows, num_items, spread=None) -> evaluator``.
      max_clicks: of a session that it sees, the last ones; None = all.
    """

    encoder: Encoder
    feed: Callable[[Sessions, Ways, Send], Fed]
    make_evaluator: Callable[..., Evaluator]
    max_clicks: int | None


def _sasrec(config: ConfigDict) -> Model:
    model = config.model
    encoder = make_sasrec(filled(SASRecSettings, model))
    if model.scoring == "cosine":
        encoder = cosine(encoder, model.scale)
    if model.repeats:
        encoder = with_repeats(encoder)

    def feed(train: Sessions, ways: Ways, send: Send) -> Fed:
        batches = PackedBatches(
            train,
            batch_size=config.train.batch_size,
            max_session_length=model.max_session_length,
            position=model.position,
            order=config.train.order,
            seed=config.train.seed,
            steps_per_group=config.train.steps_per_group,
        )
        if config.train.steps_per_group == 1:
            return Fed(batches, lambda train_step: train_step)
        resident = ResidentBatches(batches, send)
        # Not of what is free just now, for a resumed run must choose alike.
        room = CLICKS * (memory.device_memory() or math.inf)
        fits = memory.size(resident.held) <= room
        repeated = functools.partial(repeat, fixed=ways.fixed)
        return Fed(resident if fits else batches, repeated)

    def evaluator(
        read_rows: ReadRows, num_items: int, spread: Spread | None = None
    ) -> Evaluator:
        return make_evaluator(
            encoder,
            read_rows,
            num_items=num_items,
            max_session_length=model.max_session_length,
            position=model.position,
            spread=spread,
        )

    return Model(encoder, feed, evaluator, model.max_session_length)


def _gru4rec(config: ConfigDict) -> Model:
    model = config.model
    encoder = make_gru4rec(filled(GRU4RecSettings, model))

    def feed(train: Sessions, ways: Ways, send: Send) -> Fed:
        batches = SlotBatches(
            train,
            batch_size=config.train.batch_size,
            max_session_length=model.max_session_length,
            steps_per_call=config.train.steps_per_call,
        )
        return Fed(batches, functools.partial(repeat, fixed=ways.fixed))

    def evaluator(
        read_rows: ReadRows, num_items: int, spread: Spread | None = None
    ) -> Evaluator:
        return make_slot_evaluator(
            encoder,
            read_rows,
            num_items=num_items,
            max_session_length=min(model.max_session_length, PAPER_INPUTS),
            paper_slots=config.train.batch_size,
            spread=spread,
        )

    return Model(encoder, feed, evaluator, None)


MODELS = {"sasrec": _sasrec, "gru4rec": _gru4rec}
