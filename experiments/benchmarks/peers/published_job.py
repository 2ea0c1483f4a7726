"""What published_tron.py measures of a system at a size of catalogue."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import flags

from experiments.benchmarks.child_processes import ROOT
from experiments.benchmarks.peers.published_children import (
    Child,
    Stopped,
    start_ours,
    start_peer,
)
from experiments.benchmarks.peers.published_data import NAME, Source
from experiments.benchmarks.timing import ratio
from tron_jax import memory
from tron_jax.console import messages

Record = dict[str, Any]
# Both sides hold the item table this often at their peaks (the published code: weights,
# two moments, their gradient and two that are being added to it); and bytes besides.
TABLES, BESIDE = 10, 3e9
SETTLE = 1.0  # seconds from one side's turn to the other's, in which loaders fill up
WAITS = 0.05  # share of a step from which on its loader counts as what it waits for


class System(NamedTuple):
    """A row of Table 2.

    Attributes:
      published: its config, under the checkout's ``configs``.
      ours: our config.
      unit: what is counted.
      times: as many steps as the flags say.
      hidden_size: width of the item table.
    """

    published: str
    ours: str
    unit: str
    times: int
    hidden_size: int


SYSTEMS = {
    "tron_xl": System("tron/diginetica.json", "tron_xl", "session", 1, 200),
    "sasrec": System("standard/sasrec_diginetica.json", "sasrec", "session", 1, 200),
    "gru4rec": System("standard/gru4rec_diginetica.json", "gru4rec", "event", 10, 100),
}


class Job(NamedTuple):
    """A system at a size of catalogue.

    Attributes:
      name: a key of ``SYSTEMS``.
      source: of the sessions.
      num_sessions: of each split.
      folder: where the published code finds them.
      num_items: the largest item id.
      amounts: of steps and turns; see the program's flags.
      values: the program's flags.
      deadline: when to end at the latest, of ``time.monotonic``.
    """

    name: str
    source: Source
    num_sessions: dict[str, int]
    folder: str
    num_items: int
    amounts: dict[str, int]
    values: flags.FlagValues
    deadline: float

    def require_memory(self) -> None:
        """Raises Stopped where the system would have to kill something."""
        row = 4 * SYSTEMS[self.name].hidden_size
        needed = TABLES * self.num_items * row + BESIDE
        free = memory.host_memory().free
        if free is not None and needed > free:
            figures = messages.readable(needed), messages.readable(free)
            raise Stopped("needs about {}, {} are free".format(*figures))

    def train(self, until: float) -> Record:
        """Turns of steps of both sides.

        Args:
          until: no turn begins later, of ``time.monotonic``, but for the first two.

        Returns:
          For ``published`` and ``ours`` what ran, seconds (of a step), per_s,
          peak_bytes, samples; parts of the published step and their mean; ratio,
          ratio_interval, turns, unit.
        """
        steps = self.amounts["steps"] * SYSTEMS[self.name].times
        rounds = self.amounts["rounds"]
        with self._peer("train") as peer:
            ahead = peer.about["prefetched"] + 1
            most = (rounds + 1) * (ahead + steps)
            with self._ours("train", last_step=most) as ours:
                turns = [_turn(peer, ours, ahead, steps)]
                skip = ahead if _waits(turns[0][0]) else 1
                while len(turns) <= rounds:
                    if len(turns) > 2 and time.monotonic() > until:
                        break
                    turns.append(_turn(peer, ours, skip, steps))
                made, mine = zip(*turns[1:], strict=True)
                theirs, those = ([_mean(turn) for turn in of] for of in (made, mine))
                sides = {
                    "published": _side(peer, theirs) | _mean_parts(theirs, made),
                    "ours": _side(ours, those),
                }
        return {
            **sides,
            **ratio(theirs, those),
            "turns": len(theirs),
            "steps_per_turn": steps,
            "unit": SYSTEMS[self.name].unit,
        }

    def parts(self) -> Record:
        """Where the time of a step goes, of each side by itself."""
        repeats = self.amounts["part_steps"] * SYSTEMS[self.name].times
        found = {}
        for side, start in (("published", self._peer), ("ours", self._ours)):
            with start("parts") as child:
                found[side] = child.ask({"repeats": repeats})
                found[side] |= child.finish()
        return found

    def evaluate(self, until: float) -> Record:
        """Evaluations of both sides in turn.

        Args:
          until: as for ``train``.

        Returns:
          As ``train``, with per_1000 (seconds of 1,000 predictions).
        """
        steps = self.amounts["eval_steps"] * SYSTEMS[self.name].times
        theirs, those = [], []
        with self._peer("evaluate") as peer, self._ours("evaluate") as ours:
            for turn in range(self.amounts["eval_rounds"] + 1):
                if turn > 2 and time.monotonic() > until:
                    break
                both = peer.ask({"steps": steps}), ours.ask({})
                if turn:
                    for found, times in zip(both, (theirs, those), strict=True):
                        times.append(1000 * found["seconds"] / found["predictions"])
            sides = {
                side: {
                    "per_1000": float(np.median(times)),
                    "predictions": found["predictions"],
                    "samples": times,
                    **child.finish(),
                }
                for side, child, times, found in (
                    ("published", peer, theirs, both[0]),
                    ("ours", ours, those, both[1]),
                )
            }
        return {**sides, **ratio(theirs, those), "turns": len(theirs)}

    @contextlib.contextmanager
    def _peer(self, mode: str) -> Generator[Child]:
        settings = {
            "mode": mode,
            "checkout": str(Path(self.values.checkout).resolve()),
            "config": SYSTEMS[self.name].published,
            "name": NAME,
            "folder": self.folder,
            "num_items": self.num_items,
            "num_sessions": self.num_sessions,
            "precision": self.values.precision,
        }
        our_memory = self.values.peer_malloc == "ours"
        python = self.values.peer_python
        with contextlib.closing(
            start_peer(python, settings, self.deadline, our_memory)
        ) as child:
            yield child

    @contextlib.contextmanager
    def _ours(self, mode: str, **more: Any) -> Generator[Child]:
        config = ROOT / "experiments" / "configs" / f"{SYSTEMS[self.name].ours}.py"
        settings = {
            "mode": mode,
            "config": f"{config}:{NAME}",
            "source": self.source._asdict(),
            **more,
        }
        with contextlib.closing(start_ours(settings, self.deadline)) as child:
            yield child


def _turn(peer: Child, ours: Child, skip: int, steps: int) -> tuple[Record, Record]:
    """Steps of the published code, and the same ones of ours."""
    made = peer.ask({"skip": skip, "steps": steps})
    time.sleep(SETTLE)
    mine = ours.ask({"first": made["first"], "steps": steps, "skip": 2})
    return made, mine


def _mean(turn: Record) -> float:
    return float(np.mean(turn["seconds"]))


def _waits(turn: Record) -> bool:
    """Whether the published loader may not keep up; else what it has ahead is no gain.

    The wait holds some of Lightning's own work too.
    """
    return turn["parts"]["wait for the batch"] > WAITS * _mean(turn)


def _mean_parts(times: list[float], turns: Sequence[Record]) -> Record:
    """Means over the turns, and what lies between the parts."""
    mean = float(np.mean(times))
    means = {
        part: float(np.mean([turn["parts"][part] for turn in turns]))
        for part in turns[0]["parts"]
    }
    means["between these"] = mean - sum(means.values())
    return {"mean": mean, "parts": means}


def _side(child: Child, times: list[float]) -> Record:
    """What ran, and its medians; ends the process."""
    seconds = float(np.median(times))
    return {
        **child.about,
        **child.finish(),
        "seconds": seconds,
        "per_s": child.about["batch_size"] / seconds,
        "samples": times,
    }
