"""Which inputs are encoded together, so that each prediction has its history.

A protocol predicts some labels of a session, each from the inputs before it. A layout
says which stretches of the split's items to encode for that, and under which index the
rank of each prediction is kept. Predictions of both protocols with the same history
share one rank.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tron_jax.data.sessions import Sessions
from tron_jax.data.slots import make_schedule
from tron_jax.evaluation.protocols import PAPER_BATCH_SIZE, PROTOCOLS
from tron_jax.evaluation.rank_file import Ranks


class Predictions(NamedTuple):
    """The labels that a protocol predicts, in a row in each session.

    Attributes:
      first: [sessions] index in the session of the first label that is predicted.
      count: [sessions] number of labels predicted.
      rank_index: [sessions] index of the first one's rank in the arrays of ranks.
    """

    first: np.ndarray
    count: np.ndarray
    rank_index: np.ndarray


class Sequences(NamedTuple):
    """The sequences that are encoded, and which of their inputs are scored.

    Attributes:
      start: [sequences] index of the first input in the flat array of items.
      count: [sequences] number of inputs, at least 1.
      scored: [sequences] number of inputs that are scored, the last ones.
      rank_index: [sequences] index, in the arrays of ranks, of the first one scored.
    """

    start: np.ndarray
    count: np.ndarray
    scored: np.ndarray
    rank_index: np.ndarray


class Layout(NamedTuple):
    """How a split is evaluated.

    Attributes:
      sequences: to encode.
      predictions: of each protocol.
      num_ranks: length of the arrays of ranks.
    """

    sequences: Sequences
    predictions: dict[str, Predictions]
    num_ranks: int


def lay_out_for_packing(
    offsets: np.ndarray,
    *,
    max_session_length: int,
    paper_batch_size: int = PAPER_BATCH_SIZE,
) -> Layout:
    """Lays out both protocols for an encoder of a limited number of inputs at once.

    The first ``max_session_length`` inputs of a session are one sequence, as they are;
    each later one gets a window, the inputs up to it, of which the last is scored.
    Sessions up to that length serve the ``paper`` protocol too; longer ones are laid
    out once more for it, cut to their end.

    Args:
      offsets: [sessions + 1] first event of each session, and the end of the last.
      max_session_length: the most inputs that the encoder takes.
      paper_batch_size: sessions a batch of the ``paper`` protocol, which leaves out
        the last, partial batch.

    Returns:
      The layout; in the arrays of ranks ``exact`` comes first, in order of session and
      event.
    """
    start, inputs, rank_index = _inputs(offsets)
    num_exact = int(inputs.sum())
    kept = np.minimum(inputs, max_session_length)
    beyond = inputs - kept
    paper_sessions = len(inputs) // paper_batch_size * paper_batch_size

    whole = np.flatnonzero(inputs)
    cut = np.flatnonzero(beyond[:paper_sessions])
    windowed = np.repeat(np.arange(len(inputs)), beyond)  # a session for each window
    nth = np.arange(len(windowed)) - np.repeat(np.cumsum(beyond) - beyond, beyond)
    of_cut, of_window = (np.full(len(x), max_session_length) for x in (cut, windowed))

    paper_index = rank_index[:paper_sessions].copy()
    paper_index[cut] = num_exact + np.arange(len(cut)) * max_session_length
    window_index = rank_index[windowed] + max_session_length + nth

    parts = [
        (start[whole], kept[whole], kept[whole], rank_index[whole]),
        (start[cut] + beyond[cut], of_cut, of_cut, paper_index[cut]),
        (start[windowed] + nth + 1, of_window, np.ones_like(of_window), window_index),
    ]
    return Layout(
        Sequences(*(np.concatenate(column) for column in zip(*parts, strict=True))),
        {
            "paper": Predictions(
                1 + beyond[:paper_sessions], kept[:paper_sessions], paper_index
            ),
            "exact": Predictions(np.ones_like(inputs), inputs, rank_index),
        },
        num_exact + len(cut) * max_session_length,
    )


def lay_out_for_slots(
    offsets: np.ndarray, *, max_session_length: int, paper_slots: int
) -> Layout:
    """Lays out both protocols for an encoder that carries a state from input to input.

    Whole sessions serve ``exact``, and ``paper`` too where they are short enough; the
    others are laid out once more, cut. ``paper`` ends at the step at which a slot first
    finds no session left: what the other slots still hold then is not predicted.

    Args:
      offsets: [sessions + 1] first event of each session, and the end of the last.
      max_session_length: inputs that ``paper`` keeps of a session, its last ones.
      paper_slots: slots of the ``paper`` protocol.

    Returns:
      The layout, its sequences from the longest on, so that slots come to their end at
      about the same time; in the arrays of ranks ``exact`` comes first, in order of
      session and event.
    """
    start, inputs, rank_index = _inputs(offsets)
    beyond = np.maximum(inputs - max_session_length, 0)
    whole = np.flatnonzero(inputs)

    count = np.zeros_like(inputs)
    count[whole] = inputs_while_all_slots_busy((inputs - beyond)[whole], paper_slots)

    cut = np.flatnonzero((beyond > 0) & (count > 0))
    paper_index = rank_index.copy()
    paper_index[cut] = inputs.sum() + np.cumsum(count[cut]) - count[cut]
    columns = [
        (start[whole], start[cut] + beyond[cut]),
        (inputs[whole], count[cut]),
        (rank_index[whole], paper_index[cut]),
    ]
    starts, counts, indices = (np.concatenate(column) for column in columns)
    longest = np.argsort(-counts, kind="stable")
    counts = counts[longest]
    return Layout(
        Sequences(starts[longest], counts, counts, indices[longest]),
        {
            "paper": Predictions(1 + beyond, count, paper_index),
            "exact": Predictions(np.ones_like(inputs), inputs, rank_index),
        },
        int(counts.sum()),
    )


def lay_out_next_for_packing(
    offsets: np.ndarray, *, max_session_length: int, every_event: bool
) -> Sequences:
    """Lays out what predicts the next click, for an encoder of limited inputs.

    After a session's last click the history is its last ``max_session_length`` clicks,
    that one being the last input. After each click before, it is that of ``exact``.

    Args:
      offsets: [sessions + 1] first event of each session, and the end of the last; no
        session is empty.
      max_session_length: the most inputs that the encoder takes.
      every_event: predict after each click; else after the last one alone.

    Returns:
      The sequences, whose ``rank_index`` numbers the predictions in the order of
      session and event.
    """
    ends = offsets[1:].astype(np.int64)
    lengths = np.diff(offsets.astype(np.int64))
    kept = np.minimum(lengths, max_session_length)
    ones = np.ones_like(kept)
    last = np.cumsum(lengths) - 1 if every_event else np.arange(len(kept))
    at_end = Sequences(ends - kept, kept, ones, last)
    if not every_event:
        return at_end
    before = lay_out_for_packing(
        offsets,
        max_session_length=max_session_length,
        paper_batch_size=len(lengths) + 1,  # no batch is whole, so none is laid out
    ).sequences
    # Each session has one prediction more than it has labels.
    sessions_before = np.searchsorted(ends, before.start, "right")
    before = before._replace(rank_index=before.rank_index + sessions_before)
    columns = zip(before, at_end, strict=True)
    return Sequences(*(np.concatenate(column) for column in columns))


def lay_out_next_for_slots(offsets: np.ndarray, *, every_event: bool) -> Sequences:
    """Lays out what predicts the next click, for an encoder that carries a state.

    Args:
      offsets: as for ``lay_out_next_for_packing``.
      every_event: likewise.

    Returns:
      Whole sessions, from the longest on.
    """
    start = offsets[:-1].astype(np.int64)
    counts = np.diff(offsets.astype(np.int64))
    first = np.cumsum(counts) - counts if every_event else np.arange(len(counts))
    scored = counts if every_event else np.ones_like(counts)
    longest = np.argsort(-counts, kind="stable")
    return Sequences(*(column[longest] for column in (start, counts, scored, first)))


def inputs_while_all_slots_busy(inputs: np.ndarray, num_slots: int) -> np.ndarray:
    """How many inputs of each session are processed before a slot runs out of sessions.

    Each slot works through one session at a time and then takes the next of the queue;
    counting stops at the step at which a slot first finds the queue empty.

    Args:
      inputs: [sessions] inputs of each session, at least 1.
      num_slots: how many sessions are processed side by side.

    Returns:
      [sessions] number of inputs, counted from the session's first.
    """
    schedule = make_schedule(inputs, num_slots)
    free_from = np.zeros(num_slots, np.int64)
    np.maximum.at(free_from, schedule.slot, schedule.first + inputs)
    return np.clip(free_from.min() - schedule.first, 0, inputs)


def consecutive(start: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Joins ranges: ``start[0], start[0] + 1, …`` (``count[0]`` of them), and so on.

    Args:
      start: [ranges] first number of each range.
      count: [ranges] length of each range.

    Returns:
      [sum of counts] the numbers of all ranges, one range after the other.
    """
    first = np.cumsum(count) - count
    return np.repeat(start - first, count) + np.arange(count.sum())


def ranks_by_protocol(
    layout: Layout, sessions: Sessions, higher: np.ndarray, equal: np.ndarray
) -> dict[str, Ranks]:
    """Gives each protocol the ranks of its predictions.

    Args:
      layout: of the split.
      sessions: the split.
      higher: [layout.num_ranks] int32 items that score higher than the label.
      equal: [layout.num_ranks] int32 items that score as high.

    Returns:
      The ranks of both protocols.
    """
    start = sessions.offsets[:-1].astype(np.int64)
    ranks = {}
    for protocol in PROTOCOLS:
        first, count, rank_index = layout.predictions[protocol]
        session = np.repeat(np.arange(len(count), dtype=np.int32), count)
        event = consecutive(first, count)
        index = consecutive(rank_index, count)
        ranks[protocol] = Ranks(
            session=session,
            event=event.astype(np.int32),
            label=sessions.items[start[session] + event],
            higher=higher[index],
            equal=equal[index],
        )
    return ranks


def _inputs(offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Start and inputs of each session, and where its ranks begin under ``exact``."""
    start = offsets[:-1].astype(np.int64)
    inputs = np.maximum(np.diff(offsets.astype(np.int64)) - 1, 0)
    return start, inputs, np.cumsum(inputs) - inputs
