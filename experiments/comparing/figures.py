"""What the files of runs say of a setting: means, curves, speed, memory."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from experiments.comparing.comparison import Choice, Curve, Figure
from experiments.runs import reading
from experiments.runs.choices import best_of, rule_of, rule_of_best
from experiments.runs.reading import Record, Run
from tron_jax.evaluation.metrics import BEST_KEY, METRICS
from tron_jax.evaluation.protocols import EXACT_AT_BEST

PROTOCOLS = ("paper", "exact", EXACT_AT_BEST)


class Timed(NamedTuple):
    """A window of the log.

    Attributes:
      step: at which it ended.
      seconds: of training; evaluation and saving are not counted.
      sessions: that were trained on.
    """

    step: int
    seconds: float
    sessions: float


def figure(values: Iterable[float | None]) -> Figure | None:
    """Mean and deviation of what runs have; None where none has it."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    deviation = statistics.stdev(known) if len(known) > 1 else None
    return Figure(statistics.fmean(known), deviation, len(known))


def at_best(runs: Sequence[Run], *, wanted: bool = False) -> list[Run]:
    """Gives runs whose latest state is the best one its figures under that name too.

    ``evaluate`` leaves out what would be there twice, but a mean over seeds needs it.

    Args:
      runs: any.
      wanted: whether they are, even if the latest is the best of all runs.
    """
    if not wanted and not any(EXACT_AT_BEST in run.evaluations for run in runs):
        return list(runs)
    completed = []
    for run in runs:
        exact, best = run.evaluations["exact"], best_of(run)[0]
        if run.finished and exact["step"] == best:
            by_best = exact | {"chosen_by": rule_of_best(run)}
            both = {EXACT_AT_BEST: by_best} | run.evaluations
            run = run._replace(evaluations=both)
        completed.append(run)
    return completed


def keys_of(runs: Sequence[Run]) -> tuple[str, ...]:
    """All metrics that any run has, by metric and cut-off."""
    found = {
        key
        for run in runs
        for line in run.evaluations.values()
        for key in line
        if reading.is_metric(key)
    }
    names = list(METRICS)

    def place(key: str) -> tuple[int, int]:
        name, _, cutoff = key.partition("@")
        return names.index(name) if name in METRICS else len(names), int(cutoff)

    return tuple(sorted(found, key=place))


def of_protocols(
    runs: Sequence[Run], keys: Sequence[str]
) -> dict[str, dict[str, Figure]]:
    """Figures of the protocols that any run has, by key."""
    found: dict[str, dict[str, Figure]] = {}
    for protocol in PROTOCOLS:
        lines = [r.evaluations[protocol] for r in runs if protocol in r.evaluations]
        for key in keys:
            mean = figure(line.get(key) for line in lines)
            if mean is not None:
                found.setdefault(protocol, {})[key] = mean
    return found


def chosen(runs: Sequence[Run]) -> dict[str, Choice]:
    """At which state each protocol was taken, and why there."""
    choices = {}
    for protocol in PROTOCOLS:
        having = [run for run in runs if protocol in run.evaluations]
        if having:
            rules = (rule_of(run, protocol) for run in having)
            choices[protocol] = Choice(
                tuple(int(run.evaluations[protocol]["step"]) for run in having),
                tuple(_epoch(run, run.evaluations[protocol]) for run in having),
                "; ".join(dict.fromkeys(rules)),
            )
    return choices


def _epoch(run: Run, line: Record) -> float:
    """Passes over the train sessions by a line; NaN where no log tells it."""
    if "epoch" in line:
        return float(line["epoch"])
    per_epoch = reading.steps_per_epoch(run)
    return float("nan") if per_epoch is None else line["step"] / per_epoch


def windows(run: Run, speed: float | None = None) -> list[Timed]:
    """The log's lines of training, with the time that each took.

    Args:
      run: whose log.
      speed: sessions a second, measured elsewhere, instead of the log's.
    """
    per_epoch, found, before = reading.steps_per_epoch(run), [], 0
    for line in run.log:
        if per_epoch is not None and "epochs_per_hour" in line:
            epochs = (line["step"] - before) / per_epoch
            seconds = 3600 * epochs / line["epochs_per_hour"]
            sessions = line["sessions_per_s"] * seconds
            seconds = sessions / speed if speed else seconds
            found.append(Timed(line["step"], seconds, sessions))
            before = line["step"]
    return found


def seconds_until(timed: Sequence[Timed], step: int) -> float:
    """Seconds of training until a step at which a window ends."""
    return sum(window.seconds for window in timed if window.step <= step)


def curve(run: Run, speed: float | None = None) -> Curve | None:
    """How a run went, by its log, perhaps at another speed; None where it has none."""
    if not run.log:
        return None
    exact = [x for x in run.log if x.get("protocol") == "exact" and BEST_KEY in x]
    tests = [x for x in exact if x.get("split") == "test"]
    shown, timed = tests or exact, windows(run, speed)
    losses = [line for line in run.log if "loss" in line]
    return Curve(
        seed=run.seed,
        epochs=tuple(_epoch(run, line) for line in shown),
        seconds=tuple(seconds_until(timed, line["step"]) for line in shown),
        recall=tuple(line[BEST_KEY] for line in shown),
        loss_epochs=tuple(_epoch(run, line) for line in losses),
        losses=tuple(line["loss"] for line in losses),
    )


def undisturbed(run: Run) -> bool | None:
    """Whether nothing else ran beside it, at its start and at each resume.

    Returns:
      None where a run of an older version does not say it.
    """
    conditions, found = {}, True
    for change in reading.changes(run.made_with):
        conditions |= {k: change[k] for k in ("nice", "load", "cores") if k in change}
        if len(conditions) < 3:
            return None
        quiet = conditions["load"] < conditions["cores"] + 1
        found = found and conditions["nice"] == 0 and quiet
    return found


def sessions_per_s(run: Run) -> float | None:
    """Training sessions a second, over all of the log; None where not known."""
    timed = windows(run)
    seconds = sum(window.seconds for window in timed)
    if not seconds or not undisturbed(run):
        return None
    return sum(window.sessions for window in timed) / seconds


def seconds_to_best(run: Run, speed: float | None = None) -> float | None:
    """Training time until the best step; None where not known.

    Args:
      run: whose log.
      speed: as for ``windows``.
    """
    best, timed = best_of(run)[0], windows(run, speed)
    if best is None or not timed or not (speed or undisturbed(run)):
        return None
    return seconds_until(timed, best)


def peak_memory_gb(runs: Sequence[Run]) -> Figure | None:
    """The most that each run took, and of these the mean; None without runs."""
    peaks = [
        max(
            (x["peak_memory_gb"] for x in run.log if "peak_memory_gb" in x),
            default=None,
        )
        for run in runs
    ]
    return figure(peaks)


def parameters(runs: Sequence[Run]) -> int | None:
    """Numbers that are learnt; None where no run recorded it."""
    return next(
        (r.made_with["parameters"] for r in runs if "parameters" in r.made_with), None
    )
