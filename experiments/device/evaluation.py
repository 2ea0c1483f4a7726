"""How long an evaluation takes, beside the matmul that it cannot do without."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.benchmarks.workload import Workload
from experiments.device import ceilings, workloads
from experiments.device.report import Report, Setting
from experiments.device.tables import number, share, table
from experiments.device.timed_calls import queued
from tron_jax.data.sessions import select
from tron_jax.evaluation.evaluator import (
    TILING_OF_ACCELERATORS,
    TILINGS,
    Evaluator,
)
from tron_jax.evaluation.queries import plain
from tron_jax.evaluation.ranking import make_rank_step

BLOCKS = (1024, 2048, 4096)
TINY_BLOCKS = (64, 128)
EVENTS, TINY_EVENTS = 1 << 16, 256
PREDICTIONS = {"diginetica": 60_858, "otto": 10_700_000}  # of the test splits
SESSIONS, TINY_SESSIONS = 16_000, 50  # of a whole pass
REPEATS = 3
MATMUL = "float32_highest"


def run(setting: Setting, report: Report) -> None:
    """Measures ranking alone at both sizes, and a whole pass at the smaller."""
    for dataset in PREDICTIONS:
        with report.attempt(f"sessions and state, {dataset}"):
            workload = workloads.make("tron_xl", dataset, tiny=setting.rehearse)
            state = jax.jit(workload.parts.init)()
            jax.block_until_ready(state)
            for block in TINY_BLOCKS if setting.rehearse else BLOCKS:
                with report.attempt(f"ranks, {dataset}, blocks of {block}"):
                    row = ranks(workload, state, block, dataset, setting)
                    report.append("ranks", row)
            if dataset == "diginetica":
                with report.attempt("a whole pass"):
                    report.add(whole=whole(workload, state, setting))
            del state


def with_block(evaluator: Evaluator, block: int) -> Evaluator:
    """The same evaluator with other blocks of items and events per matmul."""
    encoding: Any = evaluator.encoding
    tiling = TILINGS.get(jax.default_backend(), TILING_OF_ACCELERATORS)
    rank_step = make_rank_step(
        encoding.read_rows,
        num_items=evaluator.num_items,
        block=block,
        fixed=tiling.fixed,
    )
    return dataclasses.replace(evaluator, rank_step=jax.jit(rank_step), block=block)


def ranks(
    workload: Workload, state: Any, block: int, dataset: str, setting: Setting
) -> dict[str, Any]:
    """Times the ranking of predictions whose hidden states are there, chunk by chunk.

    Args:
      workload: the run.
      state: of its first step.
      block: items and events per matmul.
      dataset: whose test split the time is extrapolated to.
      setting: of the part.

    Returns:
      dataset, items, block, events, chunk (events for which the table is read once),
      seconds; matmul_s, the operations at the measured rate, None without it; all_s,
      seconds for all predictions of the data set's test split.
    """
    evaluator = with_block(workload.parts.evaluator, block)
    encoding: Any = evaluator.encoding
    chunk = encoding.chunk_size
    wanted = TINY_EVENTS if setting.rehearse else EVENTS
    calls, count = max(1, wanted // chunk), min(wanted, chunk)
    width, items = workload.config.model.hidden_size, workload.num_items
    queries = plain(jax.random.normal(jax.random.key(1), (chunk, width)))
    draw = np.random.default_rng(0)
    labels = jnp.asarray(draw.integers(1, items + 1, chunk).astype(np.int32))
    step, events = jnp.int32(0), jnp.int32(count)

    def rank() -> Any:
        return evaluator.rank_step(state.items, step, queries, labels, events)

    times = [calls * t for t in queued(rank, REPEATS, calls)]
    seconds = float(np.median(times))
    rate = ceilings.rate(setting.ceilings, MATMUL)
    ranked, predictions = calls * count, PREDICTIONS[dataset]
    return {
        "dataset": dataset,
        "items": items,
        "block": block,
        "default": block == workload.parts.evaluator.block,
        "chunk": chunk,
        "events": ranked,
        "seconds": seconds,
        "matmul_s": 2 * ranked * items * width / rate if rate else None,
        "predictions": predictions,
        "all_s": seconds * predictions / ranked,
    }


def whole(workload: Workload, state: Any, setting: Setting) -> dict[str, Any]:
    """Times a pass over sessions as a user makes it, encoding and host included."""
    count = TINY_SESSIONS if setting.rehearse else SESSIONS
    sessions = select(workload.splits["train"], 0, count)
    evaluator = workload.parts.evaluator
    times, events = [], 0
    for _ in range(REPEATS):
        start = time.perf_counter()
        events = len(evaluator(state.params, state.items, 0, sessions)["exact"].event)
        times.append(time.perf_counter() - start)
    return {
        "events": events,
        "items": workload.num_items,
        "block": evaluator.block,
        "first_s": times[0],
        "seconds": min(times[1:]),
    }


HEADERS = (
    "ranking",
    "items",
    "block",
    "chunk",
    "predictions",
    "seconds",
    "matmul alone s",
    "ratio",
    "all predictions",
    "extrapolated s",
)


def report_table(figures: dict[str, Any]) -> str:
    """The figures of ``run``."""
    rows = [
        [
            row["dataset"],
            row["items"],
            f"{row['block']:,}{' (default)' if row['default'] else ''}",
            row["chunk"],
            row["events"],
            row["seconds"],
            row["matmul_s"],
            share(row["seconds"], row["matmul_s"]),
            row["predictions"],
            row["all_s"],
        ]
        for row in figures.get("ranks", [])
    ]
    lines = [table(HEADERS, rows)]
    lines.append(
        "Extrapolated by predictions. Matmul alone: its operations at the measured "
        "float32 rate at HIGHEST."
    )
    if "whole" in figures:
        of = figures["whole"]
        lines.append(
            f"A whole pass over {of['events']:,} predictions, {of['items']:,} items, "
            f"encoding included: {number(of['seconds'])} s (the first, with "
            f"compilation, {number(of['first_s'])} s)."
        )
    return "\n\n".join(lines)
