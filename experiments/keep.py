"""Copies what is worth committing of a finished run into a small folder.

    python -m experiments.evaluate --workdir=RUN
    python -m experiments.keep --workdir=RUN --out=experiments/results/DATA/CONFIG \
        [--evaluated=DIR, what evaluate was given as --out]
    python -m experiments.keep --workdir=SWEEP --out=experiments/results/DATA/SWEEP

A workdir is too large for a repository (checkpoints) and holds what must not be
published (ids of sessions, paths of a machine). The folder, some hundred kilobytes, has
what it takes to check and repeat the result:

    config.json      all settings, the versions used, the data's fingerprint and the
                     command; data.path is emptied, and of other paths the last part
                     stays
    metrics.jsonl    loss and metrics over the whole run
    evaluation.json  the last evaluation, in both protocols
    plot.png         the picture of the run, where matplotlib drew one
    ranks.npz        of each test prediction under `exact`, in test order: how many
                     items scored `higher` than the label, and how many `equal` to it;
                     of each test session how many `predictions` of those are its own;
                     and `best_higher` and `best_equal`, the same ranks at the best
                     checkpoint, where evaluation.json has a line `exact_at_best`

From ranks.npz any metric at any cut-off follows (rank = 1 + higher + equal), and two
runs on the same data can be compared prediction by prediction, and session by session.
All numbers in it are uint32, and NumPy alone reads it. Refused are a run that
was not evaluated at its last checkpoint (or the best on validation, where the run held
some out), and a folder that exists.

Of a sweep every run that is done is kept, in a folder of its own, and the list of runs,
so that experiments.compare knows their names and order. The same command again keeps
what has been done since.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from absl import flags
from ml_collections import ConfigDict

from experiments import entry, provenance, run_files, workdirs
from experiments.assembly import checkpoint_choice
from experiments.runs import reading
from experiments.sweeping import listing
from tron_jax.errors import UserError
from tron_jax.evaluation.protocols import EXACT_AT_BEST
from tron_jax.files import local_path, new_folder
from tron_jax.storage.checkpoints import Checkpoints

RANKS, EVALUATED_RANKS = "ranks.npz", "ranks.parquet"
COPIED = (run_files.METRICS, "plot.png")  # as they are, where a run has them


def main(argv: Sequence[str]) -> int:
    flag_values = flags.FlagValues()
    for name, text in (("workdir", "Folder of the run."), ("out", "Folder to make.")):
        flags.DEFINE_string(name, None, text, required=True, flag_values=flag_values)
    flags.DEFINE_string(
        "evaluated",
        None,
        "Folder that experiments.evaluate was given by --out.",
        flag_values=flag_values,
    )
    return entry.run(run, flag_values, argv)


def run(flag_values: flags.FlagValues) -> None:
    workdir, out = local_path(flag_values.workdir), local_path(flag_values.out)
    if (workdir / run_files.SWEEP).is_file():
        if flag_values.evaluated is not None:
            raise UserError("--evaluated is of one run; expected none with a sweep")
        _keep_sweep(workdir, out)
    else:
        evaluated = workdir
        if flag_values.evaluated is not None:
            evaluated = local_path(flag_values.evaluated)
        _keep_run(workdir, evaluated, out)
        print(f"kept in {out}")


def _keep_sweep(workdir: Path, out: Path) -> None:
    """Keeps the runs of a sweep that are done, and the list of all."""
    inside = out.resolve()
    if workdir.resolve() in (inside, *inside.parents):
        raise UserError(f"--out={out} is in the sweep; expected another folder")
    listed = listing.read(workdir)
    _refuse_others(out, listed)
    runs = {n: run for n, run in listed["runs"].items() if not run.get("retired")}
    places = {name: workdir / run["folder"] for name, run in runs.items()}
    done = {name: place for name, place in places.items() if _is_evaluated(place)}
    if not done:
        raise UserError(f"{workdir}: no run of this sweep is evaluated yet")
    for name, place in done.items():  # before any is kept
        _check_same_result(place, out / name)
        if not _was_kept(place):
            _check_evaluated(place, place, workdirs.read_config(place)[0])
    new = {name: place for name, place in done.items() if not (out / name).exists()}
    for name, place in new.items():
        if _was_kept(place):  # and reused by the sweep
            _copy_kept(place, out / name)
        else:
            _keep_run(place, place, out / name)
    content = provenance.without_paths(listed) | {
        "commands": [
            provenance.without_folders(command)
            for command in listed.get("commands", [])
        ],
        "runs": {
            name: _entry(name, run)
            for name, run in listed["runs"].items()
            # What was kept before it was retired must not pass for any other run.
            if name in runs or (out / name).exists()
        },
    }
    workdirs.write_json(out / run_files.SWEEP, content)
    print(
        f"kept {len(new)} runs in {out}, {len(done) - len(new)} were there, "
        f"{len(runs) - len(done)} of the sweep are not done"
    )


def _refuse_others(out: Path, listed: dict[str, Any]) -> None:
    """Refuses a folder that holds anything but what was kept of the same sweep."""
    if not out.exists() or not any(out.iterdir()):
        return
    if not (out / run_files.SWEEP).is_file():
        raise UserError(f"{out} holds other files; expected a folder to be made")
    others = listing.read(out)["runs"].keys() - listed["runs"].keys()
    if others:
        raise UserError(
            f"{out} holds another sweep, of {min(others)}; expected a folder to be made"
        )


def _is_evaluated(place: Path) -> bool:
    return (place / reading.EVALUATION).is_file() and not run_files.is_held(place)


def _was_kept(place: Path) -> bool:
    """Whether a folder is what was kept of a run: it has no checkpoint to look at."""
    return (place / RANKS).is_file() and run_files.newest_step(place) is None


def _check_same_result(place: Path, kept: Path) -> None:
    """Refuses to pass over a result that is no longer the one that was kept."""
    if not kept.exists():
        return
    if _figures(kept) != _figures(place):
        raise UserError(
            f"{kept} is another result than {place} has now; expected it to be removed "
            "first"
        )


def _figures(folder: Path) -> dict[str, dict[str, Any]]:
    """The lines of an evaluation, but for the checkpoint, saved at whatever time."""
    lines = reading.read_evaluations(folder / reading.EVALUATION)
    return {
        protocol: {key: value for key, value in line.items() if key != "checkpoint"}
        for protocol, line in lines.items()
    }


def _entry(name: str, run: dict[str, Any]) -> dict[str, Any]:
    """What the list says of a run, which lies in the kept sweep itself."""
    entry = {key: value for key, value in run.items() if key not in ("reused", "key")}
    fields = run["fields"] | {"data.path": ""}
    if fields.get("init.workdir"):
        fields["init.workdir"] = Path(fields["init.workdir"]).name
    return entry | {"folder": name, "fields": fields}


def _keep_run(workdir: Path, evaluated: Path, out: Path) -> None:
    """Keeps one run."""
    if run_files.is_held(workdir):
        raise UserError(f"{workdir} is in training; expected a run that has ended")
    config, made_with = workdirs.read_config(workdir)
    _check_evaluated(workdir, evaluated, config)
    with _made(out) as new:
        shutil.copyfile(evaluated / reading.EVALUATION, new / reading.EVALUATION)
        _copy(workdir, new, COPIED)
        try:
            _keep_ranks(evaluated / EVALUATED_RANKS, new / RANKS)
        except pa.ArrowInvalid as error:
            raise UserError(
                f"{evaluated / EVALUATED_RANKS} is damaged: {error}"
            ) from error
        workdirs.write_published(new / workdirs.CONFIG, config, made_with)


def _copy_kept(place: Path, out: Path) -> None:
    """Keeps what was kept before, and nothing that lies beside it."""
    with _made(out) as new:
        _copy(place, new, (workdirs.CONFIG, reading.EVALUATION, RANKS, *COPIED))


def _copy(source: Path, target: Path, names: Sequence[str]) -> None:
    for name in names:
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)


@contextlib.contextmanager
def _made(out: Path) -> Generator[Path]:
    """Yields a folder that becomes ``out`` once it is filled, whole or not at all."""
    if out.exists():
        raise UserError(f"{out} exists; expected a folder to be made")
    workdirs.refuse_unwritable(out)
    with new_folder(out) as new:
        yield new


def _check_evaluated(workdir: Path, evaluated: Path, config: ConfigDict) -> None:
    """Refuses a run not evaluated at the checkpoint that ``exact`` takes by itself."""
    path = evaluated / "evaluation.json"
    try:
        lines = {line["protocol"]: line for line in json.loads(path.read_text())}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is missing or damaged; run experiments.evaluate first, and name "
            "its --out, if it had one, by --evaluated"
        ) from error
    checkpoints = Checkpoints(workdir / workdirs.CHECKPOINTS)
    step, rule = checkpoint_choice.choose(None, config, checkpoints)["exact"]
    exact = lines.get("exact", {})
    found = exact.get("step")
    if found != step:
        raise UserError(
            f"{path} is of step {found}, but step {step} is the one to keep ({rule}); "
            "run experiments.evaluate without --step"
        )
    known_by = checkpoints.checksum(step)
    if exact.get("checkpoint", known_by) != known_by:  # older versions name none
        raise UserError(
            f"{path} is of another checkpoint than step {step} of {workdir}; expected "
            "what experiments.evaluate has made of this run as it is"
        )
    if not (evaluated / EVALUATED_RANKS).is_file():
        raise UserError(
            f"{evaluated / EVALUATED_RANKS} is missing; run experiments.evaluate again"
        )


def _keep_ranks(source: Path, target: Path) -> None:
    exact = _columns(source, "exact", ["event", "higher", "equal"])
    # Each session has a first prediction, which is of its second click.
    first = np.flatnonzero(exact.pop("event") == 1)
    counts = np.diff(first, append=len(exact["higher"])).astype(np.uint32)
    kept: dict[str, Any] = exact | {"predictions": counts}
    best = _columns(source, EXACT_AT_BEST, ["higher", "equal"])
    if len(best["higher"]):
        kept |= {f"best_{name}": column for name, column in best.items()}
    np.savez_compressed(target, **kept)


def _columns(source: Path, protocol: str, names: list[str]) -> dict[str, np.ndarray]:
    """[predictions] uint32, each, of a protocol in ranks.parquet; empty = not there."""
    filters = [("protocol", "=", protocol)]
    table = pq.read_table(source, columns=names, filters=filters)
    return {name: table[name].to_numpy().astype(np.uint32) for name in names}


if __name__ == "__main__":
    entry.start(main)
