"""Trains RecTools' SASRec on a prepared set, and ranks our predictions by it.

    python -m experiments.benchmarks.peers.rectools_sasrec --data=DIR --out=RESULT \
        --loss=BCE --epochs=30 --stop_after=5 --minutes=110

in the root of this checkout, by the Python of an environment of its own (3.11 or 3.12):

    python -m venv ENVIRONMENT
    ENVIRONMENT/bin/pip install "rectools[torch]==0.19.0" "torch==2.13.0" \
        "pyarrow==20.0.0" ml-collections

(RecTools wants NumPy 1 there, which newer releases of pyarrow refuse. Of torch any
build does: that of PyPI brings gigabytes of CUDA libraries, which are not used.)

Its model, data set, loader and trainer are the library's own. `--loss` is BCE, gBCE,
sampled_softmax (of `--negatives` drawn per event) or softmax, its default, over all
items, padding included: on two cores some hours an epoch of Diginetica, for which
`--length=20` does (half a percent of its clicks lie beyond). `--size=ours` (the default
here) is hidden 200, 1 head, 50 clicks; `--size=library` is what the library begins
with: hidden 256, 4 heads, 100 clicks. What it recommends as its best, eSASRec, is
`--loss=sampled_softmax --negatives=256 --layers=ligr`.

After each epoch every prediction of the test sessions is a query of its own: the clicks
before it, at most the last `--length`. Its label is ranked exactly, in float32, among
all items, those seen included, ties against it (the protocol `exact`), by the vectors
that the library scores with. At the end the best items of some queries are held against
what its `recommend` returns.

RESULT is written after each epoch and is one that `python -m experiments.compare` takes
beside ours; a training that `--minutes` ends within an epoch is taken as it is then, as
one that was asked for until that step. To ask for the same again needs another folder.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from experiments.benchmarks.peers import rectools_model, rectools_ranks
from experiments.benchmarks.peers.rectools_training import Follower
from experiments.run_files import CONFIG, METRICS
from tron_jax.data.sessions import PreparedData, open_prepared
from tron_jax.errors import UserError
from tron_jax.evaluation.metrics import BEST_KEY, reported, title
from tron_jax.evaluation.protocols import EXACT_AT_BEST, summarise
from tron_jax.evaluation.rank_file import Ranks
from tron_jax.files import replacing
from tron_jax.reporting.metrics_writer import MetricsWriter

REPORTED = reported(("recall", "mrr", "ndcg"), (5, 10, 20))
PATHS = ("data", "out")  # of arguments: only their last part is kept
CHECKED = 1000  # queries whose best items are held against the library's own


class Kept:
    """What is kept of a run: written whole after each evaluation.

    Attributes:
      ranks: of the latest evaluation.
    """

    def __init__(self, out: Path, config: dict[str, Any], sessions: np.ndarray):
        """Makes the folder.

        Args:
          out: the folder.
          config: what config.json holds, provenance included.
          sessions: [sessions] predictions of each test session.

        Raises:
          UserError: if it exists, or cannot be made.
        """
        try:
            out.mkdir(parents=True)
        except FileExistsError as error:
            raise UserError(f"{out} exists; expected a folder to be made") from error
        except OSError as error:
            raise UserError(f"cannot make {out}: {error.strerror}") from error
        self.ranks: Ranks | None = None
        self._out, self._config, self._sessions = out, config, sessions
        self._best: dict[str, Any] = {}
        self._best_ranks: dict[str, np.ndarray] = {}

    def keep(self, step: int, line: dict[str, Any], is_best: bool, whole: bool) -> None:
        """Writes all but the log.

        Args:
          step: that was evaluated.
          line: of `exact`.
          is_best: whether its score is the highest so far.
          whole: whether the step is the end of an epoch.
        """
        assert self.ranks is not None
        counts = {name: getattr(self.ranks, name) for name in ("higher", "equal")}
        rule = "latest" if whole else f"step {step:,}, when the given time was up"
        lines = [{"step": step, "chosen_by": rule} | line]
        if is_best:
            by_best = f"best, the highest {title(BEST_KEY)} on test"
            self._best = {"step": step, "chosen_by": by_best} | line
            self._best["protocol"] = EXACT_AT_BEST
            self._best_ranks = {f"best_{name}": c for name, c in counts.items()}
        else:
            lines.append(self._best)
            counts |= self._best_ranks
        counts["predictions"] = self._sessions
        arrays = {name: column.astype(np.uint32) for name, column in counts.items()}
        self.write()
        self._write_json("evaluation.json", lines)
        with replacing(self._out / "ranks.npz") as new, open(new, "wb") as file:
            np.savez_compressed(file, **arrays)

    def write(self, **more: Any) -> None:
        """Writes config.json, with more in its provenance."""
        self._config["provenance"] |= more
        self._write_json(CONFIG, self._config)

    def _write_json(self, name: str, content: Any) -> None:
        with replacing(self._out / name) as new:
            new.write_text(json.dumps(content, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    rectools_model.add_arguments(parser)
    add = parser.add_argument
    add("--out", type=Path, required=True, help="folder to make")
    add("--epochs", type=int, default=3, help="3 is the library's default")
    add("--stop_after", type=int, default=0, help="evaluations without a higher one")
    add("--minutes", type=float, default=float("inf"), help="after which it ends")
    add("--log_every", type=int, default=100, help="steps")
    arguments = parser.parse_args()
    rectools_model.complete(arguments)
    try:
        run(arguments)
    except UserError as error:
        sys.exit(f"error: {error}")


def run(arguments: argparse.Namespace) -> None:
    """Trains, evaluates and keeps."""
    data = open_prepared(arguments.data)
    if not data.test.num_sessions:
        raise UserError(f"{arguments.data} has no test sessions; expected some")
    settings = rectools_model.config_of(
        arguments, arguments.epochs, arguments.stop_after
    )
    provenance = describe(arguments, data)
    kept = Kept(
        arguments.out,
        settings | {"provenance": provenance},
        data.test.lengths - 1,
    )
    queries = rectools_ranks.make_queries(data.test, arguments.length)

    def evaluate() -> tuple[dict[str, Any], dict[str, Any]]:
        kept.ranks, more = rectools_ranks.evaluate(model, queries, data.num_items)
        line = summarise(kept.ranks, "exact", split="test", reported=REPORTED)
        assert line is not None
        return line, more

    with MetricsWriter(arguments.out / METRICS) as writer:
        follower = Follower(
            writer,
            evaluate,
            kept.keep,
            every=arguments.log_every,
            stop_after=arguments.stop_after,
            minutes=arguments.minutes,
        )
        model = rectools_model.make_model(arguments, arguments.epochs, [follower])
        model.fit(rectools_model.interactions(data.train.items, data.train.lengths))
    held = rectools_ranks.compare_with_recommend(
        model, queries, CHECKED, data.num_items
    )
    parameters = sum(p.numel() for p in model.torch_model.parameters())
    kept.write(parameters=parameters, held_against_recommend=held)
    print(f"beside the library's own recommend: {json.dumps(held)}")
    print(f"kept in {arguments.out}")


def describe(arguments: argparse.Namespace, data: PreparedData) -> dict[str, Any]:
    """Data, code, packages, machine, and how it was started."""
    versions = rectools_model.versions()
    named = {
        name: Path(value).name if name in PATHS else value
        for name, value in vars(arguments).items()
    }
    return {
        "fingerprint": data.fingerprint,
        "num_items": data.num_items,
        "git": git_commit(),
        "python": platform.python_version(),
        "device": "cpu",
        **versions,
        "program": " ".join(f"{name} {value}" for name, value in versions.items()),
        "argv": [
            "experiments.benchmarks.peers.rectools_sasrec",
            *(f"--{name}={value}" for name, value in named.items()),
        ],
        "threads": arguments.threads,
        "cores": len(os.sched_getaffinity(0)),
        "nice": os.nice(0),
        "load": round(os.getloadavg()[0], 1),
    }


@functools.cache
def git_commit() -> str:
    """The commit of this code, with a + where files differ; empty outside git."""

    def git(*arguments: str) -> str:
        command = ("git", "-C", str(Path(__file__).parent), *arguments)
        return subprocess.run(
            command, check=True, capture_output=True, text=True
        ).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


if __name__ == "__main__":
    main()
