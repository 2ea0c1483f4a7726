"""What costs a CPU least and an accelerator more, or the other way around."""

from __future__ import annotations

from typing import NamedTuple

import jax


class Ways(NamedTuple):
    """Ways to compute the same of which a backend has its best.

    Where the ways have arrays of the same shapes, the code chooses by itself
    (``jax.lax.platform_dependent``), and nothing stands here.

    Attributes:
      by_matmul: see ``objectives.objective.make_objective``.
      fixed: see ``steps.repeat``.
    """

    by_matmul: bool
    fixed: bool


def best(platform: str | None = None) -> Ways:
    """Those of a platform; None = of the backend that computes."""
    accelerated = (platform or jax.default_backend()) != "cpu"
    return Ways(by_matmul=accelerated, fixed=accelerated)
