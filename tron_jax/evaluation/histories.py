"""Histories of an evaluation: what is encoded so that each prediction gets its rank."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from tron_jax.data.sessions import Sessions
from tron_jax.data.slots import make_schedule
from tron_jax.evaluation.protocols import PAPER_BATCH_SIZE, PROTOCOLS, Protocol, Ranks


class Predictions(NamedTuple):
    """Where a protocol's predictions stand; one row a session.

    Attributes:
      first: [sessions] index in the session of the first label that is predicted.
      count: [sessions] number of predictions, of labels in a row.
      place: [sessions] index in the arrays of ranks of the first of them.
    """

    first: np.ndarray
    count: np.ndarray
    place: np.ndarray


class Sequences(NamedTuple):
    """The sequences that are encoded, and which of their inputs are scored.

    Attributes:
      start: [sequences] index of the first input in the flat array of items.
      count: [sequences] number of inputs, at least 1.
      scored: [sequences] number of inputs that are scored, the last ones.
      place: [sequences] index in the arrays of ranks of the first one scored.
    """

    start: np.ndarray
    count: np.ndarray
    scored: np.ndarray
    place: np.ndarray


class Layout(NamedTuple):
    """How a split is evaluated.

    Attributes:
      sequences: to encode.
      predictions: of each protocol.
      size: length of the arrays of ranks.
    """

    sequences: Sequences
    predictions: dict[Protocol, Predictions]
    size: int


def lay_out(
    offsets: np.ndarray,
    *,
    max_session_length: int,
    paper_batch_size: int = PAPER_BATCH_SIZE,
) -> Layout:
    """Plans which inputs are encoded together so that both protocols get their ranks.

    The first ``max_session_length`` inputs of a session are one sequence, as they are;
    every later one gets a window, the inputs up to it, of which the last is scored.
    What is no longer than that serves the ``paper`` protocol too; the longer sessions
    are laid out once more for it, cut to their end.

    Args:
      offsets: [sessions + 1] first event of each session, and the end of the last.
      max_session_length: the most inputs that the encoder takes.
      paper_batch_size: sessions a batch of the ``paper`` protocol, which leaves out
        the last, partial batch.

    Returns:
      The layout; in the arrays of ranks ``exact`` comes first, in order of session and
      event.
    """
    start = offsets[:-1].astype(np.int64)
    inputs = np.maximum(np.diff(offsets.astype(np.int64)) - 1, 0)
    place = np.cumsum(inputs) - inputs
    total = int(inputs.sum())
    kept = np.minimum(inputs, max_session_length)
    beyond = inputs - kept
    paper_sessions = len(inputs) // paper_batch_size * paper_batch_size

    whole = np.flatnonzero(inputs)
    owner = np.repeat(np.arange(len(inputs)), beyond)
    nth = np.arange(len(owner)) - np.repeat(np.cumsum(beyond) - beyond, beyond)
    cut = np.flatnonzero(beyond[:paper_sessions])
    window, full = (np.full(len(rows), max_session_length) for rows in (owner, cut))
    paper_place = place[:paper_sessions].copy()
    paper_place[cut] = total + np.arange(len(cut)) * max_session_length

    window_place = place[owner] + max_session_length + nth

    parts = [
        (start[whole], kept[whole], kept[whole], place[whole]),
        (start[cut] + beyond[cut], full, full, paper_place[cut]),
        (start[owner] + nth + 1, window, np.ones_like(window), window_place),
    ]
    return Layout(
        Sequences(*(np.concatenate(column) for column in zip(*parts, strict=True))),
        {
            "paper": Predictions(
                1 + beyond[:paper_sessions], kept[:paper_sessions], paper_place
            ),
            "exact": Predictions(np.ones_like(inputs), inputs, place),
        },
        total + len(cut) * max_session_length,
    )


def with_all_slots_busy(inputs: np.ndarray, num_slots: int) -> np.ndarray:
    """Inputs that slots take before one of them first finds no session left.

    Args:
      inputs: [sessions] inputs of each session, at least 1.
      num_slots: how many sessions are under way at a time.

    Returns:
      [sessions] how many of each session's inputs, its first ones.
    """
    schedule = make_schedule(inputs, num_slots)
    free_from = np.zeros(num_slots, np.int64)
    np.maximum.at(free_from, schedule.slot, schedule.first + inputs)
    return np.clip(free_from.min() - schedule.first, 0, inputs)


def lay_out_for_slots(
    offsets: np.ndarray, *, max_session_length: int, paper_slots: int
) -> Layout:
    """The same for an encoder that carries a state from input to input.

    Whole sessions serve ``exact``, and ``paper`` where that does not cut them; the
    others are laid out once more, cut. ``paper`` ends at the step at which a slot first
    finds no session left: what the others still have to come is not predicted.

    Args:
      offsets: [sessions + 1] first event of each session, and the end of the last.
      max_session_length: inputs that ``paper`` keeps of a session, its last ones.
      paper_slots: slots of the ``paper`` protocol.

    Returns:
      The layout, its sequences from the longest on, so that many slots come to their
      end together; in the arrays of ranks ``exact`` comes first, in order of session
      and event.
    """
    start = offsets[:-1].astype(np.int64)
    inputs = np.maximum(np.diff(offsets.astype(np.int64)) - 1, 0)
    place = np.cumsum(inputs) - inputs
    beyond = np.maximum(inputs - max_session_length, 0)
    whole = np.flatnonzero(inputs)

    count = np.zeros_like(inputs)
    count[whole] = with_all_slots_busy((inputs - beyond)[whole], paper_slots)

    cut = np.flatnonzero((beyond > 0) & (count > 0))
    paper_place = place.copy()
    paper_place[cut] = inputs.sum() + np.cumsum(count[cut]) - count[cut]
    columns = [
        (start[whole], start[cut] + beyond[cut]),
        (inputs[whole], count[cut]),
        (place[whole], paper_place[cut]),
    ]
    starts, counts, places = (np.concatenate(column) for column in columns)
    longest = np.argsort(-counts, kind="stable")
    counts = counts[longest]
    return Layout(
        Sequences(starts[longest], counts, counts, places[longest]),
        {
            "paper": Predictions(1 + beyond, count, paper_place),
            "exact": Predictions(np.ones_like(inputs), inputs, place),
        },
        int(counts.sum()),
    )


def chunks(
    sequences: Sequences, stream_size: int, chunk_size: int
) -> Iterator[list[Sequences]]:
    """Deals sequences, in order, into streams, and those into chunks.

    Args:
      sequences: to encode.
      stream_size: the most inputs of a stream, at least those of any sequence.
      chunk_size: the most events of a chunk, padding of its last stream included.

    Yields:
      The streams of each chunk, as slices of the sequences.
    """
    ends = np.cumsum(sequences.count)
    chunk, used, first, before = [], 0, 0, 0
    while first < len(ends):
        last = int(np.searchsorted(ends, before + stream_size, "right"))
        stream = Sequences(*(column[first:last] for column in sequences))
        if used + stream_size > chunk_size:
            yield chunk
            chunk, used = [], 0
        chunk.append(stream)
        used += int(stream.scored.sum())
        first, before = last, int(ends[last - 1])
    if chunk:
        yield chunk


def ramps(start: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Counts up from each start: start[0], start[0] + 1, … (count[0] of them), …."""
    first = np.cumsum(count) - count
    return np.repeat(start - first, count) + np.arange(count.sum())


def assemble(
    layout: Layout, sessions: Sessions, higher: np.ndarray, equal: np.ndarray
) -> Ranks:
    """Deals the counts out to the protocols.

    Args:
      layout: of the split.
      sessions: the split.
      higher: [layout.size] int32.
      equal: [layout.size] int32.

    Returns:
      The ranks of both protocols.
    """
    parts = []
    start = sessions.offsets[:-1].astype(np.int64)
    for number, protocol in enumerate(PROTOCOLS):
        first, count, place = layout.predictions[protocol]
        session = np.repeat(np.arange(len(count), dtype=np.int32), count)
        event = ramps(first, count)
        where = ramps(place, count)
        parts.append(
            Ranks(
                protocol=np.full(len(session), number, np.int8),
                session=session,
                event=event.astype(np.int32),
                label=sessions.items[start[session] + event],
                higher=higher[where],
                equal=equal[where],
            )
        )
    return Ranks(*(np.concatenate(column) for column in zip(*parts, strict=True)))
