"""Times a run's train step or evaluation beside the least that it could cost.

    python -m experiments.benchmark train --config=experiments/configs/tron_xl.py \
        --config.data.path=DIR [--repeats=60] [--json=FILE]
    python -m experiments.benchmark evaluate --config=… --config.data.path=DIR
    python -m experiments.benchmark prepare --format=FORMAT [--num_sessions=N]

`train`: a step, data loading included, beside its floor: the matmul of all candidates
and `jax.lax.top_k` over their scores alone, at the step's own shapes. `evaluate`: a
pass over the first test events beside the matmul over the same blocks alone. `prepare`:
data_prep on a made-up log, stage by stage (see benchmark_prepare.py). The first two are
timed in turn in one process, since a shared machine makes times of different minutes
incomparable; read the ratio.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from jax import lax
from ml_collections import ConfigDict

from experiments import benchmark_prepare, checks, entry, runs, workdirs
from tron_jax.data.sessions import select
from tron_jax.errors import UserError
from tron_jax.ranking import score_block
from tron_jax.training import compile_steps

Timings = tuple[list[float], list[float]]  # seconds of the thing, seconds of its floor


def main(argv: Sequence[str]) -> int:
    program, *arguments = argv
    command = arguments[0] if arguments and not arguments[0].startswith("-") else ""
    rest = [program, *arguments[1:]] if command else list(argv)
    if command == "prepare":
        return benchmark_prepare.main(rest)
    flag_values = flags.FlagValues()
    entry.define_config(flag_values, rest)
    flags.mark_flag_as_required("config", flag_values)
    flags.DEFINE_integer(
        "repeats", 60, "Times to measure.", lower_bound=3, flag_values=flag_values
    )
    flags.DEFINE_string(
        "json", None, "File to write the figures to.", flag_values=flag_values
    )

    def run(flag_values: flags.FlagValues) -> None:
        if command not in COMMANDS:
            expected = ", ".join([*COMMANDS, "prepare"])
            raise UserError(
                f"benchmark {command or '(nothing)'}: expected one of: {expected}"
            )
        _run(command, flag_values)

    return entry.run(run, flag_values, rest)


def _run(command: str, flag_values: flags.FlagValues) -> None:
    config = flag_values.config
    checks.check(config)
    data = runs.open_data(config)
    config = runs.resolve(config, data.num_items)
    runs.use_compilation_cache()
    splits = runs.splits(config, data)
    parts = runs.build(config, data.num_items, splits["train"])
    if command == "evaluate" and "test" not in splits:
        raise UserError(f"{data.path} has no test sessions; expected some to evaluate")
    what, floor, (ours, least) = COMMANDS[command](
        config, parts, splits, flag_values.repeats
    )
    report = summarise(ours, least)
    print(f"{what:<48}{1e3 * report['seconds']:>10.1f} ms")
    print(f"{floor:<48}{1e3 * report['floor_seconds']:>10.1f} ms")
    low, high = report["ratio_interval"]
    print(
        f"{'ratio (90 % interval)':<48}{report['ratio']:>10.2f}  {low:.2f}..{high:.2f}"
    )
    if flag_values.json:
        about = {"command": command, "device": jax.devices()[0].device_kind}
        workdirs.write_json(Path(flag_values.json), about | report)


def summarise(ours: list[float], floor: list[float]) -> dict[str, Any]:
    """Medians of both, and the ratio of the medians with a bootstrap interval.

    Args:
      ours: [n] seconds.
      floor: [n] seconds, each measured right after its neighbour in ``ours``.

    Returns:
      seconds, floor_seconds, ratio, ratio_interval, repeats.
    """
    pairs = np.array([ours, floor])
    draws = np.random.default_rng(0).integers(0, len(ours), (2000, len(ours)))
    ratios = np.divide(*np.median(pairs[:, draws], axis=2))
    seconds, floor_seconds = np.median(pairs, axis=1)
    return {
        "seconds": float(seconds),
        "floor_seconds": float(floor_seconds),
        "ratio": float(seconds / floor_seconds),
        "ratio_interval": [float(q) for q in np.quantile(ratios, [0.05, 0.95])],
        "repeats": len(ours),
    }


def timed(function: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds until the result of a call is there, and the result."""
    start = time.perf_counter()
    result = jax.block_until_ready(function())
    return time.perf_counter() - start, result


