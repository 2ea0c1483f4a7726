"""What the devices of a mesh send each other, read off a compiled program."""

from __future__ import annotations

import math
import re
from collections import Counter

KINDS = (
    "all-reduce",
    "all-gather",
    "all-to-all",
    "reduce-scatter",
    "collective-permute",
)
# Of one that goes on beside others, what it gives is written at its end.
_CALL = re.compile(rf" = (.*?) ({'|'.join(KINDS)})(?:-done)?\(")
_ARRAY = re.compile(r"\b(pred|[a-z]+\d+)\[([\d,]*)\]")


def received(program: str) -> dict[str, int]:
    """Bytes that each device has of others when a program has run.

    A collective within a loop counts once, as one step of it.

    Args:
      program: text of a compiled program (``jax.stages.Compiled.as_text``).

    Returns:
      The bytes of what each kind of collective gives, those that occur.
    """
    found: dict[str, int] = {}
    for results, kind in _CALL.findall(program):
        found[kind] = found.get(kind, 0) + sum(map(_bytes, _ARRAY.findall(results)))
    return found


def calls(program: str) -> dict[str, int]:
    """How many collectives of each kind a program has; see ``received``."""
    return dict(Counter(kind for _, kind in _CALL.findall(program)))


def _bytes(array: tuple[str, str]) -> int:
    dtype, shape = array
    bits = 8 if dtype == "pred" else int(re.sub(r"\D", "", dtype))
    return bits // 8 * math.prod(map(int, filter(None, shape.split(","))))
