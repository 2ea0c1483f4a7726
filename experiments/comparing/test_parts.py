"""What runs predict: the clicks of their test parts, and which of them are the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from experiments.assembly import evaluating
from experiments.assembly.run_parts import splits
from experiments.comparing import ranks, same_clicks
from experiments.runs.reading import Run
from tron_jax.data.sessions import PreparedData, alone, open_prepared
from tron_jax.errors import UserError
from tron_jax.evaluation.histories import consecutive
from tron_jax.files import local_path

LEAST_SHARED = 0.5  # of the predictions, or else the test parts are not the same log's
PATH = "data.path"
HELD_OUT = ("data.validation", "data.without_last", "data.last_days")
MOST_NAMED = 3  # runs in a message


class Shared(NamedTuple):
    """The predictions that all runs have in common.

    Attributes:
      session: [predictions] number of the session, from 0 on without gaps.
      num_sessions: how many there are.
      label: [predictions] index of the label in the test items of ``data``.
      data: the set that ``label`` points into; None where none is at hand.
      index: by fingerprint, [predictions] where they are among a run's ranks.
      in_all: how many predictions each run's test part has, by fingerprint.
    """

    session: np.ndarray
    num_sessions: int
    label: np.ndarray
    data: PreparedData | None
    index: dict[str, np.ndarray]
    in_all: dict[str, int]


def open_sets(
    runs: Sequence[Run], given: Sequence[str]
) -> tuple[dict[str, PreparedData], list[str]]:
    """Opens the prepared sets that are at hand.

    Args:
      runs: that are compared.
      given: folders of some of their sets, which may have moved.

    Returns:
      Sets by their fingerprint; and warnings of those that are not at hand.

    Raises:
      UserError: where a given one is of none of the runs, or damaged.
    """
    found: dict[str, PreparedData] = {}
    for folder in given:
        data = open_prepared(local_path(folder))
        if data.fingerprint not in {run.fingerprint for run in runs}:
            raise UserError(
                f"--data={folder} has fingerprint {data.fingerprint[:12]}; expected "
                f"that of the runs, {_fingerprints(runs)}"
            )
        found.setdefault(data.fingerprint, data)
    for run in runs:
        path = run.fields.get(PATH)
        if run.fingerprint in found or not path or not Path(path).is_dir():
            continue
        try:
            data = open_prepared(path)
        except UserError:  # somebody else's folder by now
            continue
        found.setdefault(data.fingerprint, data)  # another, if it was made anew
    missing = [run for run in runs if run.fingerprint not in found]
    warnings = []
    if missing:
        warnings.append(
            f"the prepared set {_fingerprints(missing)} is not at hand (--data names "
            "its folder): no slices"
        )
    return found, warnings


def _fingerprints(runs: Sequence[Run]) -> str:
    return ", ".join(dict.fromkeys(run.fingerprint[:12] for run in runs))


def shown(
    runs: Sequence[Run], sets: Mapping[str, PreparedData]
) -> dict[str, PreparedData]:
    """Puts what runs are compared on in the place of the test part.

    That is the validation sessions of runs that do not look at test
    (train.evaluate_on=validation).

    Args:
      runs: that are compared.
      sets: prepared sets by fingerprint.

    Raises:
      UserError: where it is not the same sessions of all runs.
    """
    first, *others = runs
    for other in others:
        if held_out(other) != held_out(first):
            raise UserError(
                f"{first.path} is evaluated on {_words(first)}, {other.path} on "
                f"{_words(other)}; expected runs on the same sessions"
            )
    if held_out(first)[0] == "test":
        return dict(sets)
    config = ConfigDict({"data": {}, "train": {"evaluate_on": "all"}})
    for field in HELD_OUT:
        config.data[field.partition(".")[2]] = first.fields[field]
    return {
        name: found._replace(test=alone(splits(config, found)["validation"]))
        for name, found in sets.items()
    }


def held_out(run: Run) -> tuple[Any, ...]:
    """The split that a run is compared on, and if not test, how it is cut off."""
    split = evaluating.shown_split(run.fields.get("train.evaluate_on", "all"))
    if split == "test":
        return (split,)
    return split, *(run.fields[field] for field in HELD_OUT)


def _words(run: Run) -> str:
    split, *values = held_out(run)
    pairs = zip(HELD_OUT, values, strict=False)
    return " ".join([split, *(f"{field}={value}" for field, value in pairs if value)])


def refuse_different(runs: Sequence[Run], sets: Mapping[str, PreparedData]) -> None:
    """Refuses runs on different data whose test parts cannot be matched.

    Raises:
      UserError: naming a run of each.
    """
    first, *others = dict.fromkeys(run.fingerprint for run in runs)
    for other in others:
        if not {first, other} <= sets.keys():
            raise UserError(
                f"{_differ(runs, first, other)}; to compare what both have of one log, "
                f"both prepared sets must be at the runs' {PATH}, or each named by a "
                "--data of its own"
            )


def _differ(runs: Sequence[Run], *fingerprints: str) -> str:
    """Names the runs on two sets."""
    named = []
    for fingerprint in fingerprints:
        paths = [run.path for run in runs if run.fingerprint == fingerprint]
        more = f" and {len(paths) - MOST_NAMED} more" * (len(paths) > MOST_NAMED)
        named.append(f"{', '.join(paths[:MOST_NAMED])}{more} (data {fingerprint[:12]})")
    return f"the test parts differ: {' / '.join(named)}"


def shared_predictions(
    runs: Sequence[Run], sets: Mapping[str, PreparedData]
) -> tuple[Shared | None, list[str]]:
    """Finds the predictions that all runs made, whose ranks can be paired.

    Args:
      runs: that are compared.
      sets: prepared sets by fingerprint; of all runs, where those have several.

    Returns:
      The predictions, None where nothing tells to which sessions they belong; and
      warnings.

    Raises:
      UserError: where test parts have little in common, or a run's ranks are not of its
        test part.
    """
    first = runs[0].fingerprint
    fingerprints = dict.fromkeys(run.fingerprint for run in runs)
    known = {name: _counts(name, runs, sets) for name in fingerprints}
    counts = {name: count for name, count in known.items() if count is not None}
    count = counts.get(first)
    if count is None:
        if not any(ranks.path_of(run) for run in runs):
            return None, []
        return None, [
            "which predictions are of one session is not known (results kept before "
            "predictions per session were): means only, unless --data names their set"
        ]
    for run in runs:
        _check_count(run, int(counts[run.fingerprint].sum()))
    kept, rows, warnings = count, {first: np.arange(len(count))}, []
    for name in fingerprints:
        if name == first:
            continue
        row, same = same_clicks.match(sets[first], sets[name])
        kept, rows[name] = np.minimum(kept, np.maximum(same - 1, 0)), row
        least = int(min(count.sum(), counts[name].sum()) * LEAST_SHARED)
        if kept.sum() <= least:
            raise UserError(
                f"{_differ(runs, first, name)}: {kept.sum():,} of {count.sum():,} "
                "predictions are in both"
            )
    if len(rows) > 1:
        warnings.append(
            "the runs' data differ in their train part; differences and slices are "
            f"over the {kept.sum():,} of {count.sum():,} predictions that all have, "
            "matched by raw ids"
        )
    return _laid_out(kept, rows, counts, sets.get(first)), warnings


def _counts(
    fingerprint: str, runs: Sequence[Run], sets: Mapping[str, PreparedData]
) -> np.ndarray | None:
    """Predictions of each test session: of the set, or else as a run's file says."""
    if fingerprint in sets:
        return sets[fingerprint].test.lengths.astype(np.int64) - 1
    for run in runs:
        path = ranks.path_of(run)
        if run.fingerprint == fingerprint and path is not None:
            found = ranks.predictions_per_session(path)
            if found is not None and found.sum() != run.evaluations["exact"]["events"]:
                raise UserError(f"{path} is damaged: it lacks predictions or has more")
            if found is not None:
                return found
    return None


def _check_count(run: Run, count: int) -> None:
    found = run.evaluations["exact"]["events"]
    if count != found:
        raise UserError(
            f"{run.path} has {found:,} predictions of test; its data have {count:,}"
        )


def _laid_out(
    kept: np.ndarray,
    rows: Mapping[str, np.ndarray],
    counts: Mapping[str, np.ndarray],
    data: PreparedData | None,
) -> Shared:
    """Lists predictions: the first ``kept`` of each session of the first set."""
    index = {}
    some = np.flatnonzero(kept)
    kept = kept[some]
    for name, row in rows.items():
        start = np.cumsum(counts[name]) - counts[name]
        index[name] = consecutive(start[row[some]], kept)
    label = np.zeros(0, np.int64)
    if data is not None:
        label = consecutive(data.test.offsets[some].astype(np.int64) + 1, kept)
    return Shared(
        session=np.repeat(np.arange(len(kept)), kept),
        num_sessions=len(kept),
        label=label,
        data=data,
        index=index,
        in_all={name: int(count.sum()) for name, count in counts.items()},
    )
