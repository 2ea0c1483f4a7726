"""Trains and evaluates a config under every combination of values, seed by seed.

    python -m experiments.sweep --config=FILE[:argument] --workdir=DIR \
        --over=negatives.mask_hits=false,true --over=loss.topk=0,10,100 --seeds=3 \
        [--config.field=value …] [--dry_run]
    python -m experiments.sweep --sweep=experiments/sweeps/FILE.py[:argument] \
        --workdir=DIR --data=DIR

Each combination, for each seed, is a run with a workdir of its own below --workdir,
named after what differs. What is no product of values is a file with a function
`sweep`, which returns `{name: (config, seeds)}`. Each run is a process of its own: one
that fails is named in the end, and the others go on. The same command again goes on
where this one was stopped or killed, tries again what failed, and makes what was added:
values, seeds, epochs. Ctrl-C and SIGTERM stop the run under way once it is saved.

--dry_run prints the runs with their time, memory and disk, estimated from a few steps.
--shard=2/4 makes every fourth run from the second on, for machines that share a file
system; a Slurm job array does so by itself. --refit trains, when all runs are done, the
setting of the highest validation Recall@20 again on train and validation.

Then `python -m experiments.compare DIR --out=DIR` compares them.
"""

from __future__ import annotations

import functools
import os
import shlex
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import config_flags

from experiments import entry, run_files
from experiments.assembly import run_parts
from experiments.sweeping import (
    definition,
    estimates,
    listing,
    refit,
    reuse,
    runner,
)
from experiments.sweeping.definition import Run, Setting
from experiments.sweeping.folder import (
    Folder,
    has_metrics_asked_for,
    is_done,
    locked,
)
from experiments.sweeping.processes import Signals, Stop, stop_if_asked
from experiments.sweeping.runner import Failure
from experiments.sweeping.shards import WHOLE, Shard, of_slurm, parse_shard
from tron_jax.console.messages import say
from tron_jax.console.signals import STOPPING, handled
from tron_jax.errors import UserError
from tron_jax.files import local_path


def main(argv: Sequence[str]) -> int:
    flag_values = flags.FlagValues()
    entry.define_config(flag_values, argv)
    define_flags(flag_values)

    def by_command(flag_values: flags.FlagValues) -> int:
        return run(flag_values, ["experiments.sweep", *argv[1:]])

    return entry.run(by_command, flag_values, argv)


def define_flags(flag_values: flags.FlagValues) -> None:
    """Adds all flags but ``--config``."""
    text = functools.partial(flags.DEFINE_string, flag_values=flag_values)
    truth = functools.partial(flags.DEFINE_boolean, flag_values=flag_values)
    text("workdir", None, "Folder of the sweep.", required=True)
    text("sweep", None, "File with a function sweep, perhaps with :argument.")
    text("data", None, "Prepared data set, in place of what the configs name.")
    flags.DEFINE_multi_string(
        "over",
        [],
        "Config field and the values to try, FIELD=VALUE,VALUE; may be given again.",
        flag_values=flag_values,
    )
    flags.DEFINE_integer(
        "seeds",
        None,
        "Runs of each setting, from train.seed upwards; 1 unless the sweep file says.",
        lower_bound=1,
        upper_bound=definition.MOST_SEEDS,
        flag_values=flag_values,
    )
    text("shard", None, "I/N: make the I-th of N parts of the runs.")
    flags.DEFINE_multi_string(
        "reuse",
        [],
        "Folder in which runs may lie that need not be made again.",
        flag_values=flag_values,
    )
    truth("skip_refused", False, "Make the rest where some combinations are refused.")
    truth("dry_run", False, "Print what would be made, and what it would take.")
    truth("refit", False, "Train what is best on validation again, on all of train.")


def run(flag_values: flags.FlagValues, command: Sequence[str]) -> int:
    """Makes the runs.

    Args:
      flag_values: parsed.
      command: what was typed after ``python -m``, to be written down.

    Returns:
      The exit status: 0, 1 where a run failed, or 128 + the signal that stopped it.
    """
    runs = _with_data(_runs(flag_values))
    shard = (
        of_slurm(os.environ)
        if flag_values.shard is None
        else parse_shard(flag_values.shard)
    )
    workdir = local_path(flag_values.workdir)
    with _asked_to_stop() as received:
        try:
            return _sweep(flag_values, runs, shard, workdir, command, lambda: received)
        except Stop:
            later = "" if flag_values.dry_run else "; the same command goes on"
            say(f"stopped{later}")
            return 128 + received[0]


