"""The process of one run of a sweep: trains, evaluates, and drops what is surplus.

    python -m experiments.sweeping.child TASK, as JSON

It ends with its parent, whose pipe it holds: a parent that is killed closes that, and
the run then stops as by SIGTERM, saved.
"""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from experiments import entry, evaluate, train, workdirs
from tron_jax.storage.checkpoints import Checkpoints

PIPE = "TRON_JAX_PARENT"  # variable that holds the number of the pipe's end


class Task(NamedTuple):
    """What the process is to do.

    Attributes:
      train: arguments of ``experiments.train``.
      evaluate: arguments of ``experiments.evaluate``.
      workdir: of the run.
    """

    train: list[str]
    evaluate: list[str]
    workdir: str


def main(argv: Sequence[str]) -> int:
    task = Task(**json.loads(argv[1]))
    end_with_parent()
    status = train.main(["train", *task.train])
    if status:
        return status
    status = evaluate.main(["evaluate", *task.evaluate])
    if status == 0:
        checkpoints = Path(task.workdir) / workdirs.CHECKPOINTS
        Checkpoints(checkpoints, keep_last=1).delete_surplus()
    return status


def end_with_parent() -> None:
    """Has this process asked to stop when the parent's end of its pipe is closed."""
    number = os.environ.pop(PIPE, None)
    if number is None:
        return

    def wait() -> None:
        while os.read(int(number), 1):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="parent", daemon=True).start()


if __name__ == "__main__":
    entry.start(main)
