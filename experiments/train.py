"""Trains a config; the same command again resumes.

    python -m experiments.train --config=experiments/configs/tron_xl.py:diginetica \
        --config.data.path=DIR --workdir=RUN

Ctrl-C, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2 and SIGXCPU stop it once the state is saved,
unless they were ignored when it started. The exit status is 0 where training is
complete, by its last epoch or by train.stop_after, 1 after a mistake, and 128 + n where
signal n stopped it: 130 after Ctrl-C.

--dry_run says what the run would take of each device, for any train.mesh, and with
--items=N as if the data had so many items; it trains nothing. With --topology=v5e:2x4,
say, it compiles for such a slice of TPUs, which need not be there, but libtpu must.
"""

from __future__ import annotations

import functools
import itertools
import shutil
from collections.abc import Sequence
from pathlib import Path

import jax
from absl import flags
from ml_collections import ConfigDict

from experiments import (
    checks,
    entry,
    negatives_left,
    preflight,
    provenance,
    rehearsal,
    run_files,
    workdirs,
)
from experiments.assembly import evaluating, program, run_parts, warm_start
from experiments.assembly.warm_start import WarmStart
from tron_jax import devices, files, memory
from tron_jax.console.messages import readable, say, warn
from tron_jax.console.progress import Progress
from tron_jax.data.catalogue import ITEMS
from tron_jax.data.sessions import Sessions
from tron_jax.errors import UserError
from tron_jax.evaluation.metrics import BEST_KEY, title
from tron_jax.evaluation.protocols import PROTOCOLS
from tron_jax.files import local_path
from tron_jax.reporting import metrics_writer, plots, tensorboard
from tron_jax.reporting.metrics_writer import MetricsWriter, Sink, truncate_after
from tron_jax.sharding import look_ups
from tron_jax.steps import TrainState
from tron_jax.storage import staging
from tron_jax.storage.checkpoints import Checkpoints
from tron_jax.training import row_major
from tron_jax.training.log_windows import Recorder, TrainingPlan
from tron_jax.training.loop import Loop, asked_to_stop
from tron_jax.training.patience import Patience
from tron_jax.training.step_programs import StepPrograms, compile_steps


def main(argv: Sequence[str]) -> int:
    flag_values = flags.FlagValues()
    entry.define_config(flag_values, argv)
    flags.DEFINE_string("workdir", None, "Folder of the run.", flag_values=flag_values)
    rehearsal.define_flags(flag_values)
    flags.mark_flag_as_required("config", flag_values)

    def by_command(flag_values: flags.FlagValues) -> int:
        return run(flag_values, ["experiments.train", *argv[1:]])

    return entry.run(by_command, flag_values, argv)


def run(flag_values: flags.FlagValues, command: Sequence[str]) -> int:
    """Trains, or goes on.

    Args:
      flag_values: parsed.
      command: what was typed after ``python -m``, to be written down.

    Returns:
      The exit status: 0, or 128 + the signal that stopped it.
    """
    config = flag_values.config
    if rehearsal.asked_for(flag_values):
        rehearsal.run(config, flag_values["items"].value, flag_values.topology)
        return 0
    if flag_values.workdir is None:
        raise UserError("--workdir is not given; expected the folder of the run")
    checks.check(config)
    data = run_parts.open_data(config)
    devices.check()
    say(devices.describe())
    config = run_parts.resolve(config, data.num_items)
    if config.train.mesh > 1:
        say(f"the item table is divided among {config.train.mesh} devices")
    config.data.path = str(data.path.absolute())  # to evaluate from anywhere
    if config.init.workdir:
        config.init.workdir = str(local_path(config.init.workdir).absolute())
    splits = run_parts.splits(config, data)
    if len(splits) == 1 and config.train.stop_after:
        raise UserError(
            f"train.stop_after is {config.train.stop_after} without test sessions; "
            "expected data.validation above 0, or train.stop_after=0"
        )
    parts = run_parts.build(config, data.num_items, splits["train"])
    described = program.describe(config, data.num_items, splits["train"], parts)
    made_with = provenance.describe(data, described, command)
    place = local_path(flag_values.workdir)
    warm = None
    if config.init.workdir and run_files.newest_step(place) is None:
        fresh = parts.placement.saved(jax.jit(parts.init)())
        warm = warm_start.prepare(config, data, splits["train"], fresh)
        made_with |= {"init": warm.origin}
    with workdirs.open_workdir(
        place,
        config,
        data,
        made_with,
        last_step=parts.batches.steps_per_epoch * config.train.epochs,
    ) as workdir:
        _keep_items(data.path / ITEMS, workdir / ITEMS)
        run_parts.use_compilation_cache()
        if len(splits) == 1:
            say("warning: no test sessions; training without evaluation")
        metrics, keep_last = workdir / "metrics.jsonl", config.checkpoint.keep_last
        with Checkpoints(
            workdir / workdirs.CHECKPOINTS, keep_last=keep_last
        ) as checkpoints:
            stopped_by = _train(
                config, parts, splits, data.fingerprint, metrics, checkpoints, warm
            )
        _plot(metrics, workdir / "plot.png")
    return 0 if stopped_by is None else 128 + stopped_by


def _keep_items(source: Path, kept: Path) -> None:
    """Copies the ids of the items, without which a model is of no use elsewhere."""
    if not kept.exists():
        with files.replacing(kept) as new:
            shutil.copyfile(source, new)


