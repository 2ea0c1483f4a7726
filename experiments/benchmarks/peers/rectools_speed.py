"""Times RecTools' SASRec and ours in turn, on the same data and machine.

    python -m experiments.benchmarks.peers.rectools_speed --data=DIR --json=FILE \
        --peer_python=ENVIRONMENT/bin/python [--rounds=10] [--minutes=25]

by our own Python, in the root of this checkout; ENVIRONMENT is that of
rectools_sasrec.py. Each side is a process of its own, ready before the clock starts and
idle while the other works. Per match, a round gives each side one turn of some steps
(`--seconds` long, by the first turn, which does not count); sessions a second are
compared, by the medians over rounds with a bootstrap of rounds. The matches:

    bce       one uniform negative per event, both; and TRON XL as published
    softmax   all items, both; and TRON XL as published
    esasrec   RecTools' best, 256 negatives per event, sampled softmax, LiGR layers;
              and TRON XL as published

Equal in bce and softmax are: sessions, batch of 128, hidden 200, 2 layers, 1 head,
dropout, 50 clicks, float32, Adam, all cores. What differs is how: RecTools pads each
session to 50 clicks (ours packs), and makes its batches in Python (ours by NumPy); it
works by torch and the trainer's loop, ours by XLA, with memory settings that our
programs start themselves with. `rectools, our memory` is RecTools with these too.

An evaluation ranks all predictions of test exactly. RecTools' encodes each as a session
of its own, as its API does, and its vectors are ranked by torch (rectools_ranks.py);
`recommend_s` is what it takes to recommend 20 items for each (8,192 queries a call: all
at once took 11 GB). It is timed in the first match, whose model serves as well as any.

Each match has its share of --minutes, after which it ends with the round, though not
before three rounds; evaluations (some seven minutes on two cores) are within the first
share only if that is large enough.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import select
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from experiments import entry
from experiments.benchmarks.child_processes import ROOT, last_line
from experiments.benchmarks.timing import ratio
from tron_jax.data.sessions import open_prepared
from tron_jax.errors import UserError
from tron_jax.files import require_writable

Record = dict[str, Any]
PEERS = "experiments.benchmarks.peers"
MALLOC = "GLIBC_TUNABLES"
PEER, TUNED = "rectools", "rectools, our memory"
TRON = ["--config=experiments/configs/tron_xl.py:diginetica"]
SASREC = ["--config=experiments/configs/sasrec.py:diginetica"]
SASREC += ["--config.model.dropout=0.2"]
FULL = ["--config.loss.name=full_softmax", "--config.negatives.num_uniform=0"]
LEAST = 3  # rounds
ANSWER = 1200  # seconds, after which a process is given up
PAUSE = 0.3  # seconds in which threads of the last turn come to rest


class Match(NamedTuple):
    """What is timed in turn: RecTools' arguments, and ours by name."""

    peer: list[str]
    ours: dict[str, list[str]]


MATCHES = {
    "bce": Match(["--loss=BCE"], {"sasrec": SASREC, "tron_xl": TRON}),
    "softmax": Match(
        ["--loss=softmax"],
        {"sasrec, full_softmax": [*SASREC, *FULL], "tron_xl": TRON},
    ),
    "esasrec": Match(
        ["--loss=sampled_softmax", "--negatives=256", "--layers=ligr"],
        {"tron_xl": TRON},
    ),
}


