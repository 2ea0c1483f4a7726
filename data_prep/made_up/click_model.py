"""Made-up clicks with the regularities that a session-based recommender lives on.

Items have a rank of popularity, share 1 / (rank + 20). Those of equal rank modulo the
number of clusters (about 40 items each) go together, and every item has six neighbours
in its cluster, drawn by popularity. A session's first click follows popularity; each
later one is

- with probability .15 an item of the session, each of its clicks as likely,
- with .50 a neighbour of the click before, by weights falling from .40 to .04,
- with .15 an item of the same cluster, by popularity,
- else any item, by popularity.

What can be reached at 2,000 items and 20,000 sessions of Diginetica's lengths, over the
test sessions (Recall@20 / MRR@20): .757 / .371 by ranking with the very probabilities
above, .684 / .334 by counting in train what follows what, .083 / .016 by popularity.
"""

from typing import NamedTuple

import numpy as np

REPEAT, NEIGHBOUR, CLUSTER = 0.15, 0.50, 0.15  # the rest follows popularity
NEIGHBOUR_WEIGHTS = (0.40, 0.25, 0.15, 0.10, 0.06, 0.04)

_CLUSTER_SIZE = 40
_HEAD, _CLUSTER_HEAD = 20.0, 5.0  # the larger, the less the first ranks stand out


class ClickModel(NamedTuple):
    """What is likely to follow what.

    ids: [num_items] int32 item of each rank, a permutation of 1..num_items;
    neighbours: [num_items, 6] int32 ranks; num_clusters: rank modulo this is the
    cluster.
    """

    ids: np.ndarray
    neighbours: np.ndarray
    num_clusters: int


def make_click_model(num_items: int, key: np.random.Generator) -> ClickModel:
    """Draws which items are popular and which are neighbours."""
    num_clusters = max(1, num_items // _CLUSTER_SIZE)
    ids = key.permutation(np.arange(1, num_items + 1, dtype=np.int32))
    ranks = np.arange(num_items)
    kinds = len(NEIGHBOUR_WEIGHTS)
    # One neighbour from each sixth of the cluster's popularity keeps them distinct.
    parts = key.permuted(
        np.tile(np.arange(kinds, dtype=np.int8), (num_items, 1)), axis=1
    )
    neighbours = np.empty((num_items, kinds), np.int32)
    for k in range(kinds):
        u = (parts[:, k] + key.random(num_items)) / kinds
        neighbours[:, k] = _in_cluster(ranks, u, num_items, num_clusters)
    return ClickModel(ids, neighbours, num_clusters)


def draw_clicks(
    model: ClickModel, lengths: np.ndarray, key: np.random.Generator
) -> np.ndarray:
    """Draws sessions of so many clicks, all of them one click further at a time.

    Returns:
      [events] int32 items, the sessions laid end to end.
    """
    num_items = len(model.ids)
    # The longest sessions first: those still going are a prefix.
    order = np.argsort(-lengths, kind="stable")
    starts = (np.cumsum(lengths) - lengths)[order]
    steps = np.arange(lengths.max())
    going = len(lengths) - np.searchsorted(np.sort(lengths), steps, side="right")
    clicks = np.empty(int(lengths.sum()), np.int32)
    clicks[starts] = last = _popular(key.random(len(lengths)), num_items)
    for step in range(1, len(going)):
        here = starts[: going[step]]
        last = _next(model, clicks, here, step, last[: going[step]], key)
        clicks[here + step] = last
    return model.ids[clicks]


def _next(
    model: ClickModel,
    clicks: np.ndarray,
    starts: np.ndarray,
    step: int,
    last: np.ndarray,
    key: np.random.Generator,
) -> np.ndarray:
    """Draws the ranks of click number ``step`` of sessions that begin at ``starts``."""
    kind, which = key.random((2, len(starts)))
    again = clicks[starts + (which * step).astype(np.int64)]
    weights = np.cumsum(NEIGHBOUR_WEIGHTS[:-1])
    neighbour = model.neighbours[last, np.searchsorted(weights, which, side="right")]
    alike = _in_cluster(last, which, len(model.ids), model.num_clusters)
    bounds = np.cumsum((REPEAT, NEIGHBOUR, CLUSTER))
    return np.select(
        [kind < bound for bound in bounds],
        [again, neighbour, alike],
        _popular(which, len(model.ids)),
    )


def _popular(u: np.ndarray, size: int | np.ndarray, head: float = _HEAD) -> np.ndarray:
    """Turns uniform numbers into ranks below ``size``, share 1 / (rank + head)."""
    # The inverse of the cumulative share, in float64: a table summed up in float32
    # could not reach half of a large catalogue.
    ranks = head * ((size + head) / head) ** u - head
    return np.minimum(ranks.astype(np.int32), np.asarray(size - 1, np.int32))


def _in_cluster(
    ranks: np.ndarray, u: np.ndarray, num_items: int, num_clusters: int
) -> np.ndarray:
    """Turns uniform numbers into ranks of the clusters that ``ranks`` belong to."""
    cluster = ranks % num_clusters
    size = (num_items - 1 - cluster) // num_clusters + 1
    rank_in_cluster = _popular(u, size, _CLUSTER_HEAD)
    return (cluster + num_clusters * rank_in_cluster).astype(np.int32)
