"""Times the published code of TRON in turn with ours: train steps and evaluation.

    git clone <the repository otto-de/TRON> TRON
    python3.10 -m venv PEER
    PEER/bin/pip install torch==1.13.1 pytorch-lightning==2.0.4 torchmetrics==0.11.4 \
        lightning-utilities==0.8.0 numpy==1.25.0 tensorboardx "setuptools<70"
    python -m experiments.benchmarks.peers.published_tron --checkout=TRON \
        --peer_python=PEER/bin/python --data=DIGINETICA --out=published.json

Those are the versions of its lock file (Python 3.10; `setuptools` for torchmetrics). It
also runs unchanged on today's: Python 3.11, `pip install torch pytorch-lightning numpy
tensorboardx` (PyTorch 2.14.1, Lightning 2.6.6, NumPy 2.4.6). PyPI's PyTorch for Linux
is not to be imported without CUDA's libraries; pip installs them beside it (3 GB in
all, or 6 GB for the newest), and no GPU or driver is needed.

Each side is a process, with all cores to itself: while one makes steps the other waits.
The published code makes its own data set, loader, model and optimizer from its own
config (`configs/`), and is trained by its own Lightning trainer. Both get the same
sessions in the same order, so that step for step a batch has the same sessions
(GRU4Rec: its slots the same clicks): batches of 128 that follow each other in time, of
which the first are spread over the whole epoch, as its beginning alone has shorter
sessions. The departures from its programs, none of which is an edit:

- `accelerator` is cpu and `precision` 32 (`--precision`) where it has gpu and 16: on a
  CPU Lightning would turn 16 into bfloat16. Ours is float32 too.
- No evaluation between steps (`limit_val_batches=0`); no progress bar, no summary, and
  no mlflow, all of which would cost it time. Its log of every step stays.
- A callback of ours notes the time within each step and waits between turns.
- For the parts of a step, its samplers are wrapped in a clock, and its `forward` is
  replaced by what it returned, to tell encoder and loss apart.
- `validation_step` is called by itself, with `log` replaced by nothing; drawing its
  negatives, which it needs for its test loss, is left out.
- The random state is its own (it sets no seed); workers are as many as it asks for.

Left out on both sides: compiling, and the first turn. A turn of the published code
begins with one untimed step, or, where its loader cannot keep up, with as many as were
prefetched meanwhile and one; a turn of ours with two, and a step of ours includes
making its batch. Evaluation is timed after a first pass of each: the published
`validation_step` on `--eval_steps` batches (GRU4Rec: steps), which looks for the first
20 only, and among padding too; ours on the first 4,096 test sessions, which gives the
ranks of both protocols. The figure of a turn is the mean of its steps; reported are
medians over the turns, and their ratio with an interval from the 5th to the 95th
percentile (a bootstrap by turn).

Sizes: `--items` equal to the data set's takes the data set, any other made-up sessions
of `--profile`'s lengths. How many turns and steps are made is said for each size
(`--rounds=8,4`). At 1.8 million items both sides together take some 16 GB. `--limit`
(minutes) is shared out among the rows that are left: a row whose share is over has
fewer turns, and all ends at the limit with what was found. `--out` is written after
each row.

What the ratio does not say: the published code was written for a GPU, where PyTorch's
top-k and its padding cost less than on a CPU. Its parts are listed for that: what goes
to padding, to gradients through all candidates, to gradients and updates of the whole
table, and to drawing negatives in Python.

Another comparison is how much of the ratio is memory: `--peer_malloc=ours` runs the
published code with the settings of glibc that our programs start with.
"""

from __future__ import annotations

import os
import platform
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags

from data_prep.made_up.profiles import PROFILES
from experiments import entry, workdirs
from experiments.benchmarks.child_processes import ROOT
from experiments.benchmarks.peers.published_children import Stopped
from experiments.benchmarks.peers.published_data import (
    Data,
    Source,
    open_source,
    write_published,
)
from experiments.benchmarks.peers.published_job import SYSTEMS, Job
from experiments.benchmarks.peers.published_report import table
from tron_jax import devices
from tron_jax.console import messages
from tron_jax.errors import UserError
from tron_jax.files import local_path, require_writable

Record = dict[str, Any]

# of each size of --items; the last holds for all that follow
AMOUNTS = {
    "rounds": ("8,4", "Turns of each side"),
    "steps": ("10,2", "Timed steps of a turn; GRU4Rec ten times"),
    "eval_rounds": ("3,2", "Evaluations of each side"),
    "eval_steps": ("2,1", "Batches of an evaluation; GRU4Rec ten times"),
    "part_steps": ("6,2", "Steps whose parts are timed; GRU4Rec ten times"),
}


def main(argv: Sequence[str]) -> int:
    values = flags.FlagValues()
    define_flags(values)
    return entry.run(run, values, argv)


