"""What a warm start is worth: Recall@20 of all test clicks, and of those on new items.

    python -m experiments.benchmarks.warm_start --old=OLD_RUN --data=DIR --out=PAGE \
        --run=warm=WARM_RUN --run=scratch=RUN

Every checkpoint of every run is evaluated (`exact`) on the test clicks of DIR; of a run
that `experiments.keep` has kept, there are its best and its last state. A click on an
item that a run does not know counts as a miss. New are the items that OLD_RUN does not
know. Intervals are of a bootstrap by session and do not cover the noise of training;
differences are to the best state of the run that is named last, over the same draws.
Writes warm_start.json, .md and .png.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from absl import flags

from experiments import entry, provenance, workdirs
from experiments.assembly import evaluating, run_parts
from experiments.benchmarks import warm_start_page
from experiments.comparing import figures, ranks
from experiments.comparing.figures import Timed
from experiments.comparing.statistics import TrainingNoise, estimate, replicate_totals
from experiments.recommending.item_ids import numbers_of
from experiments.runs import reading
from tron_jax.console.messages import say
from tron_jax.data.catalogue import ITEMS
from tron_jax.data.sessions import PreparedData, catalogue_of, open_prepared
from tron_jax.errors import UserError
from tron_jax.evaluation.metrics import BEST_CUTOFF
from tron_jax.evaluation.protocols import EXACT_AT_BEST, PROTOCOLS
from tron_jax.files import local_path
from tron_jax.storage.checkpoints import Checkpoints

ONE_SEED = (TrainingNoise(0.0, 1),)


class Labels(NamedTuple):
    """The test clicks that count.

    Attributes:
      data: the set that they are of, with S sessions.
      on_new: [labels] bool, whether it is of a new item, in the order of the sessions.
      counts: [S, 2] how many a session has: all, and those on new items.
      old_ids: raw ids of the items that are not new.
    """

    data: PreparedData
    on_new: np.ndarray
    counts: np.ndarray
    old_ids: pa.Array


class Point(NamedTuple):
    """A checkpoint.

    Attributes:
      run: its name.
      step: updates made.
      sessions: trained on until then.
      seconds: of training until then, as logged.
      hits: [S, 2] labels among the best 20: all, and those on new items.
    """

    run: str
    step: int
    sessions: float
    seconds: float
    hits: np.ndarray


def main(argv: Sequence[str]) -> int:
    values = flags.FlagValues()
    for name, told in {
        "old": "Workdir of the run whose items are not new.",
        "data": "The prepared set whose test clicks count.",
        "out": "Folder to be made.",
    }.items():
        flags.DEFINE_string(name, None, told, required=True, flag_values=values)
    flags.DEFINE_multi_string(
        "run",
        None,
        "NAME=WORKDIR, as often as needed.",
        required=True,
        flag_values=values,
    )
    return entry.run(run, values, argv)


def run(values: flags.FlagValues) -> None:
    out = local_path(values.out)
    if out.exists():
        raise UserError(f"--out={out} exists; expected a folder to be made")
    named = dict(_named(one) for one in values.run)
    data = open_prepared(local_path(values.data))
    labels = _labels(data, local_path(values.old) / ITEMS)
    run_parts.use_compilation_cache()
    points = [
        point
        for name, place in named.items()
        for point in (
            _points(name, place, labels)
            if (place / workdirs.CHECKPOINTS).is_dir()
            else _kept(name, place, labels)
        )
    ]
    report = {
        "labels": dict(zip(("all", "new"), labels.counts.sum(0).tolist(), strict=True)),
        "sessions": data.test.num_sessions,
        "fingerprint": data.fingerprint,
        "runs": {name: _made_with(place) for name, place in named.items()},
        "points": _figures(points, labels.counts),
    }
    workdirs.refuse_unwritable(out)
    out.mkdir(parents=True)
    workdirs.write_json(out / "warm_start.json", report)
    warm_start_page.write(out, report)
    say(f"written to {out}")


def _named(argument: str) -> tuple[str, Path]:
    name, equals, place = argument.partition("=")
    if not equals:
        raise UserError(f"--run={argument}: expected NAME=WORKDIR")
    return name, local_path(place)


def _labels(data: PreparedData, old_items: Path) -> Labels:
    try:
        old_ids = pq.read_table(old_items)["raw_id"].combine_chunks()
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"--old: cannot read {old_items} ({error})") from error
    is_new = numbers_of(catalogue_of(data).raw_ids, old_ids) == 0
    # A session's first click is not predicted.
    on_new = np.delete(is_new[data.test.items - 1], data.test.offsets[:-1])
    session = np.repeat(np.arange(data.test.num_sessions), data.test.lengths - 1)
    every = np.ones(len(on_new), bool)
    counts = _of_sessions(every, on_new, session, data.test.num_sessions)
    return Labels(data, on_new, counts, old_ids)


def _points(name: str, place: Path, labels: Labels) -> list[Point]:
    """Evaluates the checkpoints of a run."""
    config, _ = workdirs.read_config(place)
    config.train.mesh = 1  # as checkpoints are, on however many it was trained
    data = run_parts.open_data(config)
    train = run_parts.splits(config, data)["train"]
    parts = run_parts.build(config, data.num_items, train)
    shapes = jax.eval_shape(parts.init)
    logged = reading.load(str(place))
    windows = [] if logged is None else figures.windows(logged)
    is_new = numbers_of(catalogue_of(data).raw_ids, labels.old_ids) == 0
    numbers = numbers_of(data.test.ids, labels.data.test.ids) - 1
    checkpoints = Checkpoints(place / workdirs.CHECKPOINTS)
    points = []
    for step in checkpoints.steps():
        state, _ = checkpoints.restore(step, shapes)
        evaluation = evaluating.evaluate(
            parts.evaluator,
            state,
            step,
            data.test,
            split="test",
            metrics=evaluating.reported_metrics(config),
        )
        found = evaluation.ranks["exact"]
        hit = PROTOCOLS["exact"].ties(found.higher, found.equal) <= BEST_CUTOFF
        hits = _of_sessions(
            hit, is_new[found.label - 1], numbers[found.session], len(labels.counts)
        )
        points.append(_point(name, step, windows, hits))
        say(f"{name}, step {step:,}: {hits.sum(0)} of {labels.counts.sum(0)}")
    return points


def _kept(name: str, place: Path, labels: Labels) -> list[Point]:
    """The states of a kept result whose ranks there are."""
    found = reading.load(str(place))
    if found is None or found.fingerprint != labels.data.fingerprint:
        raise UserError(
            f"--run={name}={place}: expected a run with checkpoints, or the kept "
            "result of one on --data"
        )
    session = np.repeat(np.arange(len(labels.counts)), labels.counts[:, 0])
    points = []
    for protocol in (EXACT_AT_BEST, "exact"):
        path = ranks.path_of(found, protocol)
        if path is not None:
            hit = ranks.read(found, path, protocol).rank <= BEST_CUTOFF
            hits = _of_sessions(hit, labels.on_new, session, len(labels.counts))
            step = int(found.evaluations[protocol]["step"])
            points.append(_point(name, step, figures.windows(found), hits))
    return points


def _point(name: str, step: int, windows: Sequence[Timed], hits: np.ndarray) -> Point:
    sessions = sum(window.sessions for window in windows if window.step <= step)
    return Point(name, step, sessions, figures.seconds_until(windows, step), hits)


def _of_sessions(
    counted: np.ndarray, on_new: np.ndarray, session: np.ndarray, num_sessions: int
) -> np.ndarray:
    """[num_sessions, 2] how many labels are counted: of all, and of new items."""
    both = (counted, counted & on_new)
    return np.stack(
        [np.bincount(session[one], minlength=num_sessions) for one in both], 1
    )


def _figures(points: Sequence[Point], counts: np.ndarray) -> list[dict[str, Any]]:
    """Recall of each point with its interval, and how far it is from the baseline."""
    last = [n for n, point in enumerate(points) if point.run == points[-1].run]
    baseline = max(last, key=lambda n: points[n].hits[:, 0].sum())
    columns = np.concatenate([*(point.hits for point in points), counts], 1)
    totals, drawn = columns.sum(0), replicate_totals(columns)
    lines: list[dict[str, Any]] = []
    for n, point in enumerate(points):
        line: dict[str, Any] = {
            "run": point.run,
            "step": point.step,
            "sessions": round(point.sessions),
            "seconds": round(point.seconds, 1),
        }
        for part, name in enumerate(("all", "new")):
            own, other, of = (2 * at + part for at in (n, baseline, len(points)))
            recall, replicates = totals[own] / totals[of], drawn[:, own] / drawn[:, of]
            behind = recall - totals[other] / totals[of]
            differences = replicates - drawn[:, other] / drawn[:, of]
            line[name] = _interval(recall, replicates)
            line[f"{name}_difference"] = _interval(behind, differences)
        line["baseline"] = n == baseline
        lines.append(line)
    return lines


def _interval(value: float, replicates: np.ndarray) -> list[float]:
    """The value, and the ends of its interval."""
    found = estimate(float(value), float(np.var(replicates, ddof=1)), ONE_SEED)
    return [round(x, 5) for x in (found.value, found.low, found.high)]


def _made_with(place: Path) -> dict[str, Any]:
    """The command of a run, its data and code, and what it started from."""
    _, made_with = workdirs.read_config(place)
    shown = provenance.without_paths(made_with)
    keys = ("argv", "git", "fingerprint", "num_items", "init", "cores", "load")
    return {key: shown[key] for key in keys if key in shown}


if __name__ == "__main__":
    entry.start(main)