def benchmark_train(
    config: ConfigDict, parts: runs.Parts, splits: dict, repeats: int
) -> tuple[str, str, Timings]:
    """Steps spread over an epoch, each followed by the floor at its shapes."""
    batches = parts.batches
    at = np.linspace(0, batches.steps_per_epoch - 1, repeats).astype(int)
    sizes = sorted({batches.at(int(step)).items.size for step in at})
    shapes = [runs.abstract_batch(size) for size in sizes]
    train_step = compile_steps(parts.train_step, jax.eval_shape(parts.init), shapes)
    width = config.model.hidden_size
    candidates = config.negatives.num_uniform + config.negatives.num_in_batch
    k = config.loss.topk
    key = jax.random.key(0)
    rows = jax.random.normal(key, (candidates, width))
    hidden = {size: jax.random.normal(key, (size, width)) for size in sizes}

    @jax.jit
    def floor(hidden: jax.Array, rows: jax.Array) -> Any:
        scores = hidden @ rows.T
        return lax.top_k(scores, k) if k else scores

    state = jax.jit(parts.init)()
    for size, events in hidden.items():  # compiles the floor, warms the step
        jax.block_until_ready(floor(events, rows))
        step = next(int(s) for s in at if batches.at(int(s)).items.size == size)
        state, _ = train_step(state, jax.device_put(batches.at(step)))
    ours, least = [], []
    for step in at:

        def one_step(state=state, step=int(step)):
            return train_step(state, jax.device_put(batches.at(step)))

        seconds, (state, _) = timed(one_step)
        ours.append(seconds)
        events = hidden[batches.at(int(step)).items.size]
        least.append(timed(lambda events=events: floor(events, rows))[0])
    what = f"train step, {config.train.batch_size} sessions"
    parts_of_floor = "matmul and top_k" if k else "matmul"
    return what, f"floor: {parts_of_floor} of {candidates:,}", (ours, least)


def benchmark_evaluate(
    config: ConfigDict, parts: runs.Parts, splits: dict, repeats: int
) -> tuple[str, str, Timings]:
    """A pass over the first test events, then the matmul over the same blocks."""
    state = jax.jit(parts.init)()
    test = splits["test"]
    sessions = select(test, 0, min(test.num_sessions, 4096))
    ranks = parts.evaluator(state.params, state.items, 0, sessions)
    events = len(ranks.of("exact").event)
    block, num_items = parts.evaluator.block, parts.evaluator.num_items
    key = jax.random.key(0)
    rows, hidden = jax.random.normal(key, (2, block, config.model.hidden_size))
    blocks = -(-events // block) * -(-num_items // block)

    @jax.jit
    def matmuls(rows: jax.Array, hidden: jax.Array) -> jax.Array:
        def one(i, sums):
            scores = score_block(rows + i, hidden)
            return sums + scores[0]

        return lax.fori_loop(0, blocks, one, jnp.zeros(block))

    matmuls(rows, hidden).block_until_ready()
    ours, least = [], []
    for _ in range(max(3, repeats // 20)):
        ours.append(
            timed(lambda: parts.evaluator(state.params, state.items, 0, sessions))[0]
        )
        least.append(timed(lambda: matmuls(rows, hidden))[0])
    what = f"evaluation of {events:,} events"
    return what, f"its matmul alone, {num_items:,} items", (ours, least)


COMMANDS = {"train": benchmark_train, "evaluate": benchmark_evaluate}

if __name__ == "__main__":
    entry.start(main)
