"""A model that answers in the user's own ids."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import pyarrow as pa

from experiments.serving.lookup import Lookup
from experiments.serving.schemas import Asked
from tron_jax.serving.engine import Engine, Found, Query


class Refused(Exception):
    """A field of a request asks for what this model cannot do."""

    def __init__(self, where: Sequence[str | int], why: str):
        """Knows the field by its path, and what was expected."""
        super().__init__(why)
        self.where, self.why = where, why


class Service(NamedTuple):
    """A model as it serves; another one takes its place whole.

    Attributes:
      engine: finds items by the model's numbers.
      allowed: [items + 1] bool, which may be recommended.
      mask: the same, as the engine takes it.
      raw_ids: [items] the user's ids of the items, in order.
      lookup: from ids to numbers.
      popular: [allowed items] int32, the most clicked of training first.
      about: what export.json says.
      card: the model card.
    """

    engine: Engine
    allowed: np.ndarray
    mask: jax.Array
    raw_ids: pa.Array
    lookup: Lookup
    popular: np.ndarray
    about: dict[str, Any]
    card: str

    @property
    def has_text_ids(self) -> bool:
        """Whether ids are text, and not numbers."""
        return pa.types.is_string(self.raw_ids.type)


class Prepared(NamedTuple):
    """A request in the model's numbers.

    Attributes:
      service: that is to answer it.
      query: for the engine; its items are empty where the model knows none.
      unknown: clicks that it does not know.
      where: path of the request in what was sent.
    """

    service: Service
    query: Query
    unknown: int
    where: tuple[str | int, ...]


def prepare(service: Service, asked: Asked, where: tuple[str | int, ...]) -> Prepared:
    """Brings a request to the model's numbers.

    Raises:
      Refused: if it asks for what the model cannot do.
    """
    most = service.engine.k
    if asked.k > most and "k" in asked.model_fields_set:
        raise Refused((*where, "k"), f"expected 1 to {most}")
    items = _numbers(service, asked.items, (*where, "items"))
    known = items[items > 0]
    excluded = _numbers(service, asked.exclude, (*where, "exclude"))
    only = None
    if asked.only is not None:
        only = np.unique(_numbers(service, asked.only, (*where, "only")))
        only = only[service.allowed[only]]
        if not len(only):
            raise Refused((*where, "only"), "none of these items may be recommended")
    query = Query(known, min(asked.k, most), np.unique(excluded[excluded > 0]), only)
    return Prepared(service, query, len(items) - len(known), where)


def _numbers(
    service: Service, ids: list[Any], where: tuple[str | int, ...]
) -> np.ndarray:
    expected: type = str if service.has_text_ids else int
    for place, raw in enumerate(ids):
        if type(raw) is not expected:
            kind = "text" if service.has_text_ids else "whole numbers"
            example = service.raw_ids[0].as_py()
            why = f"the model's ids are {kind}, such as {example!r}"
            raise Refused((*where, place), why)
    return service.lookup(ids)


def find(prepared: Sequence[Prepared]) -> list[Found]:
    """Finds the best items of requests, which may be of two services in turn."""
    answers: list[Found] = []
    while len(answers) < len(prepared):
        rest = prepared[len(answers) :]
        service = rest[0].service
        count = next(
            (n for n, one in enumerate(rest) if one.service is not service), len(rest)
        )
        queries = [one.query for one in rest[:count]]
        answers += service.engine(queries, service.mask)
    return answers


def answer(prepared: Prepared, found: Found | None) -> dict[str, Any]:
    """The answer to a request, as ``schemas.Listed``.

    Args:
      prepared: the request.
      found: by the engine; None = the most popular items are to stand in.

    Raises:
      Refused: if no item is left to recommend.
      FloatingPointError: if scores are no numbers.
    """
    service = prepared.service
    if found is not None and not np.isfinite(found.scores).all():
        raise FloatingPointError("the model's scores are no finite numbers")
    items = _most_popular(prepared) if found is None else found.items
    if not len(items):
        raise Refused((*prepared.where, "exclude"), "no item is left to recommend")
    raw = service.raw_ids.take(pa.array(items - 1)).to_pylist()
    scores = [None] * len(raw) if found is None else found.scores.tolist()
    return {
        "items": [
            {"item": item, "score": score}
            for item, score in zip(raw, scores, strict=True)
        ],
        "unknown": prepared.unknown,
        "popular": found is None,
        "step": service.about["step"],
    }


def _most_popular(prepared: Prepared) -> np.ndarray:
    service, query = prepared.service, prepared.query
    first = service.popular
    if query.only is not None:
        first = first[np.isin(first, query.only)]
    else:
        first = first[: query.k + len(query.excluded)]
    return first[~np.isin(first, query.excluded)][: query.k]
