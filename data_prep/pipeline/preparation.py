"""The paper's preparation as a whole: which step follows which, part by part."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from data_prep.console import Progress
from data_prep.pipeline import steps
from data_prep.pipeline.merging import Merger
from data_prep.pipeline.parts import ItemCodes, Part, Parts
from data_prep.pipeline.shelves import Shelf
from tron_jax.errors import UserError

_Step = Callable[[Part], Part]


class Filters(NamedTuple):
    """What is too short or too rare to be kept."""

    min_session_length: int = 2
    min_item_support: int = 5


class Counted(NamedTuple):
    """What is left after a step."""

    step: str
    sessions: int
    events: int
    items: int


class Log(NamedTuple):
    """A raw log in parts, its items and where temporary files may lie.

    test: a test part that was split off before; None where there is none.
    """

    train: Parts
    test: Parts | None
    items: ItemCodes
    folder: Path


def prepare(
    log: Log,
    filters: Filters,
    rule: steps.SplitRule | None,
    train: Merger,
    test: Merger,
    progress: Progress,
) -> list[Counted]:
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
      progress: told after each part.

    Returns:
      What was left of both together after each step.
    """
    work = _Preparation(log, filters, rule, train, test)
    passes = work.passes()
    sources = [log.train] if log.test is None else [log.train, log.test]
    parts: list[Iterator[Part]] = [source.take() for source in sources]
    total = sum(len(source) for source in sources) * len(passes)
    done = 0
    for number, todo in enumerate(passes):
        last = number + 1 == len(passes)
        shelves = []
        for role, several in zip(("train", "test"), parts, strict=False):
            shelf = Shelf(log.folder, f"{role}.pass{number}", log.train.on_disk)
            for part in several:
                for step in todo:
                    part = step(part)
                if last:
                    work.finish(part, role)
                else:
                    shelf.put(part)
                done += 1
                progress.count("parts filtered and sorted", done, total)
            shelves.append(shelf)
        parts = [shelf.take() for shelf in shelves]
    return work.finish_test()


class _Preparation:
    """The steps with what they count over all parts."""

    def __init__(
        self,
        log: Log,
        filters: Filters,
        rule: steps.SplitRule | None,
        train: Merger,
        test: Merger,
    ) -> None:
        self._filters = filters
        self._rule = rule
        self._mergers = (train, test)
        self._size = len(log.items)
        self._support = np.zeros(self._size, np.int64)
        self._trained = np.zeros(self._size, np.int64)
        self._latest = (-1, -1)  # latest first event and latest event
        self._held = Shelf(log.folder, "held", log.train.on_disk)
        length, support = filters
        names = (
            "read",
            f"sessions of at least {length} events",
            f"items of at least {support} events",
            f"sessions of at least {length} events again",
            "test items that train has",
            f"test sessions of at least {length} events again",
        )
        look = _Looker(self._size)
        self._tallies = [_Tally(name, look, self._size) for name in names]

    def passes(self) -> list[list[_Step]]:
        """The steps, a pass ending where the next step needs a sum over all parts."""
        passes: list[list[_Step]] = [[self._drop_short]]
        if self._filters.min_item_support > 1:
            passes.append([])
        passes[-1].append(self._drop_rare)
        if self._rule is not None:
            passes.append([])
        return passes

    def _drop_short(self, part: Part) -> Part:
        self._tallies[0].add(part.events)
        events = steps.keep_long_sessions(part.events, self._filters[0])
        self._tallies[1].add(events)
        self._support += steps.count_items(events, self._size)
        return part._replace(events=events)

    def _drop_rare(self, part: Part) -> Part:
        events = part.events
        if self._filters.min_item_support > 1:
            kept = self._support >= self._filters.min_item_support
            events = steps.keep_items(events, kept)
        self._tallies[2].add(events)
        events = steps.keep_long_sessions(events, self._filters[0])
        self._tallies[3].add(events)
        if self._rule is not None and events.num_rows:
            first, last = steps.first_and_last(events)
            latest = int(first[last >= 0].max()), int(last.max())
            self._latest = tuple(np.maximum(self._latest, latest).tolist())
        return part._replace(events=events)

    def finish(self, part: Part, role: str) -> None:
        """Arranges what is train, keeps what is test until train's items are known."""
        train = held = part.events
        if role == "test":
            train = held.slice(0, 0)
        elif self._rule is not None:
            cutoff = self._rule.cutoff(*self._latest)
            train, held = steps.split_late(train, self._rule.judged, cutoff)
        else:
            held = held.slice(0, 0)
        if train.num_rows:
            self._trained += steps.count_items(train, self._size)
            for tally in self._tallies[4:]:
                tally.add(train)
            self._arrange(part._replace(events=train), 0)
        if held.num_rows:
            self._held.put(part._replace(events=held))

    def finish_test(self) -> list[Counted]:
        """Drops what train lacks from test and arranges it; returns all counts."""
        if not self._mergers[0].events:
            counts = [tally.counted() for tally in self._tallies[:4]]
            story = "; ".join(f"{c.step}: {c.sessions:,} sessions" for c in counts)
            length = self._filters.min_session_length
            raise UserError(
                f"no session of {length} events is left to train on ({story})"
            )
        for part in self._held.take():
            events = steps.keep_items(part.events, self._trained > 0)
            self._tallies[4].add(events)
            events = steps.keep_long_sessions(events, self._filters[0])
            self._tallies[5].add(events)
            if events.num_rows:
                self._arrange(part._replace(events=events), 1)
        return [tally.counted() for tally in self._tallies]

    def _arrange(self, part: Part, split: int) -> None:
        arranged = steps.arrange(part.events)
        self._mergers[split].append(arranged, part.session_ids, part.first_rows)


class _Look(NamedTuple):
    """What a part holds: sessions, events, and [codes] bool of the items that occur."""

    sessions: int
    events: int
    seen: np.ndarray


class _Looker:
    """Counts what parts hold; a step that dropped nothing costs nothing."""

    def __init__(self, num_items: int) -> None:
        self._num_items = num_items
        self._last: tuple[pa.Table, _Look] | None = None

    def __call__(self, events: pa.Table) -> _Look:
        if self._last is None or self._last[0] is not events:
            seen = np.zeros(self._num_items, bool)
            seen[events["item"].to_numpy()] = True
            lengths = np.bincount(events["session"].to_numpy())
            sessions = int(np.count_nonzero(lengths))
            self._last = events, _Look(sessions, events.num_rows, seen)
        return self._last[1]


class _Tally:
    """Counts what is left after a step, over all parts."""

    def __init__(self, step: str, look: _Looker, num_items: int) -> None:
        self._step = step
        self._look = look
        self._sessions = self._events = 0
        self._seen = np.zeros(num_items, bool)

    def add(self, events: pa.Table) -> None:
        """Adds a part; its sessions are in no other."""
        look = self._look(events)
        self._sessions += look.sessions
        self._events += look.events
        self._seen |= look.seen

    def counted(self) -> Counted:
        """Sums up."""
        items = int(np.count_nonzero(self._seen))
        return Counted(self._step, self._sessions, self._events, items)
