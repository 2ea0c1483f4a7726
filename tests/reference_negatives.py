"""Slow, obvious loops: which candidates there may be, and which of them count."""

import numpy as np

from tron_jax.data.packing import Batch

# What a sampler is told where a test is not about it.
PLAIN = {
    "max_session_length": None,
    "num_popularity": 0,
    "uniform_style": "batchwise",
    "exclude": "none",
    "in_batch_from": "inputs",
    "mask_session": True,
    "deduplicate": False,
}


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


def group_of(style, batch, event):
    return {"eventwise": event, "sessionwise": batch.session[event], "batchwise": 0}[
        style
    ]


def left(style, exclude, batch, group, sessions, num_items):
    """Items that may be drawn for a group, in order."""
    session = {
        "eventwise": min(
            batch.session[min(group, len(batch.session) - 1)], sessions - 1
        ),
        "sessionwise": group,
        "batchwise": None,
    }[style]
    gone = {
        "none": set(),
        "session": set(batch.items[batch.session == session].tolist()),
        "batch": set(batch.items.tolist()),
    }[exclude]
    return [item for item in range(1, num_items + 1) if item not in gone]


def candidates_of(event, style, batch, candidates, in_batch_from):
    """Ids of an event's candidates, in order, and which count before anything else."""
    group = group_of(style, batch, event)
    keep = np.broadcast_to(candidates.drawn_keep, candidates.drawn.shape)
    ids, kept = list(candidates.drawn[group]), list(keep[group])
    pool = batch.items if in_batch_from == "inputs" else batch.labels
    session = batch.session[event]
    for place, counts in zip(
        candidates.in_batch[session], candidates.in_batch_keep[session], strict=True
    ):
        ids.append(pool[place])
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
