"""The paper's filters and split: which step follows which, part by part."""

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from data_prep.pipeline import steps
from data_prep.pipeline.merging import Merger
from data_prep.pipeline.parts import Log, Part
from data_prep.pipeline.spill import SpilledParts, spill
from data_prep.pipeline.split import LatestTimes, SplitRule, latest_times, split_late
from tron_jax.console.stages import Stages
from tron_jax.errors import UserError

# Where events are counted, by index into the names of `_step_names`.
_READ, _LONG, _FREQUENT, _LONG_AGAIN, _KNOWN, _LONG_OF_KNOWN = range(6)


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
) -> list[StepCount]:
    """Filters and splits a log as the paper does.

    Sessions of enough events; then items of enough support, one pass over train and
    test together; again sessions of enough events; the split; then test loses the items
    that train lacks, and the sessions which that makes too short.

    Args:
      log: the raw log, which is used up.
      filters: what to keep.
      rule: which sessions become test where the log has no test part; none if None.
      train: is given the train sessions.
      test: is given the test sessions.
      stages: told after each part.

    Returns:
      What was left of both together after each step.

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
    return filtering.counts.totals()


class _Filtering:
    """The steps, with what they sum up over all parts."""

    def __init__(
        self,
        log: Log,
        filters: Filters,
        rule: SplitRule | None,
        train: Merger,
        test: Merger,
    ) -> None:
        self.counts = _StepCounts(_step_names(filters), len(log.items))
        self._log = log
        self._min_length, self._min_support = filters
        self._rule = rule
        self._train, self._test = train, test
        self._support = np.zeros(len(log.items), np.int64)
        self._in_train = np.zeros(len(log.items), bool)
        self._latest = LatestTimes()
        self._test_parts = self.waiting("test")

    def waiting(self, name: str) -> SpilledParts:
        """Returns an empty store, in memory or on disk as the log is."""
        return SpilledParts(self._log.folder, name, self._log.train.on_disk)

    def drop_short_sessions(self, part: Part) -> Part:
        self.counts.add(_READ, part.events)
        events = steps.keep_long_sessions(part.events, self._min_length)
        self.counts.add(_LONG, events)
        self._support += steps.count_items(events, len(self._support))
        return part._replace(events=events)

    def drop_rare_items(self, part: Part) -> Part:
        events = part.events
        if self._min_support > 1:
            events = steps.keep_items(events, self._support >= self._min_support)
        self.counts.add(_FREQUENT, events)
        events = steps.keep_long_sessions(events, self._min_length)
        self.counts.add(_LONG_AGAIN, events)
        if self._rule is not None:
            self._latest = latest_times(events, self._latest)
        return part._replace(events=events)

    def split(self, part: Part) -> None:
        """Arranges what is train; test waits until all items of train are known."""
        nothing = part.events.slice(0, 0)
        train, test = part.events, nothing
        if part.is_test:
            train, test = nothing, part.events
        elif self._rule is not None:
            train, test = split_late(part.events, self._rule, self._latest)
        if train.num_rows:
            self._in_train[train["item"].to_numpy()] = True
            for step in (_KNOWN, _LONG_OF_KNOWN):
                self.counts.add(step, train)
            _arrange(part, train, self._train)
        if test.num_rows:
            self._test_parts.append(part._replace(events=test))

    def finish_test(self) -> None:
        """Drops from test what train lacks, and arranges it."""
        if not self._train.events:
            left = self.counts.totals()[: _LONG_AGAIN + 1]
            story = "; ".join(f"{c.step}: {c.sessions:,} sessions" for c in left)
            what = f"no session of {self._min_length} events is left to train on"
            raise UserError(f"{what} ({story})")
        for part in self._test_parts.read():
            events = steps.keep_items(part.events, self._in_train)
            self.counts.add(_KNOWN, events)
            events = steps.keep_long_sessions(events, self._min_length)
            self.counts.add(_LONG_OF_KNOWN, events)
            if events.num_rows:
                _arrange(part, events, self._test)


def _arrange(part: Part, events: pa.Table, merger: Merger) -> None:
    merger.append(steps.arrange(events), part.session_ids, part.first_rows)


def _step_names(filters: Filters) -> tuple[str, ...]:
    length, support = filters
    return (
        "read",
        f"sessions of at least {length} events",
        f"items of at least {support} events",
        f"sessions of at least {length} events again",
        "test items that train has",
        f"test sessions of at least {length} events again",
    )


class _StepCounts:
    """Counts what each step leaves, over all parts."""

    def __init__(self, names: tuple[str, ...], num_items: int) -> None:
        self._names = names
        self._sessions, self._events = [0] * len(names), [0] * len(names)
        self._items = np.zeros((len(names), num_items), bool)
        # A step that drops nothing returns the very table it was given.
        self._last: tuple[pa.Table, int, np.ndarray] | None = None

    def add(self, step: int, events: pa.Table) -> None:
        """Adds a part as a step left it; its sessions are in no other part."""
        if self._last is None or self._last[0] is not events:
            lengths = np.bincount(events["session"].to_numpy())
            occurs = np.zeros(self._items.shape[1], bool)
            occurs[events["item"].to_numpy()] = True
            self._last = events, int(np.count_nonzero(lengths)), occurs
        _, sessions, occurs = self._last
        self._sessions[step] += sessions
        self._events[step] += events.num_rows
        self._items[step] |= occurs

    def totals(self) -> list[StepCount]:
        """Sums up."""
        items = np.count_nonzero(self._items, axis=1).tolist()
        columns = zip(self._names, self._sessions, self._events, items, strict=True)
        return [StepCount(*column) for column in columns]
