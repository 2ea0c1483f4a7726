"""The ranks of a run's predictions, of a workdir or a kept result.

They are those of ``exact``, of the state that it was taken at or of the best one.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from experiments.runs import choices
from experiments.runs.reading import EVALUATION, Run
from tron_jax.errors import UserError
from tron_jax.evaluation.metrics import BEST_CUTOFF, BEST_KEY, METRICS, recall
from tron_jax.evaluation.protocols import EXACT_AT_BEST, PROTOCOLS

WORKDIR, KEPT = "ranks.parquet", "ranks.npz"
KEPT_PREFIX = {"exact": "", EXACT_AT_BEST: "best_"}  # of the columns of ranks.npz


class Ranks(NamedTuple):
    """In the order of session and event.

    Attributes:
      rank: [predictions] of the label, 1 = the best.
      tied: [predictions] whether another item scored as high.
    """

    rank: np.ndarray
    tied: np.ndarray


def path_of(run: Run, protocol: str = "exact") -> Path | None:
    """The file that holds them.

    Args:
      run: whose they are.
      protocol: ``exact`` or ``exact_at_best``.

    Returns:
      The path; None where the run has none, or is not at its end.
    """
    if protocol not in run.evaluations or choices.unsettled(run):
        return None
    paths = [run.folder / name for name in (WORKDIR, KEPT)]
    return next((path for path in paths if path.is_file()), None)


def read(run: Run, path: Path, protocol: str = "exact") -> Ranks:
    """Reads the ranks and checks that the run's figures are theirs.

    Args:
      run: whose they are.
      path: of the file, see ``path_of``.
      protocol: ``exact`` or ``exact_at_best``.

    Raises:
      UserError: if the file is damaged, or of another evaluation.
    """
    line = run.evaluations[protocol]
    same = line["step"] == run.evaluations["exact"]["step"]
    stored = "exact" if same else protocol  # what would be there twice is not
    prefix = KEPT_PREFIX[stored] if path.name == KEPT else ""
    columns = _columns(path, (f"{prefix}higher", f"{prefix}equal"), protocol=stored)
    higher, equal = columns.values()
    rank = PROTOCOLS["exact"].ties(higher, equal)
    figure = line.get(BEST_KEY)
    fits = len(rank) == line["events"] and len(rank) > 0
    if fits and figure is not None:
        fits = abs(recall(rank, BEST_CUTOFF).mean() - figure) < 1e-9
    if not fits:
        raise UserError(
            f"{path} does not hold the ranks that {EVALUATION} beside it sums up; run "
            "experiments.evaluate again"
        )
    return Ranks(rank, equal > 0)


def completed(run: Run, keys: Sequence[str]) -> Run:
    """Adds the metrics to ``exact`` that an older evaluation lacks, from the ranks.

    Args:
      run: any.
      keys: of the metrics.
    """
    exact, path = run.evaluations["exact"], path_of(run)
    lacking = {key: key.partition("@") for key in keys if key not in exact}
    known = {key: part for key, part in lacking.items() if part[0] in METRICS}
    if not known or path is None:
        return run
    rank = read(run, path).rank
    added = {
        key: float(METRICS[name](rank, int(cutoff)).mean())
        for key, (name, _, cutoff) in known.items()
    }
    return run._replace(evaluations=run.evaluations | {"exact": exact | added})


def predictions_per_session(path: Path) -> np.ndarray | None:
    """How many predictions each test session has, in order, as the file says it.

    Returns:
      [sessions]; None where the file, kept by an older version, does not say it.
    """
    if path.name == KEPT:
        return _columns(path, (), ("predictions",)).get("predictions")
    event = _columns(path, ("event",))["event"]
    first = np.flatnonzero(event == 1)  # every session predicts its second click
    return np.diff(first, append=len(event))


def _columns(
    path: Path,
    needed: tuple[str, ...],
    wanted: tuple[str, ...] = (),
    *,
    protocol: str = "exact",
) -> dict[str, np.ndarray]:
    """Columns by name; of those that are only wanted, what there is.

    A file of a workdir has those of a protocol in rows of its own.
    """
    try:
        if path.name == KEPT:
            with np.load(path, allow_pickle=False) as arrays:
                names = [*needed, *(name for name in wanted if name in arrays)]
                found = {name: arrays[name].astype(np.int64) for name in names}
        else:
            rows = [("protocol", "=", protocol)]
            table = pq.read_table(path, columns=list(needed), filters=rows)
            found = {name: table[name].to_numpy().astype(np.int64) for name in needed}
    except pa.ArrowException as error:
        raise UserError(f"{path} is damaged: {str(error).splitlines()[0]}") from error
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    if len({len(array) for array in found.values()}) > 1 and not wanted:
        raise UserError(f"{path} is damaged: columns of different lengths")
    return found
