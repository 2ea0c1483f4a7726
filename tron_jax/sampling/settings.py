"""Settings of negative sampling."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True)
class NegativeSampling:
    """Which negatives an event is compared with (config group ``negatives``).

    Attributes:
      counts: how many of each source, by its name in ``sources.SOURCES``; a source that
        is not named has none. In-batch negatives are counted per session, all others
        per event, session or batch, as ``drawn_per`` says.
      drawn_per: one of ``sampler.DRAWN_PER``: who shares the drawn negatives.
      exclude: one of ``exclusion.EXCLUDES``: whose inputs are never drawn.
      in_batch_from: one of ``in_batch.IN_BATCH_FROM``: whether in-batch negatives are
        the inputs or the labels of other events.
      mask_session: leave out in-batch negatives of the session itself.
      deduplicate: let only the first of equal candidates of an event count.
      popularity_exponent: the source ``popularity`` draws in proportion to clicks to
        this power.
    """

    counts: Mapping[str, int]
    drawn_per: str = "batch"
    exclude: str = "none"
    in_batch_from: str = "inputs"
    mask_session: bool = True
    deduplicate: bool = False
    popularity_exponent: float = 0.5

    def count(self, source: str) -> int:
        """How many negatives an event has of a source."""
        return self.counts.get(source, 0)

    @property
    def num_candidates(self) -> int:
        """How many negatives an event has in all, before any selection."""
        return sum(self.counts.values())