class Side:
    """A process that takes turns; ``first`` is what it said when it was ready."""

    def __init__(self, command: Sequence[str], environment: dict[str, str]):
        self.command = list(command)
        self._process = subprocess.Popen(
            self.command,
            cwd=ROOT,
            env=environment | {"PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.first = self._read()

    def ask(self, request: Record) -> Record:
        """Asks, and waits for the answer."""
        time.sleep(PAUSE)
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # what is read next says why
            print(json.dumps(request), file=self._process.stdin, flush=True)
        return self._read()

    def close(self) -> None:
        """Ends it."""
        self._process.kill()
        self._process.wait()

    def _read(self) -> Record:
        stdout = self._process.stdout
        assert stdout is not None
        if not select.select([stdout], [], [], ANSWER)[0]:
            self.close()
            raise UserError(f"{self.command}: no answer in {ANSWER} s")
        line = stdout.readline()
        if not line:
            why = last_line("", self._process.wait())
            raise UserError(f"{' '.join(self.command)} ended: {why}")
        return json.loads(line)


def start(match: Match, arguments: argparse.Namespace) -> dict[str, Side]:
    """Starts all sides of a match, one after the other."""
    data = os.path.abspath(arguments.data)
    plain = {name: value for name, value in os.environ.items() if name != MALLOC}
    peer = [arguments.peer_python, "-m", f"{PEERS}.rectools_turns"]
    peer += [f"--data={data}", *match.peer]
    sides: dict[str, Side] = {}
    try:
        for name in (PEER, TUNED):
            memory = {MALLOC: entry.MALLOC} if name == TUNED else {}
            sides[name] = Side(peer, plain | memory)
        for name, config in match.ours.items():
            ours = [sys.executable, "-m", f"{PEERS}.our_turns"]
            command = [*ours, *config, f"--config.data.path={data}"]
            sides[name] = Side(command, plain)
    except BaseException:
        close(sides)
        raise
    return sides


def close(sides: dict[str, Side]) -> None:
    """Ends all."""
    for side in sides.values():
        side.close()


def play(sides: dict[str, Side], arguments: argparse.Namespace, end: float) -> Record:
    """Times the steps of all sides in turn.

    Returns:
      sides: of each, sessions_per_s, steps a turn, peak_memory_gb, versions, samples
      (seconds a session); ratios: how many times as fast each of ours is as RecTools,
      as ``timing.ratio`` has it; rounds.
    """
    steps = {}
    for name, side in sides.items():
        answer = side.ask({"steps": 1})
        steps[name] = max(1, round(arguments.seconds / answer["seconds"]))
        side.ask({"steps": steps[name]})
    samples: dict[str, list[float]] = {name: [] for name in sides}
    peaks: dict[str, float] = {}
    for number in range(arguments.rounds):
        if number >= LEAST and time.monotonic() > end:
            break
        for name, side in sides.items():
            answer = side.ask({"steps": steps[name]})
            samples[name].append(answer["seconds"] / answer["sessions"])
            peaks[name] = answer["peak_memory_gb"]
    return {
        "rounds": len(samples[PEER]),
        "sides": {
            name: {
                "sessions_per_s": 1 / statistics.median(samples[name]),
                "steps_a_turn": steps[name],
                "peak_memory_gb": peaks[name],
                "versions": side.first["versions"],
                "argv": [without_folders(part) for part in side.command],
                "samples": samples[name],
            }
            for name, side in sides.items()
        },
        "ratios": ratios(samples),
    }


def without_folders(argument: str) -> str:
    """An argument that names no folder of this machine."""
    name, equals, value = argument.rpartition("=")
    return name + equals + (Path(value).name if os.path.isabs(value) else value)


def ratios(samples: dict[str, list[float]]) -> Record:
    """How many times as long RecTools takes as each other side."""
    return {
        f"{name} to {PEER}": ratio(samples[PEER], these)
        for name, these in samples.items()
        if name != PEER
    }


def evaluate(sides: dict[str, Side], passes: int) -> Record:
    """Times evaluations in turn; ours compile in one before, which does not count.

    Returns:
      sides: of each, the medians of what it answers, and samples; ratios.
    """
    answers: dict[str, list[Record]] = {name: [] for name in sides if name != TUNED}
    for name in answers:
        if name != PEER:
            sides[name].ask({"evaluate": True})
    for _ in range(passes):
        for name, found in answers.items():
            found.append(sides[name].ask({"evaluate": True}))
    samples = {name: [a["seconds"] for a in found] for name, found in answers.items()}
    medians = {
        name: {key: statistics.median(a[key] for a in found) for key in found[0]}
        for name, found in answers.items()
    }
    return {
        "sides": {name: medians[name] | {"samples": samples[name]} for name in answers},
        "ratios": ratios(samples),
    }


def measure(arguments: argparse.Namespace) -> Record:
    """All matches, and in the first of them the evaluations."""
    if not os.access(arguments.peer_python, os.X_OK):
        path = arguments.peer_python
        raise UserError(f"--peer_python: {path} is no program; expected a Python")
    begin = time.monotonic()
    report: Record = {
        "fingerprint": open_prepared(arguments.data).fingerprint,
        "python": platform.python_version(),
        "cores": len(os.sched_getaffinity(0)),
        "nice": os.nice(0),
        "load": round(os.getloadavg()[0], 1),
        "matches": {},
    }
    for number, name in enumerate(arguments.matches):
        share = (number + 1) / len(arguments.matches)
        end = begin + 60 * arguments.minutes * share
        sides = start(MATCHES[name], arguments)
        try:
            report["matches"][name] = played = play(sides, arguments, end)
            print(table(name, played["sides"], "sessions_per_s", played["ratios"]))
            if number == 0 and arguments.passes:
                report["evaluation"] = found = evaluate(sides, arguments.passes)
                print(table("evaluation", found["sides"], "seconds", found["ratios"]))
        finally:
            close(sides)
    return report | {"seconds": time.monotonic() - begin}


def table(what: str, sides: Record, key: str, ratios: Record) -> str:
    """Lines of figures and of ratios."""
    lines = [f"{what}: {key}"]
    lines += [f"  {name:<40}{side[key]:>10,.1f}" for name, side in sides.items()]
    for name, found in ratios.items():
        low, high = found["ratio_interval"]
        times = f"{found['ratio']:>9.2f}x  {low:.2f}..{high:.2f} (90 %)"
        lines.append(f"  {name:<40}{times}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--data", required=True, help="folder of a prepared set")
    add("--peer_python", required=True, help="of RecTools' environment")
    add("--json", type=Path, required=True, help="file of the figures")
    add("--matches", nargs="+", choices=MATCHES, default=list(MATCHES))
    add("--rounds", type=int, default=10)
    add("--seconds", type=float, default=4.0, help="a turn, of one step at least")
    add("--passes", type=int, default=3, help="evaluations of each; 0 = none")
    add("--minutes", type=float, default=25.0)
    arguments = parser.parse_args()
    try:
        require_writable(arguments.json)
        report = measure(arguments)
    except UserError as error:
        sys.exit(f"error: {error}")
    arguments.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
