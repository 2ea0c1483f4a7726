"""Settings of an objective."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Selection:
    """Which candidates of an event count (config group ``loss``, ``negatives``).

    Attributes:
      topk: how many, the hardest; 0 = all.
      topk_start: what ``topk`` is at step 0, to move to its value; 0 = constant. A step
        selects and scores the larger of the two all the time.
      topk_steps: steps until ``topk`` has its value.
      mask_hits: leave out candidates that equal the label.
    """

    topk: int = 0
    topk_start: int = 0
    topk_steps: int = 0
    mask_hits: bool = False

    @property
    def most(self) -> int:
        """How many a step selects, whatever their number is at its time; 0 = all."""
        return max(self.topk, self.topk_start)
