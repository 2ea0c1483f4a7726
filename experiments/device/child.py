"""The process of a part, or of one measurement of it; not for users.

    python -m experiments.device.child FOLDER

FOLDER holds its task (report.py), and gets its figures.
"""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path

from experiments.assembly.run_parts import use_compilation_cache
from experiments.device import accelerators, alternatives, probe, step_trace
from experiments.device.parts import PARTS
from experiments.device.report import Report, one_line, read_task

# What parts have done in processes of their own.
MEASUREMENTS = {
    "probe": probe.run,
    "trace_once": step_trace.trace_once,
    "alternatives_here": alternatives.measure_here,
    "steps_with_flags": alternatives.steps_with_flags,
}


def main(folder: Path) -> int:
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


if __name__ == "__main__":
    status = main(Path(sys.argv[1]))
    sys.stdout.flush()
    sys.stderr.flush()
    # A backend that crashes or hangs as it is taken down must not cost the figures.
    os._exit(status)