def _sweep(
    flag_values: flags.FlagValues,
    runs: list[Run],
    shard: Shard,
    workdir: Path,
    command: Sequence[str],
    signals: Signals,
) -> int:
    """Makes the runs of a part; raises Stop where it was asked to stop meanwhile."""
    mine = shard.of(runs)
    _refuse_kept(workdir, runs)
    if flag_values.dry_run:
        folder = listing.folder_at(workdir, runs)
        _print_estimate(folder, mine, flag_values.reuse, signals)
        return 0
    if flag_values.refit:
        listing.require_all(workdir, runs)
    folder = listing.open_folder(workdir, runs, argv=command)
    if shard != WHOLE:
        say(f"part {shard.index} of {shard.count}: {len(mine)} of {len(runs)} runs")
    check = functools.partial(stop_if_asked, signals)
    lock = workdir / "locks" / f"part-{shard.index}-of-{shard.count}"
    with locked(lock, waiting_for=f"the sweep in {workdir}", check=check):
        folder = _reuse(folder, runs, flag_values.reuse, signals)
        _tell_former_metrics(folder, mine)
        failures = runner.make_runs(folder, mine, signals=signals)
        check()
        if flag_values.refit:
            failures += _refit(folder, runs, signals)
            check()
    return _conclude(folder, mine, failures)


def _refuse_kept(workdir: Path, runs: Sequence[Run]) -> None:
    """Raises UserError for a folder whose runs have nothing to go on from."""
    if any(run_files.kind(workdir / run.name) == run_files.KEPT for run in runs):
        raise UserError(
            f"{workdir} is what was kept of a sweep; expected another folder, perhaps "
            f"with --reuse={workdir}"
        )


def _with_data(runs: list[Run]) -> list[Run]:
    """The runs, with the fingerprints of their data, all of which is there.

    Raises:
      UserError: if a set is damaged or has no test sessions.
    """
    fingerprints: dict[str, str] = {}
    for run in runs:
        path = run.config.data.path
        if path not in fingerprints:
            data = run_parts.open_data(run.config)
            if not data.test.num_sessions:
                raise UserError(f"{path} has no test sessions; a sweep evaluates runs")
            fingerprints[path] = data.fingerprint
    return [
        run._replace(fingerprint=fingerprints[run.config.data.path]) for run in runs
    ]


def _runs(flag_values: flags.FlagValues) -> list[Run]:
    """The runs of the command line, once what is refused has been listed."""
    settings = _settings(flag_values)
    # Whoever writes a file has put first what should be made first.
    runs, refused = definition.runs_of(settings, seed_by_seed=not flag_values.sweep)
    for setting in refused:
        say(f"refused: {setting.setting}: {setting.why}")
    if refused and not (flag_values.skip_refused and runs):
        raise UserError(
            f"{len(refused)} of {len(settings)} settings are refused; expected others, "
            "or --skip_refused to make the rest"
        )
    if flag_values.refit:
        refit.require_validation(runs)
    reuse.require_folders(flag_values.reuse)
    return runs


def _print_estimate(
    folder: Folder, runs: Sequence[Run], where: Sequence[str], signals: Signals
) -> None:
    """Prints what is still to be made, and writes nothing."""
    reused = _find_reused(folder, runs, where, signals)
    left = [run for run in runs if run.name not in reused and not is_done(folder, run)]
    _tell_former_metrics(folder, runs)
    measured = estimates.measure_settings(left, timed=True, signals=signals)
    for line in estimates.estimate(left, measured, folder.path):
        say(line)


def _tell_former_metrics(folder: Folder, runs: Sequence[Run]) -> None:
    """Says how many runs that are done stay evaluated by other metrics than asked."""
    former = sum(
        is_done(folder, run) and not has_metrics_asked_for(folder, run) for run in runs
    )
    if former:
        say(
            f"{former} of {len(runs)} runs are done and keep their evaluations, with "
            "the former eval.cutoffs and eval.metrics; how to evaluate one again: "
            "python -m experiments.evaluate --help"
        )


