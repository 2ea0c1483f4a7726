"""Ways to select the highest scores of a row, side by side."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from experiments.device.report import Report, one_line
from experiments.device.timed_calls import queued, summary
from tron_jax.objectives.selection import in_groups, in_two_stages
from tron_jax.training.step_programs import compiled_together

Select = Callable[[jax.Array, int], Any]  # (scores [N, C], k) -> values, columns


class Sizes(NamedTuple):
    """What is selected of what.

    Attributes:
      events: N, one after the other.
      candidates: C; TRON XL's 16,384 uniform and 127 in-batch negatives.
      topk: k.
      rounds: of the timing.
    """

    events: tuple[int, ...]
    candidates: int
    topk: int
    rounds: int


FULL = Sizes((512, 1024, 2048, 4096), 16_511, 100, 7)
TINY = Sizes((16, 32), 600, 8, 3)
EACH = 10  # calls queued together
DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
CHECKED = 64  # rows whose values are compared with a sort


def by_bisection(scores: jax.Array, k: int) -> tuple[jax.Array, jax.Array]:
    """An experiment: finds the k-th highest bit by bit, then compacts what is above it.

    A float's bits, turned around where it is negative, are an integer of the same
    order. Each bit of the k-th highest follows from a count over the row; those above
    it, and the first of those equal to it, are then found by binary search among the
    running counts, and only these k are sorted.

    Args:
      scores: [N, C] float32 or bfloat16, without NaN.
      k: how many, at most C.

    Returns:
      [N, k] values, descending, and their columns.
    """
    width = 8 * scores.dtype.itemsize
    unsigned = {16: jnp.uint16, 32: jnp.uint32}[width]
    top = unsigned(1 << (width - 1))
    bits = lax.bitcast_convert_type(scores, unsigned)
    keys = jnp.where(bits >= top, ~bits, bits | top)

    def decide(i: jax.Array, threshold: jax.Array) -> jax.Array:
        bit = top >> i.astype(unsigned)
        tried = threshold | bit
        enough = jnp.sum(keys >= tried[:, None], axis=1, dtype=jnp.int32) >= k
        return jnp.where(enough, tried, threshold)

    start = jnp.zeros(len(scores), unsigned)
    threshold = lax.fori_loop(0, width, decide, start, unroll=True)[:, None]
    above, equal = keys > threshold, keys == threshold
    spare = k - jnp.sum(above, axis=1, keepdims=True, dtype=jnp.int32)
    kept = above | (equal & (jnp.cumsum(equal, axis=1, dtype=jnp.int32) <= spare))
    running = jnp.cumsum(kept, axis=1, dtype=jnp.int32)
    one = functools.partial(jnp.searchsorted, method="scan_unrolled")
    search = jax.vmap(one, (0, None))
    columns = search(running, jnp.arange(1, k + 1))
    values, order = lax.top_k(jnp.take_along_axis(scores, columns, axis=1), k)
    return values, jnp.take_along_axis(columns, order, axis=1)


def ways() -> dict[str, Select]:
    """All ways that this version of jax has, by name."""
    found: dict[str, Select] = {"lax.top_k": lax.top_k}
    if "is_stable" in inspect.signature(lax.top_k).parameters:
        found["lax.top_k, is_stable=False"] = functools.partial(
            lax.top_k,
            is_stable=False,  # pyrefly: ignore  (of jax 0.11.2 on)
        )
    found["in_groups (a GPU's)"] = in_groups
    found["in_two_stages (a CPU's)"] = in_two_stages
    found["bisection (experiment)"] = by_bisection
    return found


def measure(sizes: Sizes, report: Report) -> None:
    """Compiles all ways side by side; then checks the values of each and times it."""
    scores = {
        (name, n): jax.random.normal(jax.random.key(n), (n, sizes.candidates), dtype)
        for name, dtype in DTYPES.items()
        for n in sizes.events
    }
    cases = [(way, *shape) for way in ways() for shape in scores]

    def compiled(case: tuple[str, str, int]) -> Any:
        way, dtype, n = case
        select = jax.jit(ways()[way], static_argnums=1)
        try:
            return select.lower(scores[dtype, n], sizes.topk).compile()
        except Exception as error:
            return error

    with ThreadPoolExecutor(compiled_together()) as pool:
        programs = dict(zip(cases, pool.map(compiled, cases), strict=True))
    for (way, dtype, n), program in programs.items():
        row: dict[str, Any] = {"way": way, "dtype": dtype, "events": n}
        if isinstance(program, Exception):
            report.append("selection", row | {"error": one_line(program)})
            report.fail(f"{way}, {dtype}, {n}: {one_line(program)}")
            continue
        with report.attempt(f"{way}, {dtype}, {n} events", quiet=True):
            given = scores[dtype, n]
            figures = row | check(program, given, sizes.topk)
            times = queued(functools.partial(program, given), sizes.rounds, EACH)
            report.append("selection", figures | {"seconds": summary(times)})
            if not figures["right"]:
                report.fail(f"{way}, {dtype}, {n} events: other values than a sort")


def check(select: Callable[[jax.Array], Any], scores: jax.Array, k: int) -> Any:
    """Compares the first rows with a sort by NumPy.

    Args:
      select: a way.
      scores: [N, C].
      k: how many.

    Returns:
      right: whether the values are those of the sort, and the columns hold them;
      lowest_first: whether of equal ones the lowest columns were chosen.
    """
    values, columns = (np.asarray(x[:CHECKED]) for x in select(scores))
    rows = np.asarray(scores[:CHECKED])
    order = np.argsort(-rows.astype(np.float64), axis=1, kind="stable")[:, :k]
    expected = np.take_along_axis(rows, order, axis=1)
    held = np.take_along_axis(rows, columns, axis=1)
    right = np.array_equal(values, expected) and np.array_equal(held, expected)
    distinct = all(len(np.unique(row)) == k for row in columns)
    return {
        "right": right and distinct,
        "lowest_first": np.array_equal(columns, order),
    }
