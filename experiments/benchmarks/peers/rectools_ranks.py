"""What RecTools' SASRec finds for our predictions, ranked among all items.

The vectors are those that the library scores with: its own function makes them of the
sessions, and `compare_with_recommend` holds their best items against what its
`recommend` returns.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from rectools.models import SASRecModel

from experiments.benchmarks.peers.rectools_model import interactions
from tron_jax.data.sessions import Sessions
from tron_jax.evaluation.rank_file import Ranks

PART = 8192  # queries that the library is given at a time
BLOCK = 512  # queries whose scores of all items exist at a time


class Queries(NamedTuple):
    """The predictions of `exact`, in order of session and event.

    Attributes:
      items: [clicks] item ids of all queries, end to end.
      lengths: [queries] clicks of each, those before the label, at most the last few.
      session: [queries] index of its test session.
      event: [queries] index of its label in the session, from 1 on.
      label: [queries] item id.
    """

    items: np.ndarray
    lengths: np.ndarray
    session: np.ndarray
    event: np.ndarray
    label: np.ndarray


class Vectors(NamedTuple):
    """What the library scores by: the product of a query's and an item's.

    Attributes:
      queries: [queries, hidden].
      known: [queries] whether the model knows any item of it; of others it makes none.
      items: [known items, hidden].
      ids: [known items] their item ids.
    """

    queries: torch.Tensor
    known: np.ndarray
    items: torch.Tensor
    ids: np.ndarray


def make_queries(test: Sessions, length: int) -> Queries:
    """Every click but a session's first is predicted from those before it.

    Args:
      test: the sessions.
      length: the most clicks of a query, the last ones.
    """
    inputs = test.lengths - 1
    session = np.repeat(np.arange(len(inputs)), inputs)
    event = 1 + np.arange(len(session)) - np.repeat(np.cumsum(inputs) - inputs, inputs)
    position = test.offsets[session] + event
    lengths = np.minimum(event, length)
    first = np.repeat(position - lengths, lengths)
    nth = np.arange(len(first)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    return Queries(
        test.items[first + nth], lengths, session, event, test.items[position]
    )


def some(queries: Queries, number: int) -> Queries:
    """Queries spread evenly over all."""
    count = len(queries.lengths)
    kept = np.zeros(count, bool)
    kept[np.linspace(0, count - 1, min(number, count)).astype(int)] = True
    return _those(queries, kept)


def parts(queries: Queries) -> Iterator[Queries]:
    """All queries, some after the other.

    On a CPU the library holds all positions of all sessions that it is given until the
    last is encoded.
    """
    number = np.arange(len(queries.lengths))
    for start in range(0, len(number), PART):
        yield _those(queries, (number >= start) & (number < start + PART))


def _those(queries: Queries, kept: np.ndarray) -> Queries:
    items = queries.items[np.repeat(kept, queries.lengths)]
    return Queries(items, *(column[kept] for column in queries[1:]))


def vectors(model: SASRecModel, queries: Queries) -> Vectors:
    """The vectors by which a trained model scores, as its `recommend` makes them."""
    count, start = len(queries.lengths), 0
    found, known = torch.zeros(count, model.n_factors), np.zeros(count, bool)
    preparator = model.data_preparator
    for part in parts(queries):
        users = np.arange(len(part.lengths))
        asked = interactions(part.items, part.lengths)
        dataset = preparator.transform_dataset_u2i(asked, users)
        loader = preparator.get_dataloader_recommend(
            dataset, model.recommend_batch_size
        )
        make = model.lightning_model._get_user_item_embeddings
        of_users, of_items = make(loader, "cpu")
        # Those of the loader are in the order of its own ids.
        number = dataset.user_id_map.get_external_sorted_by_internal().astype(np.int64)
        found[torch.from_numpy(start + number)] = of_users
        known[start + number] = True
        start += len(users)
    rows = torch.from_numpy(preparator.get_known_items_sorted_internal_ids())
    ids = preparator.get_known_item_ids().astype(np.int64)
    return Vectors(found, known, of_items[rows].detach(), ids)


def rank(of: Vectors, labels: np.ndarray, num_items: int) -> tuple[np.ndarray, ...]:
    """Counts the items that score higher than each label, and as high, in float32.

    An item that the model does not know scores lower than all that it does, and to a
    query of no known item all items are equal. A NaN counts as higher than any label.

    Args:
      of: the vectors.
      labels: [queries] item ids.
      num_items: of the catalogue.

    Returns:
      ``higher`` and ``equal``, [queries] int32, over all items but the label itself.
    """
    row_of = np.full(num_items + 1, -1)
    row_of[of.ids] = np.arange(len(of.ids))
    rows = torch.from_numpy(row_of[labels])
    higher = torch.empty(len(labels), dtype=torch.int64)
    equal = torch.empty_like(higher)
    with torch.no_grad():
        for start in range(0, len(labels), BLOCK):
            block = slice(start, start + BLOCK)
            scores = of.queries[block] @ of.items.T
            score = scores.gather(1, rows[block].clamp(min=0)[:, None])
            no_higher = (scores <= score).sum(1)
            higher[block] = len(of.ids) - no_higher
            higher[block][score[:, 0].isnan()] = num_items - 1
            equal[block] = ((scores == score).sum(1) - 1).clamp(min=0)
    unknown = rows < 0
    higher[unknown] = len(of.ids)
    equal[unknown] = num_items - len(of.ids) - 1
    cold = torch.from_numpy(~of.known)
    higher[cold], equal[cold] = 0, num_items - 1
    return higher.numpy().astype(np.int32), equal.numpy().astype(np.int32)


def evaluate(
    model: SASRecModel, queries: Queries, num_items: int
) -> tuple[Ranks, dict[str, Any]]:
    """Ranks all queries; the model and what will be drawn are left as they were.

    Returns:
      The ranks; and figures: seconds of it (``eval_s``, of these ``encode_s`` until the
      vectors are there), items and queries that the model does not know.
    """
    training = model.lightning_model.training
    start = time.perf_counter()
    with torch.random.fork_rng(devices=[]):  # a loader draws, as training goes on to
        found = vectors(model, queries)
    encoded = time.perf_counter()
    higher, equal = rank(found, queries.label, num_items)
    ended = time.perf_counter()
    model.lightning_model.train(training)
    columns = (queries.session, queries.event, queries.label)
    ranks = Ranks(*(x.astype(np.int32) for x in columns), higher, equal)
    return ranks, {
        "eval_s": ended - start,
        "encode_s": encoded - start,
        "unknown_items": num_items - len(found.ids),
        "unknown_queries": int((~found.known).sum()),
    }


def compare_with_recommend(
    model: SASRecModel, queries: Queries, num: int, num_items: int, k: int = 20
) -> dict[str, Any]:
    """Holds our best items and ranks against what the library recommends.

    Args:
      model: trained.
      queries: all.
      num: how many of them to compare.
      num_items: of the catalogue.
      k: items of each list.

    Returns:
      queries; same_lists, the share whose items are the same in the same order;
      same_items, the share of items that are in both lists; same_ranks, the share whose
      label has the same place in both, or is in neither; most_apart, the largest
      difference of two scores at the same place; and seconds that ``recommend`` took.
    """
    asked = some(queries, num)
    users = np.arange(len(asked.lengths))
    start = time.perf_counter()
    theirs = model.recommend(
        users,
        interactions(asked.items, asked.lengths),
        k=k,
        filter_viewed=False,  # an item seen may be the next click
        on_unsupported_targets="ignore",
    )
    seconds = time.perf_counter() - start
    found = vectors(model, asked)
    higher, equal = rank(found, asked.label, num_items)
    users, labels = users[found.known], asked.label[found.known]
    place = np.minimum(higher + equal, k)[found.known]
    best = torch.topk(found.queries[found.known] @ found.items.T, k)
    items = found.ids[best.indices.numpy()]
    theirs = theirs.sort_values(["user_id", "rank"])
    shape = (len(users), k)
    their_items = theirs["item_id"].to_numpy(np.int64).reshape(shape)
    their_scores = theirs["score"].to_numpy(np.float32).reshape(shape)
    pairs = zip(items, their_items, strict=True)
    is_label = their_items == labels[:, None]
    their_place = np.where(is_label.any(1), is_label.argmax(1), k)
    return {
        "queries": len(users),
        "same_lists": float((items == their_items).all(1).mean()),
        "same_items": float(np.mean([np.isin(a, b).mean() for a, b in pairs])),
        "same_ranks": float((place == their_place).mean()),
        "most_apart": float(np.abs(best.values.numpy() - their_scores).max()),
        "recommend_s": seconds,
    }
