"""From the newest checkpoint, or from nothing, to the end of a run."""

from __future__ import annotations

import functools
import itertools
import os
from pathlib import Path

import jax
from ml_collections import ConfigDict

from experiments import negatives_left, preflight, workdirs
from experiments.assembly import evaluating, run_parts
from experiments.assembly.warm_start import WarmStart
from tron_jax import files, memory
from tron_jax.console.messages import readable, say, warn
from tron_jax.console.progress import Progress
from tron_jax.data.sessions import Sessions
from tron_jax.evaluation.metrics import BEST_KEY, title
from tron_jax.evaluation.protocols import PROTOCOLS
from tron_jax.hosts.peers import Peers
from tron_jax.reporting import metrics_writer, tensorboard
from tron_jax.reporting.metrics_writer import MetricsWriter, Sink, truncate_after
from tron_jax.sharding import look_ups
from tron_jax.steps import TrainState
from tron_jax.storage import staging
from tron_jax.storage.checkpoints import Checkpoints
from tron_jax.training import row_major
from tron_jax.training.log_windows import Record, Recorder, TrainingPlan
from tron_jax.training.loop import Loop, asked_to_stop
from tron_jax.training.patience import Patience
from tron_jax.training.step_programs import StepPrograms, compile_steps


def fit(
    config: ConfigDict,
    parts: run_parts.RunParts,
    splits: dict[str, Sessions],
    fingerprint: str,
    metrics: Path,
    checkpoints: Checkpoints,
    warm: WarmStart | None,
    peers: Peers,
) -> int | None:
    """Resumes or starts, and trains until it ends, by itself or when asked to.

    A warm start is saved at once, as step 0, to be resumed without its source.

    Args:
      config: checked and resolved.
      parts: of the run.
      splits: the sessions, by name.
      fingerprint: of the data.
      metrics: the log, ``os.devnull`` where another process writes it.
      checkpoints: of the run.
      warm: the state to start from where there is no checkpoint; None = from scratch.
      peers: the processes of the run.

    Returns:
      The signal that stopped it, None where the run is complete.
    """
    placement = parts.placement
    shapes = row_major.shapes(placement.shapes(jax.eval_shape(parts.init)))
    about = {"fingerprint": fingerprint, "mesh": config.train.mesh}
    logical = placement.saved(shapes)
    restored = checkpoints.restore_newest(logical, shapes)
    start, state, info = restored or (0, None, {})
    resumed = restored is not None
    del restored  # or the state could not be donated
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
    lengths = len(parts.batches.shapes)
    begins = _resuming(config, start, info) if resumed else "starting"
    say(f"{begins} (compiling the step for {lengths} lengths of batch)")
    train_step, needs = _compile(config, parts, shapes, len(splits) > 1, checkpoints)
    saves = plan.saves_after(start, checkpoints.keep_last + 2) + bool(warm)
    if peers.index == 0:
        staging.clear(checkpoints.folder)  # what a killed run left must not count
    # The state of a warm start for a mesh still lies on the host.
    there = resumed or (warm is not None and config.train.mesh == 1)
    _check_room(config, needs, memory.size(logical), checkpoints, saves, there)
    if warm is not None and not resumed:
        say(warm.summary)
        state = placement.restored(warm.state)
        checkpoints.save(0, state, about, wait=True, like=logical)
    with (
        MetricsWriter(metrics, _sinks(config, splits, metrics)) as writer,
        Progress(
            "training",
            parts.batches.sessions_before(plan.last),
            unit="sessions",
            done=parts.batches.sessions_before(start),
        ) as progress,
        asked_to_stop() as asked,
    ):
        stop = placement.agreed(asked)
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
        state = jax.jit(parts.init)() if state is None else state
        _, step = loop.run(state, start, stop)
    stopped = step < plan.last and not patience.ended
    if stopped:
        say(f"stopped at step {step:,}, saved; the same command goes on from there")
    elif step < plan.last:
        say(_early(config, step))
    say(_spent(checkpoints))
    return stop() if stopped else None


def _resuming(config: ConfigDict, start: int, info: Record) -> str:
    """A word of where a run resumes; says so where that is on other devices."""
    before = info.get("mesh", 1)
    if before != config.train.mesh:
        say(
            f"train.mesh was {before} and is {config.train.mesh}: the state is the "
            "same, what follows rounds differently"
        )
    return f"resuming at step {start:,}"


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
    if metrics == Path(os.devnull):  # of a process that writes nothing
        return []
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
