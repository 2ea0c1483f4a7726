"""The interface of training batches, whatever their layout."""

from __future__ import annotations

from typing import Any, Protocol


class Dispatch(Protocol):
    """What the device is given at a time, a pytree: a batch, or several, or numbers.

    ``Batch`` is one step's; ``StackedBatches`` and ``ResidentGroup`` are of several
    steps and are ``ManySteps`` as well.
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """[N] inputs, or [T, N] for up to T steps; a program is compiled for each."""
        ...


class ManySteps(Dispatch, Protocol):
    """A dispatch of several steps, as a compiled program sees it."""

    @property
    def steps(self) -> Any:
        """Scalar int32, how many of the T steps are to be made."""
        ...

    def batch(self, i: Any) -> Any:
        """The batch of step ``i``; meaningless from ``steps`` on."""
        ...


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
        """Returns what the dispatch that begins at a step is given, and its length.

        Args:
          step: the first.
          until: where the dispatch must end at the latest, later than the first: that
            step is not part of it.

        Returns:
          The dispatch, and the number of its steps, at least 1.
        """
        ...