def define_flags(values: flags.FlagValues) -> None:
    text, many = flags.DEFINE_string, flags.DEFINE_list
    text("checkout", None, "A clone of otto-de/TRON.", values, required=True)
    text("peer_python", None, "Python with its packages.", values, required=True)
    text("data", None, "A prepared Diginetica.", values)
    many("systems", list(SYSTEMS), "Which.", flag_values=values)
    many("items", ["43097", "1800000"], "Catalogues.", flag_values=values)
    for name, (amounts, meaning) in AMOUNTS.items():
        many(name, amounts.split(","), f"{meaning}, at each size.", flag_values=values)
    profiles = list(PROFILES)
    flags.DEFINE_enum("profile", "diginetica", profiles, "Lengths.", flag_values=values)
    text("precision", "32", "Of the published trainer.", values)
    memory = ["own", "ours"]
    flags.DEFINE_enum("peer_malloc", "own", memory, "Its memory.", flag_values=values)
    flags.DEFINE_integer("limit", 90, "Minutes, of all.", 1, flag_values=values)
    text("out", None, "JSON to write.", values)


def run(values: flags.FlagValues) -> None:
    """Measures every system at every size; prints and writes the report."""
    data = _check(values)
    settings = (*AMOUNTS, "items", "systems", "profile", "precision", "peer_malloc")
    report: dict[str, Any] = {
        "command": "published_tron",
        "settings": {name: values[name].value for name in settings},
        "commits": {
            "published": _commit(values.checkout),
            "ours": _commit(ROOT),
        },
        "cores": devices.cores(),
        "processor": _processor(),
        "load": round(os.getloadavg()[0], 1),
        "fingerprint": data.fingerprint if data else "",
        "sections": [],
    }
    deadline = time.monotonic() + 60 * values.limit
    left = len(values.items) * len(values.systems)
    for place, items in enumerate(map(int, values.items)):
        amounts = {name: _at(values[name].value, place) for name in AMOUNTS}
        source = _source(values, items, amounts, data)
        with tempfile.TemporaryDirectory() as folder:
            num_sessions = write_published(open_source(source), Path(folder))
            for name in values.systems:
                job = Job(
                    name,
                    source,
                    num_sessions,
                    folder,
                    items,
                    amounts,
                    values,
                    deadline,
                )
                share = (deadline - time.monotonic()) / left
                report["sections"].append(_measure(job, time.monotonic() + share))
                left -= 1
                if values.out:
                    workdirs.write_json(Path(values.out), report)
    print(table(report))


def _measure(job: Job, until: float) -> dict[str, Any]:
    """All figures of a job, or those until its time was over, and why."""
    section: dict[str, Any] = {"system": job.name, "num_items": job.num_items}
    messages.complain(f"{job.name}, {job.num_items:,} items …")
    try:
        job.require_memory()
        section["train"] = job.train(until)
        section["parts"] = job.parts()
        section["evaluate"] = job.evaluate(until)
    except Stopped as error:
        section["stopped"] = str(error)
    return section


def _check(values: flags.FlagValues) -> Data | None:
    """Refuses what cannot be measured; opens the data set if one is named."""
    checkout = Path(values.checkout)
    if not (checkout / "src" / "sasrec" / "train.py").is_file():
        raise UserError(f"--checkout: {checkout} is no clone of otto-de/TRON")
    if not Path(values.peer_python).is_file():
        raise UserError(f"--peer_python: no file {values.peer_python}")
    for name in values.systems:
        if name not in SYSTEMS:
            known = ", ".join(SYSTEMS)
            raise UserError(f"--systems: {name}; expected some of: {known}")
    for items in values.items:
        if not (items.isdecimal() and int(items) >= 1000):
            raise UserError(f"--items: {items}; expected whole numbers from 1000 on")
    for name in AMOUNTS:
        least = 2 if "rounds" in name else 1
        amounts = values[name].value
        if not all(text.isdecimal() and int(text) >= least for text in amounts):
            found = ",".join(amounts)
            raise UserError(
                f"--{name}: {found}; expected whole numbers from {least} on"
            )
    if values.out:  # or minutes would be measured for nothing
        require_writable(local_path(values.out))
    return open_source(Source(values.data, "", 0, 0)) if values.data else None


def _at(amounts: list[str], place: int) -> int:
    return int(amounts[min(place, len(amounts) - 1)])


def _source(
    values: flags.FlagValues, items: int, amounts: dict[str, int], data: Data | None
) -> Source:
    if data and items == data.num_items:
        return Source(os.path.abspath(values.data), "", 0, 0)
    # Enough for all turns, and for the 4,096 test sessions that ours evaluates.
    steps = (amounts["rounds"] + 1) * (amounts["steps"] + 8)
    return Source("", values.profile, max(41_000, 128 * steps), items)


def _commit(folder: str | Path) -> str:
    """The commit of a checkout, with a + where files differ; empty outside git."""

    def git(*arguments: str) -> str:
        command = ("git", "-C", str(folder), *arguments)
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


def _processor() -> str:
    """The processor's name, where the system says it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if "model name" in line]
    return names[0] if names else platform.processor()


if __name__ == "__main__":
    entry.start(main)
