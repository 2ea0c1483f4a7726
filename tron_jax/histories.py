"""Histories of an evaluation: what is encoded so that each prediction gets its rank."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from tron_jax.data.sessions import Sessions
from tron_jax.ranks import PAPER_BATCH_SIZE, PROTOCOLS, Protocol, Ranks


class Predictions(NamedTuple):
    """Where a protocol's predictions stand; one row a session.

    Attributes:
      count: [sessions] number of the session's predictions, its last ones.
      place: [sessions] index in the arrays of ranks of the first of them.
    """

    count: np.ndarray
    place: np.ndarray


class Sequences(NamedTuple):
    """The sequences that are encoded, and which of their inputs are scored.

    Attributes:
      start: [sequences] index of the first input in the flat array of items.
      count: [sequences] number of inputs, 1..max_session_length.
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
            "paper": Predictions(kept[:paper_sessions], paper_place),
            "exact": Predictions(inputs, place),
        },
        total + len(cut) * max_session_length,
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
    lengths = np.diff(sessions.offsets.astype(np.int64))
    for number, protocol in enumerate(PROTOCOLS):
        count, place = layout.predictions[protocol]
        session = np.repeat(np.arange(len(count), dtype=np.int32), count)
        event = ramps(lengths[: len(count)] - count, count)
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
