"""Runs a training program over and over in processes of their own, each cut off.

    python killing.py RUNS

RUNS are JSON, ``[[[[KIND, STEP], ...], [ARGUMENT, ...]], ...]``: of each run a process
for each moment, and a last one that is left alone. KIND is ``evaluated`` (SIGKILL
between a step's evaluation and its save), ``saved`` (SIGKILL once it is on disk) or
``asked`` (SIGTERM when it is dispatched). Prints how the processes of each run ended,
as JSON: the status, or minus the signal.

The processes are forks, which share the imports; no backend is started before.
"""

import json
import os
import signal
import sys
import warnings

from experiments import train
from tron_jax.reporting import plots
from tron_jax.storage.checkpoints import Checkpoints
from tron_jax.training.log_windows import Recorder


def cut_off(kind: str, at: int) -> None:
    """Makes this process end at a step."""
    saved, added = Checkpoints.save, Recorder.add

    def save(self, step, *args, **kwargs):
        if (kind, step) == ("evaluated", at):
            os.kill(os.getpid(), signal.SIGKILL)
        spent = saved(self, step, *args, **kwargs)
        if (kind, step) == ("saved", at):
            self.wait()
            os.kill(os.getpid(), signal.SIGKILL)
        return spent

    def add(self, step, totals):
        if (kind, step) == ("asked", at):
            os.kill(os.getpid(), signal.SIGTERM)
        added(self, step, totals)

    Checkpoints.save, Recorder.add = save, add


def start_again(moments: list[tuple[str, int]], argv: list[str]) -> list[int]:
    ends = []
    for moment in [*moments, None]:
        child = os.fork()
        if child == 0:
            if moment is not None:
                cut_off(*moment)
            os._exit(train.main(argv))
        ends.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    return ends


if __name__ == "__main__":
    # A library's thread is there from its import on; nobody holds a lock yet.
    warnings.filterwarnings("ignore", ".*multi-threaded", DeprecationWarning)
    plots.plot_run = lambda metrics, picture: True
    print(json.dumps([start_again(*run) for run in json.loads(sys.argv[1])]))
