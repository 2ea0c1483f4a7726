"""Ways to add up gradients by row of the item table, side by side."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.device.report import Report
from experiments.device.timed_calls import queued, summary


class Sizes(NamedTuple):
    """What is added up.

    Attributes:
      added: rows of gradients, one number after the other.
      rows: of the result.
      width: of a row.
      rounds: of the timing.
    """

    added: tuple[int, ...]
    rows: int
    width: int
    rounds: int


FULL = Sizes((20_000, 100_000, 400_000), 19_000, 200, 7)
TINY = Sizes((200, 1_000), 100, 16, 3)
EACH = 10  # calls queued together

Add = Callable[[jax.Array, jax.Array], jax.Array]  # (ids [n], values [n, d]) -> [R, d]


def by_scatter(rows: int, ids: jax.Array, values: jax.Array) -> jax.Array:
    """As ``touched.sum_rows`` does: atomic additions on a GPU, in any order."""
    zeros = jnp.zeros((rows, values.shape[1]), values.dtype)
    return zeros.at[ids].add(values)


def by_sorted_scatter(rows: int, ids: jax.Array, values: jax.Array) -> jax.Array:
    """The same of values that are put in the order of their rows before."""
    order = jnp.argsort(ids)
    zeros = jnp.zeros((rows, values.shape[1]), values.dtype)
    return zeros.at[ids[order]].add(values[order], indices_are_sorted=True)


def by_segments(rows: int, ids: jax.Array, values: jax.Array) -> jax.Array:
    """Sorts, then adds up segments."""
    order = jnp.argsort(ids)
    return jax.ops.segment_sum(
        values[order], ids[order], num_segments=rows, indices_are_sorted=True
    )


WAYS = {
    "scatter-add": by_scatter,
    "sort, scatter-add": by_sorted_scatter,
    "sort, segment_sum": by_segments,
}


def contended(count: int, rows: int) -> np.ndarray:
    """[count] int32 row numbers of which some are far more frequent, as hard negatives.

    Frequencies fall with the inverse of the rank (Zipf).
    """
    draw = np.random.default_rng(0)
    ranks = np.exp(draw.random(count) * np.log(rows + 1)).astype(np.int64) - 1
    return ((ranks * 2_654_435_761) % rows).astype(np.int32)


def measure(sizes: Sizes, report: Report) -> None:
    """Times each way, and says whether it gives the same bits twice."""
    for count in sizes.added:
        ids = jnp.asarray(contended(count, sizes.rows))
        values = jax.random.normal(jax.random.key(0), (count, sizes.width))
        for name, way in WAYS.items():
            with report.attempt(f"{name}, {count:,} rows", quiet=True):
                add = jax.jit(functools.partial(way, sizes.rows))
                first, second = (np.asarray(add(ids, values)) for _ in range(2))
                call = functools.partial(add, ids, values)
                times = queued(call, sizes.rounds, EACH)
                report.append(
                    "scatter",
                    {
                        "way": name,
                        "added": count,
                        "same_bits_twice": first.tobytes() == second.tobytes(),
                        "seconds": summary(times),
                    },
                )
