"""The process of a part, or of one measurement of it; not for users.

    python -m experiments.device.child FOLDER

FOLDER holds its task (report.py), and gets its figures.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback
from pathlib import Path

from experiments.assembly.run_parts import use_compilation_cache
from experiments.device import accelerators, alternatives, compiling, probe, step_trace
from experiments.device.parts import PARTS
from experiments.device.report import Report, one_line, read_task

PATIENCE = 1.0  # seconds
# What parts have done in processes of their own.
MEASUREMENTS = {
    "probe": probe.run,
    "trace_once": step_trace.trace_once,
    "alternatives_here": alternatives.measure_here,
    "steps_with_flags": alternatives.steps_with_flags,
    "compile_once": compiling.compile_once,
    "compile_another_seed": compiling.compile_another_seed,
}


def main(folder: Path) -> int:
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    name, setting = read_task(folder)
    report = Report(folder)
    use_compilation_cache()
    here = PARTS[name].here if name in PARTS else True
    run = PARTS[name].run if name in PARTS else MEASUREMENTS[name]
    try:
        if here and setting.device:
            accelerators.refuse_other(setting.device)
        run(setting, report)
    except Exception as error:
        traceback.print_exc()
        report.fail(one_line(error))
    return 1 if report.errors else 0


def _end_with(parent: int) -> None:
    """Ends this process, and what it started, once the one that started it is gone.

    It would hold the device's memory for nothing.
    """
    while os.getppid() == parent:
        time.sleep(PATIENCE)
    if os.getpgid(0) == os.getpid():  # a group of its own
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


if __name__ == "__main__":
    status = main(Path(sys.argv[1]))
    sys.stdout.flush()
    sys.stderr.flush()
    # A backend that crashes or hangs as it is taken down must not cost the figures.
    os._exit(status)