def _reuse(
    folder: Folder, runs: Sequence[Run], where: Sequence[str], signals: Signals
) -> Folder:
    """Takes the runs that exist elsewhere into the sweep."""
    found = _find_reused(folder, runs, where, signals)
    return listing.update(folder, found) if found else folder


def _find_reused(
    folder: Folder, runs: Sequence[Run], where: Sequence[str], signals: Signals
) -> dict[str, dict[str, Any]]:
    """Looks elsewhere for the runs that are not done; see ``reuse.find``."""
    left = [run for run in runs if not is_done(folder, run)]
    if not where or not left:
        return {}
    measured = estimates.measure_settings(left, timed=False, signals=signals)
    return reuse.find(left, measured, folders=where, sweep=folder.path)


def _refit(folder: Folder, runs: Sequence[Run], signals: Signals) -> list[Failure]:
    """Trains the best setting again, on what was held out too, once all are done."""
    left = [run.name for run in runs if not is_done(folder, run)]
    if left:
        say(f"no refit yet: {len(left)} of {len(runs)} runs are not done")
        return []
    chosen = refit.choose(folder, runs)
    say(chosen.rule)
    again = refit.runs_of(chosen, runs)
    listing.replace_refits(folder, again, chosen.rule)
    # The best on test must not decide: the last state alone counts.
    at = {run.name: "latest" for run in again}
    return runner.make_runs(folder, again, signals=signals, evaluate_at=at)


def _settings(flag_values: flags.FlagValues) -> list[Setting]:
    """The settings of the command line, with data paths that hold from anywhere."""
    if bool(flag_values.sweep) == bool(flag_values.config):
        raise UserError("expected --config=FILE, with --over, or --sweep=FILE")
    if flag_values.sweep:
        if flag_values.over:
            raise UserError("--over goes with --config; a --sweep file says all")
        settings = definition.read_file(flag_values.sweep, flag_values.seeds)
        for setting in settings:
            entry.refuse_unknown(setting.config)
    else:
        named = config_flags.get_config_filename(flag_values["config"])
        overrides = config_flags.get_override_values(flag_values["config"])
        swept = definition.parse_over(flag_values.over)
        _refuse_two_values(overrides, swept, flag_values.data)
        settings = definition.product(
            swept,
            lambda fields: entry.read_config(named, overrides | dict(fields)),
            alone=Path(named.partition(":")[0]).stem,
            seeds=flag_values.seeds or 1,
        )
    for setting in settings:
        if path := flag_values.data or setting.config.data.path:
            setting.config.data.path = os.path.abspath(path)
        if path := setting.config.init.workdir:
            setting.config.init.workdir = os.path.abspath(path)
    return settings


def _refuse_two_values(
    typed: Mapping[str, Any], swept: Mapping[str, Sequence[str]], data: str | None
) -> None:
    """Raises UserError where one flag would undo what another one says."""
    over = {
        field: f"--over={field}={','.join(values)}" for field, values in swept.items()
    }
    both = [
        (f"--config.{field}={typed[field]}", over[field])
        for field in over
        if field in typed
    ]
    if data:
        path = typed.get("data.path")
        if path and os.path.abspath(path) != os.path.abspath(data):
            both.append((f"--config.data.path={path}", f"--data={data}"))
        if "data.path" in over:
            both.append((over["data.path"], f"--data={data}"))
    for first, second in both:
        raise UserError(f"{first} and {second} set the same field; expected one flag")


@contextmanager
def _asked_to_stop() -> Generator[list[int]]:
    """Yields the list of the signals received, which the handler adds to."""
    received: list[int] = []

    def handle(number: int, frame: object) -> None:
        received.append(number)

    with handled(STOPPING, handle):
        yield received


def _conclude(folder: Folder, runs: Sequence[Run], failures: list[Failure]) -> int:
    for run, why in failures:
        say(f"failed: {run.name}: {why} (all of it: {folder.log(run)})")
    done = sum(is_done(folder, run) for run in runs)
    say(f"{done} of {len(runs)} runs done in {folder.path}")
    if done:
        path = shlex.quote(str(folder.path))
        say(f"compare them: python -m experiments.compare {path} --out=DIR")
    return 1 if failures else 0


if __name__ == "__main__":
    entry.start(main)
