"""Trains a config; the same command again resumes.

    python -m experiments.train --config=experiments/configs/tron_xl.py:diginetica \
        --config.data.path=DIR --workdir=RUN
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

import jax
from absl import flags
from ml_collections import ConfigDict

from experiments import checks, entry, preflight, workdirs
from experiments.assembly import evaluating, run_parts
from tron_jax import devices, files, memory
from tron_jax.console.messages import readable
from tron_jax.console.progress import Progress
from tron_jax.data.sessions import Sessions
from tron_jax.reporting import plots
from tron_jax.reporting.metrics_writer import MetricsWriter, truncate_after
from tron_jax.storage import staging
from tron_jax.storage.checkpoints import Checkpoints
from tron_jax.training.log_windows import Recorder, TrainingPlan
from tron_jax.training.loop import Loop, asked_to_stop
from tron_jax.training.step_programs import compile_steps


def main(argv: Sequence[str]) -> int:
    flag_values = flags.FlagValues()
    entry.define_config(flag_values, argv)
    flags.DEFINE_string(
        "workdir", None, "Folder of the run.", required=True, flag_values=flag_values
    )
    flags.mark_flag_as_required("config", flag_values)
    return entry.run(run, flag_values, argv)


def run(flag_values: flags.FlagValues) -> None:
    config = flag_values.config
    checks.check(config)
    data = run_parts.open_data(config)
    devices.check()
    print(devices.describe())
    config = run_parts.resolve(config, data.num_items)
    config.data.path = str(data.path.absolute())  # to evaluate from anywhere
    splits = run_parts.splits(config, data)
    with workdirs.open_workdir(Path(flag_values.workdir), config, data) as workdir:
        run_parts.use_compilation_cache()
        if len(splits) == 1:
            print("warning: no test sessions; training without evaluation")
        parts = run_parts.build(config, data.num_items, splits["train"])
        metrics, keep_last = workdir / "metrics.jsonl", config.checkpoint.keep_last
        with Checkpoints(workdir / "checkpoints", keep_last=keep_last) as checkpoints:
            _train(config, parts, splits, data.fingerprint, metrics, checkpoints)
        _plot(metrics, workdir / "plot.png")


def _train(
    config: ConfigDict,
    parts: run_parts.RunParts,
    splits: dict[str, Sessions],
    fingerprint: str,
    metrics: Path,
    checkpoints: Checkpoints,
) -> None:
    """Resumes or starts, and trains until the end or until asked to stop."""
    shapes = jax.eval_shape(parts.init)
    restored = checkpoints.restore_newest(shapes)
    start, state, info = restored or (0, None, {})
    truncate_after(metrics, start)
    plan = TrainingPlan(
        parts.batches.steps_per_epoch,
        config.train.epochs,
        config.train.log_every_steps,
        config.checkpoint.every_steps,
    )
    if start >= plan.last:
        print(f"already trained to step {start:,}, {config.train.epochs} epochs")
        return
    batches = parts.batches.shapes
    print(
        f"resuming at step {start:,}" if restored else "starting",
        f"(compiling the step for {len(batches)} lengths of batch)",
        flush=True,
    )
    constants = jax.device_put(parts.constants)
    train_step = compile_steps(
        parts.train_step,
        shapes,
        batches,
        constants,
        deterministic=config.train.deterministic,
    )
    needs = preflight.measure(
        shapes,
        parts.batches,
        train_step.temporaries(),
        parts.evaluator if len(splits) > 1 else None,
        copies=checkpoints.copies(shapes),
    )
    _check_room(config, needs, checkpoints, plan.saves_after(start), bool(restored))
    with (
        MetricsWriter(metrics) as writer,
        Progress(
            "training",
            parts.batches.sessions_before(plan.last),
            unit="sessions",
            done=parts.batches.sessions_before(start),
        ) as progress,
        asked_to_stop() as stop,
    ):
        loop = Loop(
            plan,
            train_step,
            parts.batches,
            functools.partial(
                evaluating.evaluate_held_out,
                parts.evaluator,
                splits,
                evaluating.reported_metrics(config),
                config.model.position,
            ),
            checkpoints,
            {"fingerprint": fingerprint},
            Recorder(writer, plan, parts.batches.sessions_before, info),
            progress,
        )
        state = jax.jit(parts.init)() if state is None else state
        _, step = loop.run(state, start, stop)
    if step < plan.last:
        print(f"stopped at step {step:,}, saved; the same command goes on from there")
    print(_spent(checkpoints))


def _check_room(
    config: ConfigDict,
    needs: preflight.Needs,
    checkpoints: Checkpoints,
    saves: int,
    resumed: bool,
) -> None:
    """Prints what the run needs of memory and disk, or raises if that is not free."""
    free = memory.free_memory()
    if free is not None and resumed:
        free += needs.state  # already allocated
    dense = config.optimizer.item_table == "dense"
    print(preflight.check_memory(needs, free, dense=dense))
    staging.clear(checkpoints.folder)  # what a killed run left must not count
    line = preflight.check_disk(
        needs.state,
        saves=saves,
        there=len(checkpoints.steps()),
        keep_last=checkpoints.keep_last,
        free=files.free_room(checkpoints.folder),
    )
    print(line, flush=True)


def _spent(checkpoints: Checkpoints) -> str:
    """A line of the memory that the run used and the speed of its checkpoints."""
    peak, saved = memory.peak_memory(), checkpoints.saved
    figures = [f"peak memory {readable(peak.host)}"]
    if peak.device is not None:
        figures.append(f"of the device {readable(peak.device)}")
    if saved:
        written, seconds = sum(s.bytes for s in saved), sum(s.seconds for s in saved)
        rate = readable(written / seconds)
        figures.append(f"{len(saved)} checkpoints written at {rate}/s")
    return ", ".join(figures)


def _plot(metrics: Path, picture: Path) -> None:
    if not plots.plot_run(metrics, picture):
        print("no plot is drawn: matplotlib is not installed; tron-jax[plots] has it")


if __name__ == "__main__":
    entry.start(main)
