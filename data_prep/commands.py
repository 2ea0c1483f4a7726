"""The programs as commands that are installed, see ``[project.scripts]``.

``python -m data_prep.events`` finds whatever is called ``data_prep`` in the current
folder; ``tron-prepare`` is ours wherever it is run.
"""

import sys

from data_prep import diginetica, events, otto, show, synthetic, yoochoose
from tron_jax.console.program import run


def prepare() -> int:
    """Runs ``data_prep.events``."""
    return run(events.main, events.define_flags())


def prepare_diginetica() -> int:
    """Runs ``data_prep.diginetica``."""
    return run(diginetica.main, diginetica.define_flags())


def prepare_yoochoose() -> int:
    """Runs ``data_prep.yoochoose``."""
    return run(yoochoose.main, yoochoose.define_flags())


def prepare_otto() -> int:
    """Runs ``data_prep.otto``."""
    return run(otto.main, otto.define_flags())


def make_up() -> int:
    """Runs ``data_prep.synthetic``."""
    return run(synthetic.main, synthetic.define_flags())


def show_data() -> int:
    """Runs ``data_prep.show``."""
    return run(show.main, show.define_flags(), show.with_flag(sys.argv))
