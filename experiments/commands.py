"""The programs as commands that are installed, see ``[project.scripts]``.

``python -m experiments.train`` finds whatever is called ``experiments`` in the current
folder; ``tron-train`` is ours wherever it is run.
"""

from __future__ import annotations

import functools
import importlib
import os
import sys

# Without the memory settings of the others: they need none, or (serve) free memory.
AS_THEY_ARE = ("compare", "show", "serve")


def run(name: str) -> None:
    """Runs a program of this package and ends the process with its exit status."""
    os.environ["PYTHONSAFEPATH"] = "1"  # for the processes that it starts by -m
    program = importlib.import_module(f"experiments.{name}")
    if name in AS_THEY_ARE:
        sys.exit(program.main(sys.argv))
    from experiments import entry

    entry.start(program.main)


train = functools.partial(run, "train")
evaluate = functools.partial(run, "evaluate")
recommend = functools.partial(run, "recommend")
export = functools.partial(run, "export")
serve = functools.partial(run, "serve")
sweep = functools.partial(run, "sweep")
compare = functools.partial(run, "compare")
show = functools.partial(run, "show")
keep = functools.partial(run, "keep")
