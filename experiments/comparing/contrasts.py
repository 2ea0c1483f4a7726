"""Which settings are compared with which."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

BASELINE, CHAIN, PAIRS = "baseline", "chain", "pairs"
Contrast = tuple[str, str]  # names of settings: what is compared with, what is compared


def of(how: str, names: Sequence[str], baseline: str) -> list[Contrast]:
    """Lists the contrasts.

    Args:
      how: ``BASELINE``: each with that one; ``CHAIN``: each with the one before it;
        ``PAIRS``: each with each before it.
      names: of the settings, in their order.
      baseline: one of them.
    """
    if how == CHAIN:
        return list(itertools.pairwise(names))
    if how == PAIRS:
        return list(itertools.combinations(names, 2))
    if baseline not in names:
        return []
    return [(baseline, name) for name in names if name != baseline]
