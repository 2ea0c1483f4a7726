"""Trains a config; the same command again resumes.

    python -m experiments.train --config=experiments/configs/tron_xl.py:diginetica \
        --config.data.path=DIR --workdir=RUN

Ctrl-C, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2 and SIGXCPU stop it once the state is saved,
unless they were ignored when it started. The exit status is 0 where training is
complete, by its last epoch or by train.stop_after, 1 after a mistake, and 128 + n where
signal n stopped it: 130 after Ctrl-C.

On many hosts, or in many processes of one, each runs this command with --distributed
(Slurm, TPU pods and MPI say who they are) or with --coordinator=HOST:PORT
--num_processes=N --process_id=I, and with train.mesh=0: their devices share the item
table. WORKDIR lies on a file system that all share; process 0 alone speaks.

--dry_run says what the run would take of each device, for any train.mesh, and with
--items=N as if the data had so many items; it trains nothing. With --topology=v5e:2x4,
say, it compiles for such a slice of TPUs, which need not be there, but libtpu must.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import jax
from absl import flags

from experiments import (
    checks,
    entry,
    fitting,
    hosts,
    provenance,
    rehearsal,
    run_files,
    workdirs,
)
from experiments.assembly import program, run_parts, warm_start
from tron_jax import devices, files
from tron_jax.console.messages import say, warn
from tron_jax.data.catalogue import ITEMS
from tron_jax.errors import UserError
from tron_jax.files import local_path
from tron_jax.hosts.peers import Peers
from tron_jax.reporting import plots
from tron_jax.storage.checkpoints import Checkpoints


def main(argv: Sequence[str]) -> int:
    flag_values = flags.FlagValues()
    entry.define_config(flag_values, argv)
    flags.DEFINE_string("workdir", None, "Folder of the run.", flag_values=flag_values)
    rehearsal.define_flags(flag_values)
    hosts.define(flag_values)
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
    with hosts.joined(flag_values) as peers:
        return _run(flag_values, command, peers)


def _run(flag_values: flags.FlagValues, command: Sequence[str], peers: Peers) -> int:
    config = flag_values.config
    checks.check(config)
    data = run_parts.open_data(config)
    devices.check()
    say(devices.describe())
    splits = run_parts.splits(config, data)
    config = run_parts.resolve(config, data.num_items, train=splits["train"])
    hosts.refuse_some_devices(peers, config.train.mesh, "train.mesh")
    if config.train.mesh > 1:
        of = f" of {peers.count} processes" if peers.count > 1 else ""
        say(f"the item table is divided among {config.train.mesh} devices{of}")
    config.data.path = str(data.path.absolute())  # to evaluate from anywhere
    if config.init.workdir:
        config.init.workdir = os.path.abspath(local_path(config.init.workdir))
    if len(splits) == 1 and config.train.stop_after:
        raise UserError(
            f"train.stop_after is {config.train.stop_after} without test sessions; "
            "expected data.validation above 0, or train.stop_after=0"
        )
    parts = run_parts.build(config, data.num_items, splits["train"])
    described = program.describe(config, data.num_items, splits["train"], parts)
    made_with = provenance.describe(data, described, command)
    place = local_path(flag_values.workdir)
    hosts.refuse_differences(peers, workdirs.fields(config) | made_with)
    warm = None
    if config.init.workdir and run_files.newest_step(place) is None:
        hosts.refuse_warm_start(peers)
        fresh = parts.placement.saved(jax.jit(parts.init)())
        warm = warm_start.prepare(config, data, splits["train"], fresh)
        made_with |= {"init": warm.origin}
    with workdirs.open_workdir(
        place,
        config,
        data,
        made_with,
        last_step=parts.batches.steps_per_epoch * config.train.epochs,
        peers=peers,
    ) as workdir:
        if peers.index == 0:
            _keep_items(data.path / ITEMS, workdir / ITEMS)
        run_parts.use_compilation_cache()
        if len(splits) == 1:
            say("warning: no test sessions; training without evaluation")
        metrics = Path(os.devnull) if peers.index else workdir / run_files.METRICS
        with Checkpoints(
            workdir / workdirs.CHECKPOINTS,
            keep_last=config.checkpoint.keep_last,
            peers=peers,
        ) as checkpoints:
            stopped_by = fitting.fit(
                config,
                parts,
                splits,
                data.fingerprint,
                metrics,
                checkpoints,
                warm,
                peers,
            )
        if peers.index == 0:
            _plot(metrics, workdir / "plot.png")
    return 0 if stopped_by is None else 128 + stopped_by


def _keep_items(source: Path, kept: Path) -> None:
    """Copies the ids of the items, without which a model is of no use elsewhere."""
    if not kept.exists():
        with files.replacing(kept) as new:
            shutil.copyfile(source, new)


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
