"""What a comparison holds; its tables, pictures and page are made of this alone."""

from __future__ import annotations

from typing import NamedTuple


class Figure(NamedTuple):
    """A figure of a setting.

    Attributes:
      mean: over its runs.
      deviation: standard deviation of one run, sample formula; None of a single run.
      runs: how many have it.
    """

    mean: float
    deviation: float | None
    runs: int


class Curve(NamedTuple):
    """How one run went.

    Attributes:
      seed: of the run.
      epochs: [E] of its evaluations in ``exact`` on test (validation where no test).
      seconds: [E] training time at each, evaluation and saving not counted; () where
        it is that of another device than the baseline's.
      recall: [E] Recall@20.
      loss_epochs: [L] ends of the log windows.
      losses: [L] mean loss of each.
    """

    seed: int
    epochs: tuple[float, ...]
    seconds: tuple[float, ...]
    recall: tuple[float, ...]
    loss_epochs: tuple[float, ...]
    losses: tuple[float, ...]


class Choice(NamedTuple):
    """At which state a protocol was taken.

    Attributes:
      steps: of each run of the setting.
      epochs: of each run.
      rule: that chose them, such as ``latest``.
    """

    steps: tuple[int, ...]
    epochs: tuple[float, ...]
    rule: str


class Setting(NamedTuple):
    """Runs that differ by their seed alone: a row of the table.

    Attributes:
      name: unique among the settings, as short as may be; what --baseline names.
      fields: of the fields that differ between settings, the value of this one, as
        text; "" where it has none.
      seeds: of the runs, in their order.
      paths: folders of the runs, as the user named them.
      commits: of the code that made each, several where it was resumed by another.
      figures: by protocol (``paper``, ``exact``, ``exact_at_best``), then by key
        (``recall@20``); a protocol that no run has is left out.
      chosen: by the same protocols.
      sessions_per_s: in training; None where no run can say.
      seconds_to_best: training time until the best step.
      peak_memory_gb: largest of a run.
      parameters: numbers that are learnt; None where not recorded.
      curves: of the runs that have a log.
      published: by key, what others report of it.
      remarks: what a reader must know, such as ``not finished: 3 of 5 epochs``.
    """

    name: str
    fields: dict[str, str]
    seeds: tuple[int, ...]
    paths: tuple[str, ...]
    commits: tuple[str, ...]
    figures: dict[str, dict[str, Figure]]
    chosen: dict[str, Choice]
    sessions_per_s: Figure | None
    seconds_to_best: Figure | None
    peak_memory_gb: Figure | None
    parameters: int | None
    curves: tuple[Curve, ...]
    published: dict[str, float]
    remarks: tuple[str, ...]


class Difference(NamedTuple):
    """Between two settings in a metric, over the same predictions.

    Attributes:
      baseline: name of the setting that is compared with.
      setting: name of the other.
      key: of the metric.
      value: setting minus baseline.
      low: lower end of the 95 % interval.
      high: upper end.
      p: two-sided; None where there is no test.
      p_holm: adjusted for the family (Holm); None outside the families.
      covers_seeds: whether the interval covers training noise, which takes two runs or
        more on both sides; if not, it covers the draw of sessions alone.
    """

    baseline: str
    setting: str
    key: str
    value: float
    low: float
    high: float
    p: float | None
    p_holm: float | None
    covers_seeds: bool


class Claim(NamedTuple):
    """What others found of two settings in a metric, and what these runs say of it.

    Attributes:
      text: the claim, in a few words.
      higher: one of the two settings, by the name that the claim gives it.
      lower: the other.
      key: of the metric.
      published: higher minus lower, as published; below 0 where the claim is that it is
        lower in this metric.
      difference: the same of these runs; None where they say nothing.
      open: why the runs cannot settle it; "" where they can.
    """

    text: str
    higher: str
    lower: str
    key: str
    published: float
    difference: Difference | None
    open: str


class SliceValue(NamedTuple):
    """A metric of one setting on a slice, with its 95 % interval."""

    setting: str
    value: float
    low: float
    high: float


class Slice(NamedTuple):
    """Some of the predictions, and how each setting does on them.

    Attributes:
      by: what the predictions were divided by, such as ``position in the session``.
      name: of this part, such as ``3`` or ``11 and more``.
      predictions: how many.
      key: of the metric, ``recall@20``.
      values: of each setting that has predictions known one by one.
    """

    by: str
    name: str
    predictions: int
    key: str
    values: tuple[SliceValue, ...]


class Comparison(NamedTuple):
    """All that is shown.

    Attributes:
      title: what is compared, such as the name of a sweep folder.
      data: of the test part: name, sessions, predictions, as a line.
      keys: of the metrics, in order, such as recall@5.
      settings: in the order of the table.
      baseline: name of the setting that differences are to; None with one setting.
      contrasts: which settings are compared: ``baseline`` (each with that one),
        ``chain`` (each with the one before it) or ``pairs``.
      protocol: whose predictions are compared: ``exact`` or ``exact_at_best``.
      differences: of these contrasts, in that protocol.
      claims: of others, and whether they hold.
      slices: grouped by ``by``.
      swept: fields with more than one numeric value among the settings, and with them
        the values in ascending order.
      warnings: what holds of the whole, one line each.
      commands: that repeat it, as typed: the sweep's or the runs', then compare's.
    """

    title: str
    data: str
    keys: tuple[str, ...]
    settings: tuple[Setting, ...]
    baseline: str | None
    contrasts: str
    protocol: str
    differences: tuple[Difference, ...]
    claims: tuple[Claim, ...]
    slices: tuple[Slice, ...]
    swept: dict[str, tuple[float, ...]]
    warnings: tuple[str, ...]
    commands: tuple[str, ...]