def _train(
    config: ConfigDict,
    parts: run_parts.RunParts,
    splits: dict[str, Sessions],
    fingerprint: str,
    metrics: Path,
    checkpoints: Checkpoints,
    warm: WarmStart | None,
) -> int | None:
    """Resumes or starts, and trains until it ends, by itself or when asked to.

    A warm start is saved at once, as step 0, to be resumed without its source.

    Returns:
      The signal that stopped it, None where the run is complete.
    """
    placement = parts.placement
    shapes = row_major.shapes(placement.shapes(jax.eval_shape(parts.init)))
    about = {"fingerprint": fingerprint, "mesh": config.train.mesh}
    restored = checkpoints.restore_newest(placement.saved(shapes))
    start, state, info = restored or (0, warm.state if warm else None, {})
    resumed = restored is not None
    del restored  # of a mesh it is a copy, to be let go once that has its own
    truncate_after(metrics, start)
    plan = TrainingPlan(
        parts.batches.steps_per_epoch,
        config.train.epochs,
        config.train.log_every_steps,
        config.checkpoint.every_steps,
        config.train.evaluate_every,
    )
    if start >= plan.last:
        say(f"already trained to step {start:,}, {config.train.epochs} epochs")
        return None
    patience = Patience(config.train.stop_after, info)
    if patience.ended:
        say(_early(config, start))
        return None
    begins = f"resuming at step {start:,}" if resumed else "starting"
    before = info.get("mesh", 1)
    if resumed and before != config.train.mesh:
        say(
            f"train.mesh was {before} and is {config.train.mesh}: the state is the "
            "same, what follows rounds differently"
        )
    lengths = len(parts.batches.shapes)
    say(f"{begins} (compiling the step for {lengths} lengths of batch)")
    train_step, needs = _compile(config, parts, shapes, len(splits) > 1, checkpoints)
    saves = plan.saves_after(start, checkpoints.keep_last + 2) + bool(warm)
    saved = memory.size(placement.saved(shapes))
    # What a mesh resumes from lies on the host, beside what is yet to be allocated.
    there = state is not None and config.train.mesh == 1
    _check_room(config, needs, saved, checkpoints, saves, there)
    if warm is not None and not resumed:
        say(warm.summary)
        checkpoints.save(0, state, about, wait=True)
    with (
        MetricsWriter(metrics, _sinks(config, splits, metrics)) as writer,
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
            about,
            Recorder(writer, plan, parts.batches.sessions_before, info),
            progress,
            patience,
            placement,
        )
        state = jax.jit(parts.init)() if state is None else placement.restored(state)
        _, step = loop.run(state, start, stop)
    stopped = step < plan.last and not patience.ended
    if stopped:
        say(f"stopped at step {step:,}, saved; the same command goes on from there")
    elif step < plan.last:
        say(_early(config, step))
    say(_spent(checkpoints))
    return stop() if stopped else None


def _early(config: ConfigDict, step: int) -> str:
    """A line about a run that its patience has ended."""
    asked = config.train.stop_after
    times = "1 evaluation" if asked == 1 else f"{asked} evaluations in a row"
    return (
        f"trained to step {step:,}, where it stopped early: no higher "
        f"{title(BEST_KEY)} on {evaluating.judge(config)} in {times}; "
        "a higher train.stop_after goes on"
    )


def _sinks(
    config: ConfigDict, splits: dict[str, Sessions], metrics: Path
) -> list[Sink]:
    """Who follows a run besides its metrics.jsonl: TensorBoard, where it is there."""
    names = itertools.product(
        sorted(splits.keys() - {"train"}),
        PROTOCOLS,
        evaluating.reported_metrics(config).by_key,
    )
    board = tensorboard.follow(
        metrics.parent,
        metrics_writer.read(metrics) if metrics.exists() else [],
        hyperparameters=workdirs.fields(config),
        results=map("/".join, names),
    )
    if board is None:
        return []
    say("TensorBoard follows this run (tensorboard --logdir=WORKDIR)")
    return [board]


def _compile(
    config: ConfigDict,
    parts: run_parts.RunParts,
    shapes: TrainState,
    evaluated: bool,
    checkpoints: Checkpoints,
) -> tuple[StepPrograms, preflight.Needs]:
    """The compiled step, and what a run by it needs; warns where nothing is learnt."""
    constants = parts.placement.send(parts.constants)
    num_items = parts.evaluator.num_items
    left = negatives_left.warning(
        config, parts.batches, look_ups.whole(parts.constants), num_items
    )
    if left is not None:
        warn(left)
    train_step = compile_steps(
        parts.train_step,
        shapes,
        parts.batches.shapes,
        constants,
        deterministic=config.train.deterministic,
    )
    needs = preflight.measure(
        shapes,
        parts.batches,
        train_step.temporaries(),
        parts.evaluator if evaluated else None,
        copies=checkpoints.copies(shapes),
        devices=config.train.mesh,
    )
    return train_step, needs


def _check_room(
    config: ConfigDict,
    needs: preflight.Needs,
    saved: int,
    checkpoints: Checkpoints,
    saves: int,
    there: bool,
) -> None:
    """Prints what the run needs of memory and disk, or raises if that is not free."""
    free = memory.free_memory()
    if free is not None and there:
        free += needs.state  # already allocated
    dense = config.optimizer.item_table == "dense"
    say(preflight.check_memory(needs, free, dense=dense))
    staging.clear(checkpoints.folder)  # what a killed run left must not count
    line = preflight.check_disk(
        saved,
        saves=saves,
        there=len(checkpoints.steps()),
        keep_last=checkpoints.keep_last,
        free=files.free_room(checkpoints.folder),
    )
    say(line)


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
    """Draws the run; training is done and saved, and does not fail for a picture."""
    try:
        drawn = plots.plot_run(metrics, picture)
    except Exception as error:  # of matplotlib, whatever is amiss with it here
        warn(f"no plot is drawn: {error}")
        return
    if not drawn:
        say("no plot is drawn: matplotlib is not installed; tron-jax[plots] has it")


if __name__ == "__main__":
    entry.start(main)
