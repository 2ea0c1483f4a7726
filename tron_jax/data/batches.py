"""What the training loop asks of batches, however they are made."""

from __future__ import annotations

from typing import Any, Protocol


class Batches(Protocol):
    """The steps of a run, as pure functions of the step, counted over all epochs.

    A resumed run asks on from any step and needs no other memory.
    """

    @property
    def steps_per_epoch(self) -> int:
        """Steps an epoch."""
        ...

    @property
    def shapes(self) -> list[Any]:
        """Every shape of what ``take`` may give, one of each."""
        ...

    def sessions_before(self, step: int) -> int:
        """Sessions that the steps before one have begun, over all epochs."""
        ...

    def take(self, step: int, until: int) -> tuple[Any, int]:
        """What one dispatch trains on from a step on, and how many steps it makes.

        Args:
          step: the first.
          until: the step, later than the first, before which to end: state and totals
            are wanted there.

        Returns:
          Fresh arrays, and the number of steps, at least 1.
        """
        ...
