"""When a run ends before its last step: once its score no longer rises."""

from __future__ import annotations

from typing import Any

Record = dict[str, Any]


class Patience:
    """Counts the evaluations in a row whose score was not above all before.

    The count is in each checkpoint, so that a run stops at the same step however often
    it was interrupted.
    """

    def __init__(self, stop_after: int = 0, info: Record | None = None):
        """Continues from a checkpoint.

        Args:
          stop_after: evaluations without a rise that end the run; 0 = none do.
          info: of the checkpoint; None or {} at the start of a run.
        """
        found = (info or {}).get("patience", {})
        self.stop_after = stop_after
        self.best: float | None = found.get("best")
        self.evaluations_since: int = found.get("evaluations_since", 0)

    @property
    def ended(self) -> bool:
        """Whether the run is over. Allowing it more evaluations makes it go on."""
        return 0 < self.stop_after <= self.evaluations_since

    def add(self, score: float | None) -> None:
        """Counts an evaluation; one without a score says nothing."""
        if score is None:
            return
        if self.best is None or score > self.best:
            self.best, self.evaluations_since = score, 0
        else:
            self.evaluations_since += 1

    def info(self) -> Record:
        """Returns what a checkpoint must hold of it, for a reader without JAX too."""
        return {
            "patience": {
                "best": self.best,
                "evaluations_since": self.evaluations_since,
                "stopped": self.ended,
            }
        }
