"""The paper's filters and split: which step follows which, part by part."""

import dataclasses
import itertools
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from data_prep.pipeline import steps
from data_prep.pipeline.merging import Merger
from data_prep.pipeline.parts import Log, Part
from data_prep.pipeline.spans import Spans, add_part
from data_prep.pipeline.spill import SpilledParts, spill
from data_prep.pipeline.split import LatestTimes, SplitRule, latest_times, split_late
from tron_jax.console.stages import Stages
from tron_jax.errors import UserError


class Filters(NamedTuple):
    """What is too short or too rare to be kept."""

    min_session_length: int = 2
    min_item_support: int = 5


class StepCount(NamedTuple):
    """What is left after a step."""

    step: str
    sessions: int
    events: int
    items: int


def filter_and_split(
    log: Log,
    filters: Filters,
    rule: SplitRule | None,
    train: Merger,
    test: Merger,
    stages: Stages,
) -> tuple[list[StepCount], Spans]:
    """Filters and splits a log as the paper does.

    Sessions of enough events; then items of enough support, one pass over train and
    test together; again sessions of enough events; the split; then test loses the items
    that train lacks, and the sessions which that makes too short.

    The log is used up; what is left of it goes to ``train`` and ``test``.

    Returns:
      What was left of both together after each step, and how sessions were before.

    Raises:
      UserError: if nothing is left to train on.
    """
    filtering = _Filtering(log, filters, rule, train, test)
    # A pass ends where the next step needs a sum over all parts.
    sums_support, finds_latest = filters.min_item_support > 1, rule is not None
    total = log.num_parts * (1 + sums_support + finds_latest)
    done = itertools.count(1)

    def counted(parts: Iterator[Part]) -> Iterator[Part]:
        for part in parts:
            yield part
            stages.count("parts", next(done), total)

    parts = map(filtering.drop_short_sessions, log.read())
    if sums_support:
        parts = spill(counted(parts), filtering.waiting("short"))
    parts = map(filtering.drop_rare_items, parts)
    if finds_latest:
        parts = spill(counted(parts), filtering.waiting("rare"))
    for part in counted(parts):
        filtering.split(part)
    filtering.finish_test()
    return filtering.counts.totals(), filtering.spans


@dataclasses.dataclass
class _Filtering:
    """The steps, with what they sum up over all parts."""

    log: Log
    filters: Filters
    rule: SplitRule | None
    train: Merger
    test: Merger

    def __post_init__(self) -> None:
        num_items = len(self.log.items)
        self.counts = _StepCounts(num_items)
        self._min_length, self._min_support = self.filters
        self._support = np.zeros(num_items, np.int64)
        self._in_train = np.zeros(num_items, bool)
        self._latest = LatestTimes()
        self._test_parts = self.waiting("test")
        self.spans = Spans()

    def waiting(self, name: str) -> SpilledParts:
        """Returns an empty store, in memory or on disk as the log is."""
        return SpilledParts(self.log.folder, name, self.log.train.on_disk)

    def drop_short_sessions(self, part: Part) -> Part:
        self.counts.add("read", part.events)
        self.spans = add_part(self.spans, part)
        events = steps.keep_long_sessions(part.events, self._min_length)
        self.counts.add(f"sessions of at least {self._min_length} events", events)
        self._support += steps.count_items(events, len(self._support))
        return part._replace(events=events)

    def drop_rare_items(self, part: Part) -> Part:
        events = part.events
        if self._min_support > 1:
            events = steps.keep_items(events, self._support >= self._min_support)
        self.counts.add(f"items of at least {self._min_support} events", events)
        events = steps.keep_long_sessions(events, self._min_length)
        self.counts.add(f"sessions of at least {self._min_length} events again", events)
        if self.rule is not None:
            self._latest = latest_times(events, self._latest)
        return part._replace(events=events)

    def split(self, part: Part) -> None:
        """Arranges what is train; test waits until all items of train are known."""
        nothing = part.events.slice(0, 0)
        train, test = part.events, nothing
        if part.is_test:
            train, test = nothing, part.events
        elif self.rule is not None:
            train, test = split_late(part.events, self.rule, self._latest)
        if train.num_rows:
            self._in_train[train["item"].to_numpy()] = True
            self._arrange(part, train, train, self.train)
        if test.num_rows:
            self._test_parts.append(part._replace(events=test))

    def finish_test(self) -> None:
        """Drops from test what train lacks, and arranges it."""
        if not self.train.events:
            left = self.counts.totals()
            story = "; ".join(f"{c.step}: {c.sessions:,} sessions" for c in left)
            what = f"no session of {self._min_length} events is left to train on"
            if self.rule is not None and left[-1].sessions:
                days, flag = self.rule.days, self.rule.flag
                given = "" if flag is None else f" ({flag}={days:g})"
                what += f": the split by date{given} makes all sessions test"
            raise UserError(f"{what} ({story})")
        for part in self._test_parts.read():
            known = steps.keep_items(part.events, self._in_train)
            long = steps.keep_long_sessions(known, self._min_length)
            self._arrange(part, known, long, self.test)

    def _arrange(
        self, part: Part, known: pa.Table, long: pa.Table, merger: Merger
    ) -> None:
        """Counts what the last two steps left of a part, and gives it away in order."""
        self.counts.add("test items that train has", known)
        step = f"test sessions of at least {self._min_length} events again"
        self.counts.add(step, long)
        if long.num_rows:
            merger.append(steps.arrange(long), part.session_ids, part.first_rows)


class _StepCounts:
    """Counts what each step leaves, over all parts."""

    def __init__(self, num_items: int) -> None:
        self._num_items = num_items
        self._sessions: Counter[str] = Counter()
        self._events: Counter[str] = Counter()
        self._occur: dict[str, np.ndarray] = {}  # [num_items] bool
        self._last: tuple[pa.Table, int, np.ndarray] | None = None

    def add(self, step: str, events: pa.Table) -> None:
        """Adds a part as a step left it; its sessions are in no other part."""
        # A step that drops nothing returns the very table it was given.
        if self._last is None or self._last[0] is not events:
            lengths = np.bincount(events["session"].to_numpy())
            occur = np.zeros(self._num_items, bool)
            occur[events["item"].to_numpy()] = True
            self._last = events, int(np.count_nonzero(lengths)), occur
        _, sessions, occur = self._last
        self._sessions[step] += sessions
        self._events[step] += events.num_rows
        self._occur[step] = self._occur.get(step, False) | occur

    def totals(self) -> list[StepCount]:
        """Returns what was left after each step, in their order."""
        items = {step: np.count_nonzero(occur) for step, occur in self._occur.items()}
        return [
            StepCount(step, self._sessions[step], self._events[step], int(count))
            for step, count in items.items()
        ]
