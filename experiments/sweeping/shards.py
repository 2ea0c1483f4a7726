"""Which of a sweep's runs this process makes, where several share them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeVar

from tron_jax.errors import UserError

T = TypeVar("T")


class Shard(NamedTuple):
    """Part ``index`` of ``count``, from 1 on."""

    index: int
    count: int

    def of(self, runs: Sequence[T]) -> list[T]:
        """Its runs: every ``count``-th, so that the parts differ by one at most."""
        return list(runs[self.index - 1 :: self.count])


WHOLE = Shard(1, 1)


def parse_shard(text: str) -> Shard:
    """Reads ``I/N``.

    Raises:
      UserError: where it is no such thing.
    """
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    shard = Shard(*map(int, match.groups())) if match else Shard(0, 0)
    if not 1 <= shard.index <= shard.count:
        raise UserError(f"--shard={text}: expected I/N with I from 1 to N, as in 1/4")
    return shard


def of_slurm(variables: Mapping[str, str]) -> Shard:
    """The part that a task of a Slurm job array makes; all outside of one.

    Raises:
      UserError: where the array's numbers have gaps, so that parts would be missing.
    """
    prefix = "SLURM_ARRAY_TASK_"
    if f"{prefix}ID" not in variables:
        return WHOLE
    try:
        number, first, last, count = (
            int(variables[prefix + name]) for name in ("ID", "MIN", "MAX", "COUNT")
        )
    except (KeyError, ValueError) as error:
        raise UserError(
            f"{prefix}… of this Slurm job cannot be read; expected --shard=I/N"
        ) from error
    if last - first + 1 != count:
        raise UserError(
            f"this Slurm array has {count} tasks from {first} to {last}; expected one "
            "without gaps, or --shard=I/N"
        )
    return Shard(number - first + 1, count)
