"""Evaluates a run from its checkpoint alone, in both protocols side by side.

    python -m experiments.evaluate --workdir=RUN [--step=best|latest|N] \
        [--split=test|validation] [--mesh=N] [--data=DIR] [--out=DIR]

Without --step each protocol takes its own checkpoint: `paper` the best one, `exact` the
latest (or the best on validation, where the run held some out). Where the two differ,
`exact_at_best` is what `exact` finds at the best one, which was chosen by the very test
figures that it shows. Metrics and cut-offs are those of the run's config; training
again with --config.eval.metrics or --config.eval.cutoffs changes them there, even after
the last epoch.

The table is printed and then written to evaluation.json, the rank of each prediction to
ranks.parquet: in RUN, or in --out where RUN may not be written. They are of test, or of
validation with train.evaluate_on=validation; the other split has files of its own, such
as evaluation_validation.json. The run may still train: where it deletes a checkpoint
before that is read, the next one that fits is taken.

On many hosts each process runs this command as experiments.train says, with --mesh=0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
from absl import flags
from ml_collections import ConfigDict

from experiments import entry, hosts, provenance, run_files, workdirs
from experiments.assembly import checkpoint_choice, evaluating, run_parts
from tron_jax import devices
from tron_jax.console.messages import say
from tron_jax.data.sessions import PreparedData
from tron_jax.errors import UserError
from tron_jax.evaluation import rank_file
from tron_jax.evaluation.protocols import EXACT_AT_BEST
from tron_jax.evaluation.rank_file import Ranks
from tron_jax.files import local_path, replacing
from tron_jax.hosts.peers import Peers, first_says
from tron_jax.reporting.evaluation_table import format_summaries
from tron_jax.storage.checkpoints import Checkpoints
from tron_jax.storage.manifest import MissingCheckpointError
from tron_jax.training import row_major


class Line(NamedTuple):
    """A protocol at its checkpoint.

    Attributes:
      step: of the checkpoint.
      chosen_by: the rule that chose it, in a few words.
      ranks: of each prediction.
      summary: its figures, and the ``checkpoint`` that has them, by its checksum; None
        where the protocol has none.
    """

    step: int
    chosen_by: str
    ranks: Ranks
    summary: evaluating.Summary | None


def main(argv: Sequence[str]) -> int:
    flag_values = flags.FlagValues()
    flags.DEFINE_string(
        "workdir", None, "Folder of the run.", required=True, flag_values=flag_values
    )
    flags.DEFINE_string(
        "step",
        None,
        "Checkpoint for both protocols: best, latest or a step.",
        flag_values=flag_values,
    )
    flags.DEFINE_enum(
        "split",
        None,
        ["test", "validation"],
        "Sessions to evaluate; by default those that the run shows.",
        flag_values=flag_values,
    )
    flags.DEFINE_string(
        "data",
        None,
        "The run's data set, where it has moved.",
        flag_values=flag_values,
    )
    flags.DEFINE_string(
        "out",
        None,
        "Folder for the files, instead of the run's.",
        flag_values=flag_values,
    )
    flags.DEFINE_integer(
        "mesh", 1, "Devices that share the item table; 0 = all.", 0, None, flag_values
    )
    hosts.define(flag_values)
    return entry.run(run, flag_values, argv)


def run(flag_values: flags.FlagValues) -> None:
    with hosts.joined(flag_values) as peers:
        _run(flag_values, peers)


def _run(flag_values: flags.FlagValues, peers: Peers) -> None:
    workdir = local_path(flag_values.workdir)
    config, made_with = workdirs.read_config(workdir)
    shown = evaluating.shown_split(config.train.evaluate_on)
    checkpoints = Checkpoints(workdir / workdirs.CHECKPOINTS, peers=peers)
    # What has no checkpoint, such as an export, needs no data set.
    checkpoint_choice.choose(flag_values.step, config, checkpoints)
    split = flag_values.split or shown
    out = _out(flag_values.out, workdir)
    if flag_values.data is not None:
        config.data.path = str(local_path(flag_values.data))
    data = _open_data(config, made_with, workdir)
    config.train.evaluate_on = "all"  # as --split asks, whatever the run may look at
    splits = run_parts.splits(config, data)
    if split not in splits:
        raise UserError(f"there are no {split} sessions in {data.path} for {workdir}")
    devices.check()
    _check_mesh(flag_values.mesh)
    run_parts.use_compilation_cache()
    config.train.mesh = flag_values.mesh
    config = run_parts.resolve(config, data.num_items)
    hosts.refuse_some_devices(peers, config.train.mesh, "--mesh")
    hosts.refuse_differences(
        peers,
        workdirs.fields(config)
        | {"fingerprint": data.fingerprint, **provenance.versions()}
        | {"--split": split, "--step": flag_values.step},
    )
    parts = run_parts.build(config, data.num_items, splits["train"])
    shapes = parts.placement.shapes(jax.eval_shape(parts.init))
    logical = parts.placement.saved(shapes)
    metrics = evaluating.reported_metrics(config)

    def evaluate(step: int) -> evaluating.Evaluation:
        checksum = checkpoints.checksum(step)
        state, _ = checkpoints.restore(step, logical, shapes)
        found = evaluating.evaluate(
            parts.evaluator,
            row_major.laid_out(state, row_major.formats(state)),
            step,
            splits[split],
            split=split,
            metrics=metrics,
        )
        return _naming(checksum, found)

    def choose() -> dict[str, tuple[int, str]]:
        arguments = (flag_values.step, config, checkpoints)
        return first_says(peers, "choice", checkpoint_choice.choose, *arguments)

    # Of many processes, another may have read what this one finds gone.
    again = peers.count == 1 and flag_values.step in (None, "best", "latest")
    lines = _lines(*_of_chosen(choose, evaluate, again=again))
    table = format_summaries(
        {name: line.summary for name, line in lines.items()},
        keys=metrics.by_key,
        steps={name: line.step for name, line in lines.items()},
        chosen_by={name: line.chosen_by for name, line in lines.items()},
        position=config.model.position,
    )
    if peers.index == 0:
        suffix = "" if split == shown else f"_{split}"
        _show(table, out, suffix, lines, splits[split].ids)


def _out(asked: str | None, workdir: Path) -> Path:
    """The folder to write, which must not be that of an evaluation of something else.

    The other one would be lost, and this one be taken for it.
    """
    if asked is None:
        return workdir
    out = local_path(asked)
    found = run_files.kind(out)
    if found and out.resolve() != workdir.resolve():
        raise UserError(f"--out={out} is {found}; expected a folder for these files")
    workdirs.refuse_unwritable(out)
    return out


def _open_data(
    config: ConfigDict, made_with: dict[str, Any], workdir: Path
) -> PreparedData:
    """Opens the data set of a run, and refuses any other."""
    data = run_parts.open_data(config)
    if data.fingerprint != made_with["fingerprint"]:
        raise UserError(
            f"{data.path} is not the data set that {workdir} was trained on"
        )
    return data


def _naming(checksum: int, found: evaluating.Evaluation) -> evaluating.Evaluation:
    """The same, its figures with the checkpoint that has them."""
    summaries = {
        name: summary and summary | {"checkpoint": checksum}
        for name, summary in found.summaries.items()
    }
    return found._replace(summaries=summaries)


def _show(
    table: str, folder: Path, suffix: str, lines: dict[str, Line], session_ids: Any
) -> None:
    unprinted = say(table)  # before files, which a disk may refuse
    summary = _write(folder, suffix, lines, session_ids)
    if unprinted and not isinstance(unprinted, BrokenPipeError):  # by `| head`, say
        raise UserError(
            f"the figures, which are in {summary}, cannot be printed: "
            f"{unprinted.strerror}"
        )


def _check_mesh(devices_asked: int) -> None:
    there = jax.device_count()
    if devices_asked > there:
        raise UserError(f"--mesh={devices_asked}; expected at most the {there} devices")


def _of_chosen(
    choose: Callable[[], dict[str, tuple[int, str]]],
    evaluate: Callable[[int], evaluating.Evaluation],
    *,
    again: bool,
) -> tuple[dict[str, tuple[int, str]], dict[int, evaluating.Evaluation]]:
    """Evaluates what is chosen; what is gone by the time is chosen anew.

    Args:
      choose: the checkpoint of each protocol, and why that one.
      evaluate: called once for each step.
      again: whether to choose anew, for the run may still train and delete old ones.

    Returns:
      What was chosen for each protocol, and the evaluations by step.
    """
    chosen = choose()
    evaluations: dict[int, evaluating.Evaluation] = {}
    # The latest first: it is deleted sooner than the best.
    for protocol in sorted(chosen, key=lambda name: chosen[name], reverse=True):
        while (step := chosen[protocol][0]) not in evaluations:
            try:
                evaluations[step] = evaluate(step)
            except MissingCheckpointError:
                if not again:
                    raise
                now = choose()
                gone = [name for name in chosen if chosen[name][0] == step]
                chosen |= {name: now[name] for name in gone}
    return chosen, evaluations


def _lines(
    chosen: dict[str, tuple[int, str]], evaluations: dict[int, evaluating.Evaluation]
) -> dict[str, Line]:
    """What is printed and written: a line a protocol, and ``exact`` at the best step.

    The best step is that of ``paper``, so nothing is evaluated for the last line.
    """
    lines = {
        name: Line(
            *choice,
            evaluations[choice[0]].ranks[name],
            evaluations[choice[0]].summaries[name],
        )
        for name, choice in chosen.items()
    }
    step, rule = chosen["paper"]
    if step != chosen["exact"][0]:
        best = evaluations[step]
        summary = best.summaries["exact"]
        if summary is not None:
            summary = summary | {"protocol": EXACT_AT_BEST}
        lines[EXACT_AT_BEST] = Line(step, rule, best.ranks["exact"], summary)
    return lines


def _write(folder: Path, suffix: str, lines: dict[str, Line], session_ids: Any) -> Path:
    """Writes ranks.parquet and evaluation.json, their names with a suffix.

    Returns:
      The latter's path.
    """
    summary = folder / f"evaluation{suffix}.json"
    path = folder / f"ranks{suffix}.parquet"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        ranks = {name: line.ranks for name, line in lines.items()}
        with replacing(path) as new:
            rank_file.save(new, ranks, session_ids)
            summary.unlink(missing_ok=True)  # it must never lie beside other ranks
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror}; --out=DIR is another place"
        ) from error
    content = [
        {"step": line.step, "chosen_by": line.chosen_by, **line.summary}
        for line in lines.values()
        if line.summary
    ]
    workdirs.write_json(summary, content)
    return summary


if __name__ == "__main__":
    entry.start(main)
