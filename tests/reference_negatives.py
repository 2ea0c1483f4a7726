"""Slow, obvious loops: which candidates there may be, and which of them count."""

import numpy as np

from tron_jax.data.packing import Batch
from tron_jax.sampling import sampler
from tron_jax.sampling.settings import NegativeSampling


def negatives(**fields):
    """Settings of the config's fields, num_uniform and so on."""
    named = {field.removeprefix("num_"): field for field in fields}
    counts = {name: fields.pop(f) for name, f in named.items() if name != f}
    return NegativeSampling(counts, **fields)


def make_sampler(*, num_items, num_sessions, seed, max_session_length=None, **fields):
    return sampler.make_sampler(
        negatives(**fields),
        num_items=num_items,
        num_sessions=num_sessions,
        max_session_length=max_session_length,
        seed=seed,
    )


def make_batch(
    seed, *, size=40, sessions=5, absent=1, items=30, longest=12, padding=None
):
    """A packed batch of random clicks; the last ``absent`` sessions have none."""
    rng = np.random.default_rng(seed)
    padding = 5 if padding is None else padding
    events = size - padding
    present = sessions - absent
    lengths = np.ones(present, np.int64)
    while lengths.sum() < events:
        lengths[rng.choice(np.flatnonzero(lengths < longest))] += 1
    session = np.append(np.repeat(np.arange(present), lengths), [sessions] * padding)
    real = session < sessions
    inputs, labels = (
        np.where(real, rng.integers(1, items + 1, size), 0).astype(np.int32)
        for _ in range(2)
    )
    position = np.zeros(size, np.int32)
    return Batch(
        inputs, labels, session.astype(np.int32), position, real.astype(np.float32)
    )


def group_of(drawn_per, batch, event):
    return {"event": event, "session": batch.session[event], "batch": 0}[drawn_per]


def left(drawn_per, exclude, batch, group, sessions, num_items):
    """Items that may be drawn for a group, in order."""
    session = {
        "event": min(batch.session[min(group, len(batch.session) - 1)], sessions - 1),
        "session": group,
        "batch": None,
    }[drawn_per]
    gone = {
        "none": set(),
        "session": set(batch.items[batch.session == session].tolist()),
        "batch": set(batch.items.tolist()),
    }[exclude]
    return [item for item in range(1, num_items + 1) if item not in gone]


def candidates_of(event, drawn_per, batch, candidates, in_batch_from):
    """Ids of an event's candidates, in order, and which count before anything else."""
    group = group_of(drawn_per, batch, event)
    keep = np.broadcast_to(candidates.drawn_keep, candidates.drawn.shape)
    ids, kept = list(candidates.drawn[group]), list(keep[group])
    pool = batch.items if in_batch_from == "inputs" else batch.labels
    session = batch.session[event]
    for position, counts in zip(
        candidates.in_batch[session], candidates.in_batch_keep[session], strict=True
    ):
        ids.append(pool[position])
        kept.append(counts)
    return [int(i) for i in ids], [bool(k) for k in kept]


def first_only(ids, keep):
    """Leaves only the first of equal ids that count."""
    seen, kept = set(), []
    for item, counts in zip(ids, keep, strict=True):
        kept.append(counts and item not in seen)
        if counts:
            seen.add(item)
    return kept
