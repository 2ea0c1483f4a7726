"""The programs as commands that are installed, see ``[project.scripts]``.

``python -m experiments.train`` finds whatever is called ``experiments`` in the current
folder; ``tron-train`` is ours wherever it is run.
"""

from __future__ import annotations

import functools
import importlib
import os
import sys

PLAIN = ("compare", "serve", "show")  # without the memory settings of a program


def run(name: str) -> None:
    """Runs a program of this package and ends the process with its exit status."""
    os.environ["PYTHONSAFEPATH"] = "1"  # for the processes that it starts by -m
    program = importlib.import_module(f"experiments.{name}")
    if name in PLAIN:
        sys.exit(program.main(sys.argv))
    from experiments import entry

    entry.start(program.main)


train = functools.partial(run, "train")
evaluate = functools.partial(run, "evaluate")
recommend = functools.partial(run, "recommend")
export = functools.partial(run, "export")
sweep = functools.partial(run, "sweep")
compare = functools.partial(run, "compare")
serve = functools.partial(run, "serve")
show = functools.partial(run, "show")
keep = functools.partial(run, "keep")
