"""The interface of training batches, whatever their layout."""

from __future__ import annotations

from typing import Any, Protocol


class Batches(Protocol):
    """The batches of a run as pure functions of the step, counted over all epochs.

    A resumed run can therefore continue from any step without other state.
    """

    @property
    def steps_per_epoch(self) -> int:
        """Steps an epoch."""
        ...

    @property
    def shapes(self) -> list[Any]:
        """The shapes that ``dispatch_at`` may return, one of each."""
        ...

    def sessions_before(self, step: int) -> int:
        """Sessions that began in the steps before one, over all epochs."""
        ...

    def dispatch_at(self, step: int, until: int) -> tuple[Any, int]:
        """Returns the data of the dispatch that begins at a step, and its length.

        Args:
          step: the first.
          until: where the dispatch must end at the latest, later than the first: that
            step is not part of it.

        Returns:
          Fresh arrays, and the number of steps, at least 1.
        """
        ...
