"""Runs programs in many processes each, and has something happen to some of them.

    python many_processes.py < RUNS

RUNS are JSON, a list of ``{"processes": N, "devices": D, "argv": [...]}``: N processes
of D devices that the CPU plays run the program that argv names. ``"moments": {"1":
[KIND, STEP]}`` is what happens to process 1: ``asked`` (SIGTERM when a step is
dispatched), ``killed`` (SIGKILL then) or ``saved`` (SIGKILL once a step is on disk).
``"others": {"1": [...]}`` are arguments of process 1 alone. Prints of each run the
statuses of its processes, or minus the signals, and what they wrote, as JSON.

The processes are forks, which share the imports; no backend is started before.
"""

import json
import os
import signal
import socket
import sys
import tempfile
import warnings

import jax
import killing

from experiments import evaluate, train
from tron_jax.hosts import watch
from tron_jax.reporting import plots
from tron_jax.storage.checkpoints import Checkpoints
from tron_jax.training.log_windows import Recorder

PROGRAMS = {"train": train.main, "evaluate": evaluate.main}


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def cut_off(kind: str, at: int) -> None:
    """Makes this process end at a step."""
    if kind != "killed":
        killing.cut_off(kind, at)
        return
    added = Recorder.add

    def add(self, step, totals):
        if step == at:
            os.kill(os.getpid(), signal.SIGKILL)
        added(self, step, totals)

    Recorder.add = add


def begin(run: dict, index: int, port: int, written: str) -> int:
    child = os.fork()
    if child:
        return child
    status = 70
    try:
        output = os.open(written, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1)
        os.dup2(output, 2)
        jax.config.update("jax_num_cpu_devices", run["devices"])
        argv = [*run["argv"], *run.get("others", {}).get(str(index), [])]
        if run["processes"] > 1:
            argv += [f"--coordinator=127.0.0.1:{port}", f"--process_id={index}"]
            argv += [f"--num_processes={run['processes']}"]
        if moment := run.get("moments", {}).get(str(index)):
            cut_off(*moment)
        status = PROGRAMS[argv[0]](argv)
        sys.stdout.flush()
    finally:
        os._exit(status)


def start_together(run: dict, folder: str) -> list:
    port = free_port()
    outputs = [f"{folder}/{index}" for index in range(run["processes"])]
    children = [begin(run, i, port, output) for i, output in enumerate(outputs)]
    ends = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    texts = []
    for output in outputs:
        with open(output, errors="replace") as file:
            texts.append(file.read())
    return [ends, texts]


if __name__ == "__main__":
    # A library's thread is there from its import on; nobody holds a lock yet.
    warnings.filterwarnings("ignore", ".*multi-threaded", DeprecationWarning)
    plots.plot_run = lambda metrics, picture: True
    Checkpoints.__init__.__kwdefaults__["piece"] = 200  # so that tiny arrays have some
    watch.INTERVAL, watch.LIMIT = 0.2, 5.0
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps([start_together(run, folder) for run in json.load(sys.stdin)]))
