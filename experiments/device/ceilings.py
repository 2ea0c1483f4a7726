"""What the device can do at most: copies, matmuls, and the least that a launch costs.

Inputs are random, since a device may be faster (or draw less power) on zeros.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from experiments.device import probe
from experiments.device.report import Report, Setting
from experiments.device.tables import number, table
from experiments.device.timed_calls import queued, summary
from tron_jax import memory


class Sizes(NamedTuple):
    """How much is measured.

    Attributes:
      copied: bytes of the array that is copied.
      side: of the square matrices.
      rounds: repeats of each.
      iterations: of the loops.
    """

    copied: int
    side: int
    rounds: int
    iterations: int


FULL = Sizes(copied=2**30, side=8192, rounds=7, iterations=1000)
TINY = Sizes(copied=2**20, side=128, rounds=3, iterations=50)
EACH = 5  # calls queued together
MATMULS: dict[str, tuple[Any, Any]] = {
    # as for the ranks of an evaluation; as for training; as for compute_dtype=bfloat16
    "float32_highest": (jnp.float32, lax.Precision.HIGHEST),
    "float32_default": (jnp.float32, lax.Precision.DEFAULT),
    "bfloat16": (jnp.bfloat16, lax.Precision.DEFAULT),
}
WORDS = {
    "float32_highest": "matmul, float32 at HIGHEST",
    "float32_default": "matmul, float32 at default precision (TF32 on NVIDIA)",
    "bfloat16": "matmul, bfloat16 with float32 result",
}


def run(setting: Setting, report: Report) -> None:
    sizes = TINY if setting.rehearse else FULL
    with report.attempt("device and versions"):
        probe.run(setting, report)
    with report.attempt("copy"):
        report.add(bytes_per_s=copy_rates(sizes))
    for name in MATMULS:
        with report.attempt(WORDS[name]):
            rates = report.figures.get("flop_per_s", {})
            report.add(flop_per_s=rates | {name: matmul_rate(name, sizes)})
    with report.attempt("launches"):
        report.add(launches=launches(sizes))


def copy_rates(sizes: Sizes) -> dict[str, float]:
    """Bytes read and written a second, by a copy and by a kernel of ours."""
    free = memory.free_memory()
    size = sizes.copied if free is None else min(sizes.copied, free // (4 * EACH))
    x = jax.random.normal(jax.random.key(0), (size // 4,))
    calls: dict[str, Callable[[jax.Array], jax.Array]] = {
        "copy": jnp.copy,
        "negate": lambda x: -x,
    }
    rates = {"array_bytes": float(x.nbytes)}
    for name, function in calls.items():
        times = queued(functools.partial(jax.jit(function), x), sizes.rounds, EACH)
        rates[name] = 2 * x.nbytes / float(np.median(times))
    return rates


def matmul_rate(name: str, sizes: Sizes) -> float:
    """Operations a second (a multiplication and an addition are two)."""
    dtype, precision = MATMULS[name]
    shape = (sizes.side, sizes.side)
    keys = jax.random.split(jax.random.key(0))
    a, b = (jax.random.normal(key, shape).astype(dtype) for key in keys)

    @jax.jit
    def multiply(a: jax.Array, b: jax.Array) -> jax.Array:
        return jnp.matmul(a, b, precision=precision, preferred_element_type=jnp.float32)

    times = queued(lambda: multiply(a, b), sizes.rounds, EACH)
    return 2 * sizes.side**3 / float(np.median(times))


def launches(sizes: Sizes) -> dict[str, float]:
    """Seconds of what costs nothing but its launch.

    Returns:
      queued: of a dispatch among others; answered: of one whose result is waited for;
      loop_static, loop_traced: of an iteration of a loop on the device, whose trip
      count the program knows, or is given. A traced one far above a static one asks the
      host each iteration.
    """
    x = jax.random.normal(jax.random.key(0), (1024,))
    n = sizes.iterations

    def loop(x: jax.Array, n: Any) -> jax.Array:
        return lax.fori_loop(0, n, lambda i, y: jnp.sin(y) + i, x)

    add = jax.jit(lambda x: x + 1)
    static = jax.jit(functools.partial(loop, n=n))
    traced, steps = jax.jit(loop), jnp.int32(n)
    found = {
        "queued": queued(lambda: add(x), sizes.rounds, 200),
        "answered": queued(lambda: add(x), 30 * sizes.rounds, 1),
        "loop_static": [t / n for t in queued(lambda: static(x), sizes.rounds, 1)],
        "loop_traced": [
            t / n for t in queued(lambda: traced(x, steps), sizes.rounds, 1)
        ],
    }
    return {name: summary(times)["median"] for name, times in found.items()}


def rate(ceilings: dict[str, Any], name: str) -> float | None:
    """A ceiling by its name: ``bytes``, or a matmul's; None if it is not known."""
    if name != "bytes":
        return ceilings.get("flop_per_s", {}).get(name)
    copies = ceilings.get("bytes_per_s", {})
    return max((copies[n] for n in ("copy", "negate") if n in copies), default=None)


def report_table(figures: dict[str, Any]) -> str:
    """The figures of ``run``."""
    known = figures.get("versions", {})
    limit = figures.get("memory_limit_bytes")
    about = [
        f"{figures.get('count')} x {figures.get('device')}",
        f"memory for arrays: {limit / 1e9:.1f} GB" if limit else "",
        f"driver, memory, power limit: {figures['driver']}"
        if figures.get("driver")
        else "",
        f"host cores: {figures.get('host_cores')}",
        ", ".join(f"{name} {version}" for name, version in known.items()),
        ", ".join(f"{k}={v}" for k, v in figures.get("variables", {}).items()),
    ]
    copies, launched = figures.get("bytes_per_s", {}), figures.get("launches", {})
    rows: list[tuple[str, str | None, str]] = [
        (f"{words}, read and written", _in(copies.get(name), 1e9), "GB/s")
        for name, words in (("copy", "copy"), ("negate", "negation"))
    ]
    rates = figures.get("flop_per_s", {})
    rows += [(WORDS[n], _in(rates.get(n), 1e12), "TFLOP/s") for n in MATMULS]
    rows += [
        (words, _in(launched.get(name), 1e-6), "µs")
        for name, words in (
            ("queued", "dispatch among others"),
            ("answered", "dispatch whose result is waited for"),
            ("loop_static", "iteration of a loop, trip count known"),
            ("loop_traced", "iteration of a loop, trip count given"),
        )
    ]
    lines = [f"- {line}" for line in about if line]
    return "\n".join([*lines, "", table(("ceiling", "measured", "unit"), rows)])


def _in(value: float | None, unit: float) -> str | None:
    return None if value is None else number(value / unit)
